# The first instructions: from a Multiboot 1 loader (QEMU -kernel, GRUB) to C++ with paging on.
#
# On entry: 32-bit protected mode, paging off, EAX = magic, EBX = information block. Everything else, ESP, the GDT and
# most flags included, is whatever the loader left. _start runs at its physical address; high_entry in the image window.

#define ASM_FILE 1
#include <multiboot/multiboot.h>

#define HEADER_FLAGS (MULTIBOOT_PAGE_ALIGN | MULTIBOOT_MEMORY_INFO)

    .section .multiboot, "a"
    .balign 4
    .long MULTIBOOT_HEADER_MAGIC
    .long HEADER_FLAGS
    .long -(MULTIBOOT_HEADER_MAGIC + HEADER_FLAGS)

    .section .boot.text, "ax"
    .code32
    .globl _start
_start:
    cli
    cld
    # The A20 gate first, in registers only: while it is closed, whatever is written at an odd megabyte, this stack
    # included, lands in the megabyte below and is lost when the gate opens. early_main() checks, and knows another way.
    movl %eax, %esi
    inb $0x92, %al
    orb $2, %al
    andb $0xfe, %al                     # bit 0 would reset the machine
    outb %al, $0x92
    movl %esi, %eax
    movl $early_stack_top, %esp
    pushl $0
    popfl                               # no NT, AC, DF or trap flag that a loader may have left
    lgdt early_gdtr
    ljmp $0x08, $1f
1:  movw $0x10, %cx
    movw %cx, %ds
    movw %cx, %es
    movw %cx, %fs
    movw %cx, %gs
    movw %cx, %ss
    xorl %ebp, %ebp
    movl %ebx, %edx
    call early_main                     # (EAX magic, EDX information); returns the physical address of the PDPT

    movl %cr4, %ecx
    orl $0x20, %ecx                     # PAE
    movl %ecx, %cr4
    movl %eax, %cr3
    movl %cr0, %ecx
    andl $~0x6000000c, %ecx             # caches on (CD, NW), no EM, no TS
    orl $0x80010021, %ecx               # PG, WP, NE, PE
    movl %ecx, %cr0
    movl $high_entry, %ecx
    jmp *%ecx

    .section .boot.data, "aw"
    .balign 8
early_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # flat code
    .quad 0x00cf93000000ffff            # flat data
early_gdtr:
    .word early_gdtr - early_gdt - 1
    .long early_gdt
    .balign 16
    .skip 4096
early_stack_top:

    .text
high_entry:
    movl $__boot_stack_top, %esp
    xorl %ebp, %ebp
    pushl %ebp                          # the backtrace ends at a zero return address
    jmp kernel_main

# The boot CPU's stack. The page below it is unmapped once the kernel has its own page tables.
    .section .bss.page_aligned, "aw", @nobits
    .balign 4096
    .globl __boot_stack_guard, __boot_stack_bottom, __boot_stack_top
__boot_stack_guard:
    .skip 4096
__boot_stack_bottom:
    .skip 16384
__boot_stack_top:

    .section .note.GNU-stack, "", @progbits
