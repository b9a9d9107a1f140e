// Ring 3: how the CPU gets there and comes back.
//
//   thread's kernel stack, top                      stack_top == ESP0 of the TSS while the thread runs
//   | user SS, ESP, EFLAGS, CS, EIP | error, vector | registers, segments |   TrapFrame
//   | system call, fault or interrupt handler ...
//
// A thread in ring 3 has an empty kernel stack, so what it had in its registers is always at the same place. Entries:
// int 0x80 (a gate of its own, interrupts on at once), exceptions, interrupts. All of them leave through
// before_user_return(), which may switch threads, deliver signals or end the thread, and comes back with interrupts
// off.
//
// GS is the user's alone: the kernel does not use it, and holds 0 there, because the descriptor that a selector names
// belongs to one thread. A selector that has become wrong is replaced by 0 on the way out.
// Floating point and SSE belong to users alone as well: a thread's registers are saved and loaded at switches.
// Source: Intel SDM vol. 3A chapters 3, 6, 7 and 13.
#pragma once

#include "arch/traps.hpp"

namespace paean::arch {

inline constexpr u32 kVectorSystemCall = 0x80;
inline constexpr u32 kTlsSlots = 3;
inline constexpr u32 kFirstTlsEntry = 8;  // of the GDT
inline constexpr u32 kFpuBytes = 512;

/// What a thread has in the CPU beside its frame. 16-byte aligned, because FXSAVE wants it.
struct alignas(16) UserContext {
  u8 fpu[kFpuBytes];
  u64 tls[kTlsSlots];
};

/// The user's CPU must have FXSAVE; kernels without users run without.
bool cpu_runs_users();
/// FXSAVE and SSE on this CPU. Each CPU, early.
void enable_fpu();

/// As a program finds it when it starts.
void clear_context(UserContext& context);
/// From the CPU to memory, and back. Context: the thread whose they are, or a switch; nobody switches meanwhile.
void save_fpu(UserContext& context);
void load_fpu(const UserContext& context);
/// Makes whatever a user wrote there loadable.
void make_fpu_legal(UserContext& context);

/// This CPU enters the kernel on that stack from now on, and sees those descriptors. Interrupts off.
void load_user_context(const UserContext& context, VirtAddr stack_top);

/// A descriptor of 32-bit data or code for ring 3, from what set_thread_area() is given. `limit` in units of bytes or
/// pages, 20 bits.
struct UserSegment {
  u32 base, limit;
  bool is_code, is_writable_or_readable, expands_down, counts_pages, is_32_bit, is_present;
};
u64 make_user_descriptor(const UserSegment& segment);

/// Flat code and data, interrupts on, at `entry` with the stack at `stack`; all else 0.
void fill_user_frame(TrapFrame& frame, VirtAddr entry, VirtAddr stack);
/// Makes a frame that a user has written harmless: segments of ring 3, flags that are a user's to change.
void make_frame_legal(TrapFrame& frame);
/// To ring 3 for the first time, with registers from a frame on this stack, which is forgotten. Interrupts off,
/// before_user_return() done.
[[noreturn]] void enter_user(TrapFrame& frame);

// What the kernel above makes of it. Implemented by kernel/process/.

/// A system call; interrupts on. The answer goes into the frame.
void on_system_call(TrapFrame& frame);
/// An exception in ring 3; `address` is CR2. Interrupts on.
void on_user_exception(TrapFrame& frame, VirtAddr address);
/// Last thing before ring 3. Called and returns with interrupts off.
void before_user_return(TrapFrame& frame);

}  // namespace paean::arch
