#include "arch/user.hpp"

#include "arch/cpu.hpp"
#include "arch/traps_internal.hpp"
#include "lib/assert.hpp"

namespace paean::arch {

namespace {

constexpr u32 kCr4Osfxsr = 1u << 9, kCr4Osxmmexcpt = 1u << 10;
constexpr u32 kFxsr = 1u << 24;
constexpr u16 kControlWord = 0x37f;  // every exception masked, extended precision
constexpr u32 kMxcsr = 0x1f80;
constexpr u32 kControlWordAt = 0, kMxcsrAt = 24, kMxcsrMaskAt = 28;

constexpr u32 kFlagsOne = 1u << 1, kFlagTrap = 1u << 8;
// CF PF AF ZF SF TF DF OF AC ID: what a program may set.
constexpr u32 kUserFlags = 0xd5 | kFlagTrap | 1u << 10 | 1u << 11 | 1u << 18 | 1u << 21;

constinit u32 mxcsr_mask = 0xffbf;

/// Null, or something of ring 3: what else is there is the kernel's.
u32 legal_selector(u32 selector) { return (selector & 3) == 3 ? selector & 0xffff : 0; }

}  // namespace

extern "C" {
[[noreturn]] void leave_to_user(TrapFrame* frame);
void system_call_dispatch(TrapFrame* frame);
}

bool cpu_runs_users() { return (cpuid(1).edx & kFxsr) != 0; }

void enable_fpu() {
  if (!cpu_runs_users()) return;
  write_cr4(read_cr4() | kCr4Osfxsr | kCr4Osxmmexcpt);
  write_cr0((read_cr0() & ~(kCr0Em | kCr0Ts)) | kCr0Mp | kCr0Ne);
  asm volatile("fninit");
  alignas(16) u8 area[kFpuBytes];
  asm volatile("fxsave %0" : "=m"(area));
  u32 mask;
  __builtin_memcpy(&mask, area + kMxcsrMaskAt, sizeof mask);
  if (mask != 0) mxcsr_mask = mask;
}

void clear_context(UserContext& context) {
  __builtin_memset(&context, 0, sizeof context);
  __builtin_memcpy(context.fpu + kControlWordAt, &kControlWord, sizeof kControlWord);
  __builtin_memcpy(context.fpu + kMxcsrAt, &kMxcsr, sizeof kMxcsr);
}

void save_fpu(UserContext& context) { asm volatile("fxsave %0" : "=m"(context.fpu)); }
void load_fpu(const UserContext& context) { asm volatile("fxrstor %0" ::"m"(context.fpu)); }

void make_fpu_legal(UserContext& context) {
  u32 mxcsr;
  __builtin_memcpy(&mxcsr, context.fpu + kMxcsrAt, sizeof mxcsr);
  mxcsr &= mxcsr_mask;
  __builtin_memcpy(context.fpu + kMxcsrAt, &mxcsr, sizeof mxcsr);
}

u64 make_user_descriptor(const UserSegment& segment) {
  constexpr u32 kCodeOrData = 1u << 4, kRing3 = 3u << 5, kAccessed = 1;
  u32 access = kCodeOrData | kRing3 | kAccessed;
  if (segment.is_writable_or_readable) access |= 1u << 1;
  if (segment.expands_down) access |= 1u << 2;
  if (segment.is_code) access |= 1u << 3;
  if (segment.is_present) access |= 1u << 7;
  const u32 flags = (segment.is_32_bit ? 4u : 0u) | (segment.counts_pages ? 8u : 0u);
  return make_descriptor(segment.base, segment.limit, access, flags);
}

void fill_user_frame(TrapFrame& frame, VirtAddr entry, VirtAddr stack) {
  frame = TrapFrame{};
  frame.ds = frame.es = frame.user_ss = kSelectorUserData;
  frame.cs = kSelectorUserCode;
  frame.eip = entry.raw();
  frame.user_esp = stack.raw();
  frame.eflags = kEflagsIf | kFlagsOne;
}

void make_frame_legal(TrapFrame& frame) {
  frame.cs = kSelectorUserCode;
  frame.user_ss = kSelectorUserData;
  frame.ds = legal_selector(frame.ds);
  frame.es = legal_selector(frame.es);
  frame.fs = legal_selector(frame.fs);
  frame.gs = legal_selector(frame.gs);
  frame.eflags = (frame.eflags & kUserFlags) | kEflagsIf | kFlagsOne;
}

void enter_user(TrapFrame& frame) {
  ASSERT(!irqs_enabled());
  leave_to_user(&frame);
}

extern "C" void system_call_dispatch(TrapFrame* frame) {
  on_system_call(*frame);
  disable_irqs();
  before_user_return(*frame);
}

}  // namespace paean::arch
