# From one thread to another: what the compiler expects a call to keep, and the stack.

    .text

# Thread* switch_stacks(Thread* from, Thread* to): returns, on the stack of `to`, the thread that ran before it.
# The first word of a Thread is its saved ESP. Interrupts are off.
    .balign 16
    .globl switch_stacks
switch_stacks:
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl %esp, (%eax)
    movl (%edx), %esp
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    ret                                 # EAX is still `from`

# Where a new thread returns to from its first switch. EBP is zero: backtraces end here.
    .balign 16
    .globl thread_trampoline
thread_trampoline:
    pushl $0                            # no return address
    jmp thread_main                     # (EAX the thread that ran before)
