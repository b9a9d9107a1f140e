# Trap entry: every vector pushes (error code or 0), its number, all registers; then C++ with a TrapFrame.

    .text
    .macro STUB vector
    .balign 16
    # #DF, #TS-#PF, #AC, #CP, #VC, #SX: 8, 10-14, 17, 21, 29, 30
    .if (0x60227d00 >> (\vector & 31)) & (\vector < 32) & 1
    pushl $\vector                      # the CPU pushed an error code
    .else
    pushl $0
    pushl $\vector
    .endif
    jmp trap_common
    .endm

    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    STUB vector
    .set vector, vector + 1
    .endr

    .balign 16
trap_common:
    pushal
    pushl %ds
    pushl %es
    pushl %fs
    pushl %gs
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl $0x30, %eax                    # the per-CPU segment
    movl %eax, %fs
    xorl %eax, %eax
    movl %eax, %gs                      # its descriptor may be another thread's by the time of the return
    cld
    movl %esp, %eax                     # -mregparm=3: the frame's address is the first argument
    call trap_dispatch
    .globl trap_return
trap_return:
1:  popl %gs
2:  popl %fs
3:  popl %es
4:  popl %ds
    popal
    addl $8, %esp
    iretl

# A selector that is not good any more, or never was: 0 instead.
11: movl $0, (%esp)
    jmp 1b
12: movl $0, (%esp)
    jmp 2b
13: movl $0, (%esp)
    jmp 3b
14: movl $0, (%esp)
    jmp 4b
    .section fixups, "a"
    .long 1b, 11b, 2b, 12b, 3b, 13b, 4b, 14b
    .text

# int 0x80. As trap_common, with interrupts on from where the segments are the kernel's.
    .balign 16
    .globl system_call_entry
system_call_entry:
    pushl $0
    pushl $0x80
    pushal
    pushl %ds
    pushl %es
    pushl %fs
    pushl %gs
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl $0x30, %eax
    movl %eax, %fs
    xorl %eax, %eax
    movl %eax, %gs
    pushl $0x202                        # no direction, no AC: user memory is closed
    popfl
    movl %esp, %eax
    call system_call_dispatch           # comes back with interrupts off
    jmp trap_return

# leave_to_user(TrapFrame*): the stack below the frame is forgotten.
    .balign 16
    .globl leave_to_user
leave_to_user:
    movl %eax, %esp
    jmp trap_return

# The double-fault task starts here, on its own stack with interrupts off; the faulting state is in the other TSS.
    .balign 16
    .globl double_fault_entry
double_fault_entry:
    cld
    xorl %ebp, %ebp
    pushl %ebp
    jmp double_fault_main

# The probes take their arguments in EAX and EDX and return 0, or 1 if the access faulted.

# u32 probe_load(u32 address, u32* value)
    .balign 16
    .globl probe_load
probe_load:
1:  movl (%eax), %eax
    movl %eax, (%edx)
    xorl %eax, %eax
    ret
2:  movl $1, %eax
    ret
    .section fixups, "a"
    .long 1b, 2b
    .text

# u32 probe_store(u32 address, u32 value)
    .balign 16
    .globl probe_store
probe_store:
3:  movl %edx, (%eax)
    xorl %eax, %eax
    ret
4:  movl $1, %eax
    ret
    .section fixups, "a"
    .long 3b, 4b
    .text

# u32 probe_call(u32 address): calls it; the fault handler continues at probe_call_failed if the fetch faults.
    .balign 16
    .globl probe_call, probe_call_failed
probe_call:
    movl %esp, probe_call_esp
    call *%eax
    xorl %eax, %eax
    ret
probe_call_failed:
    movl probe_call_esp, %esp
    movl $1, %eax
    ret

    .section .note.GNU-stack, "", @progbits
