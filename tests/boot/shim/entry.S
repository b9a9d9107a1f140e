# The shim's first and last instructions; see blob.hpp.

#define ASM_FILE 1
#include <multiboot/multiboot.h>

    .section .multiboot, "a"
    .balign 4
    .long MULTIBOOT_HEADER_MAGIC
    .long MULTIBOOT_PAGE_ALIGN
    .long -(MULTIBOOT_HEADER_MAGIC + MULTIBOOT_PAGE_ALIGN)

    .text
    .globl _start, launch, launch_registers, launch_eflags, launch_esp, launch_entry, launch_a20
    .globl launch_cr0, launch_cr3, launch_cr4, launch_gdtr
_start:
    movl $stack_top, %esp
    pushl %ebx
    pushl %eax
    call shim_main

# Hands the machine over. Everything that it reads lies in the shim, which is linked at an even megabyte, so it survives
# A20 going off. The last instructions touch no register and no flag.
launch:
    cli
    lgdt own_gdtr
    ljmp $0x28, $1f                     # selectors that a kernel cannot have guessed
1:  movw $0x30, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
    lgdt launch_gdtr
    movl launch_cr3, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl launch_cr4, %eax
    movl %eax, %cr4
    movl %cr0, %eax
    orl launch_cr0, %eax
    movl %eax, %cr0
    cmpl $0, launch_a20
    je 2f
    inb $0x92, %al
    andb $0xfc, %al                     # bit 1 is the gate, bit 0 would reset the machine
    outb %al, $0x92
2:  movl $launch_registers, %esp
    popal
    movl $launch_eflags, %esp
    popfl
    movl launch_esp, %esp
    jmp *launch_entry

    .data
    .balign 8
own_gdt:
    .quad 0, 0, 0, 0, 0
    .quad 0x00cf9b000000ffff            # 0x28: flat code
    .quad 0x00cf93000000ffff            # 0x30: flat data
own_gdtr:
    .word own_gdtr - own_gdt - 1
    .long own_gdt
    .balign 4
launch_gdtr:
    .word own_gdtr - own_gdt - 1
    .long own_gdt
    .balign 4
launch_registers:
    .long 0, 0, 0, 0, 0, 0, 0, 0        # edi esi ebp (esp) ebx edx ecx eax, as popal takes them
launch_eflags: .long 2
launch_esp:    .long 0
launch_entry:  .long 0
launch_a20:    .long 0
launch_cr0:    .long 0
launch_cr3:    .long 0
launch_cr4:    .long 0

    .bss
    .balign 16
    .skip 4096
stack_top:

    .section .note.GNU-stack, "", @progbits
