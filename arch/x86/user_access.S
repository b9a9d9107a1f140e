# Copies between kernel and user memory, see include/arch/user_access.hpp. Words first; where that faults for good, byte
# by byte, so that what was not copied is exact.

    .text
    .macro PERMIT
    cmpl $0, user_access_guarded
    je 8f
    stac
8:
    .endm
    .macro FORBID
    cmpl $0, user_access_guarded
    je 9f
    clac
9:
    .endm

# u32 user_copy_in(void* to, u32 from, u32 bytes), and user_copy_out(u32 to, const void* from, u32 bytes)
    .balign 16
    .globl user_copy_in, user_copy_out
user_copy_in:
user_copy_out:
    pushl %esi
    pushl %edi
    movl %eax, %edi
    movl %edx, %esi
    movl %ecx, %edx
    andl $3, %edx
    shrl $2, %ecx
    PERMIT
1:  rep movsl
    movl %edx, %ecx
2:  rep movsb
3:  FORBID
    movl %ecx, %eax
    popl %edi
    popl %esi
    ret
4:  leal (%edx, %ecx, 4), %ecx
    xorl %edx, %edx
    jmp 2b
    .section fixups, "a"
    .long 1b, 4b
    .long 2b, 3b
    .text

# u32 user_fill_zero(u32 to, u32 bytes)
    .balign 16
    .globl user_fill_zero
user_fill_zero:
    pushl %edi
    movl %eax, %edi
    movl %edx, %ecx
    andl $3, %edx
    shrl $2, %ecx
    xorl %eax, %eax
    PERMIT
1:  rep stosl
    movl %edx, %ecx
2:  rep stosb
3:  FORBID
    movl %ecx, %eax
    popl %edi
    ret
4:  leal (%edx, %ecx, 4), %ecx
    xorl %edx, %edx
    jmp 2b
    .section fixups, "a"
    .long 1b, 4b
    .long 2b, 3b
    .text

# u32 user_compare_exchange(u32 at, u32* expected, u32 desired)
    .balign 16
    .globl user_compare_exchange
user_compare_exchange:
    pushl %ebx
    pushl %esi
    movl %eax, %ebx
    movl %edx, %esi
    movl (%esi), %eax
    PERMIT
1:  lock cmpxchgl %ecx, (%ebx)
    FORBID
    movl %eax, (%esi)
    xorl %eax, %eax
    popl %esi
    popl %ebx
    ret
2:  FORBID
    movl $1, %eax
    popl %esi
    popl %ebx
    ret
    .section fixups, "a"
    .long 1b, 2b

    .section .note.GNU-stack, "", @progbits
