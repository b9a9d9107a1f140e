# Calls from our convention (-mregparm=3) to libgcc, which is built with arguments on the stack.
#
# The compiler passes a first 64-bit argument in EDX:EAX and everything after it on the stack. The linker's --wrap sends
# its calls here; each copies the arguments and calls the real function.

    .text
    .macro TWO_LONG_LONGS name          # u64 name(u64 a, u64 b)
    .globl __wrap_\name
__wrap_\name:
    pushl 8(%esp)
    pushl 8(%esp)
    pushl %edx
    pushl %eax
    call __real_\name
    addl $16, %esp
    ret
    .endm

    .macro TWO_LONG_LONGS_AND_POINTER name  # u64 name(u64 a, u64 b, u64* remainder)
    .globl __wrap_\name
__wrap_\name:
    pushl 12(%esp)
    pushl 12(%esp)
    pushl 12(%esp)
    pushl %edx
    pushl %eax
    call __real_\name
    addl $20, %esp
    ret
    .endm

    TWO_LONG_LONGS __udivdi3
    TWO_LONG_LONGS __umoddi3
    TWO_LONG_LONGS __divdi3
    TWO_LONG_LONGS __moddi3
    TWO_LONG_LONGS_AND_POINTER __udivmoddi4
    TWO_LONG_LONGS_AND_POINTER __divmoddi4

    .globl __wrap___popcountsi2         # int __popcountsi2(u32)
__wrap___popcountsi2:
    pushl %eax
    call __real___popcountsi2
    addl $4, %esp
    ret

    .section .note.GNU-stack, "", @progbits
