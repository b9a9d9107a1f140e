# Where another CPU begins: 16-bit real mode at a page below 1 MiB that smp.cpp copies this code to.
#
# The page's physical address is CS << 4; every reference is relative to it. On the way: protected mode with the flat
# descriptors below, PAE paging with a page-directory-pointer table that still maps this page, then the kernel's window.

    .section .rodata
    .balign 16
    .globl trampoline_start, trampoline_end, trampoline_parameters
trampoline_start:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movzwl %ax, %ebx
    shll $4, %ebx                       # EBX: where this page lies
    leal (gdt - trampoline_start)(%ebx), %eax
    movl %eax, gdtr + 2 - trampoline_start
    leal (protected - trampoline_start)(%ebx), %eax
    movl %eax, far_pointer - trampoline_start
    lgdtl gdtr - trampoline_start
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl *(far_pointer - trampoline_start)

    .code32
protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    leal (trampoline_parameters - trampoline_start)(%ebx), %esi
    movl 4(%esi), %eax
    movl %eax, %cr4
    movl 8(%esi), %eax                  # EFER has NX? then the register exists
    testl %eax, %eax
    jz 1f
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x800, %eax
    wrmsr
1:  movl (%esi), %eax
    movl %eax, %cr3
    movl %cr0, %eax
    andl $~0x6000000c, %eax             # caches on, no EM, no TS
    orl $0x80010021, %eax               # PG, WP, NE, PE
    movl %eax, %cr0
    movl 12(%esi), %esp
    xorl %ebp, %ebp
    pushl %ebp
    movl 16(%esi), %ecx
    jmp *%ecx

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
gdtr:
    .word . - gdt - 1
    .long 0
far_pointer:
    .long 0
    .word 0x08
    .balign 4
trampoline_parameters:                  # struct StartParameters of smp.cpp
    .long 0                             # CR3
    .long 0                             # CR4
    .long 0                             # 1: set EFER.NXE
    .long 0                             # ESP
    .long 0                             # entry
trampoline_end:

    .section .note.GNU-stack, "", @progbits
