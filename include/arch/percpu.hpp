// Per-CPU variables: one copy for each CPU, reached through the FS segment register.
//
//   PER_CPU(u32, irq_count);            // at namespace scope, constant-initialised
//   ++irq_count.local();                // this CPU's: caller has preemption or interrupts off
//   irq_count.on(cpu)                   // another CPU's: caller knows how it is synchronised
//
// The variables lie in the section .percpu. The boot CPU uses the section itself; each further CPU gets a copy of it,
// and `percpu_delta` in that copy is the distance from the section. FS's base is the same distance, so
// `fs:percpu_delta` reads this CPU's own.
#pragma once

#include <type_traits>

#include "arch/layout.hpp"
#include "lib/types.hpp"

namespace paean::arch {

extern "C" u32 percpu_delta;         // in .percpu; named in assembly
extern u32 percpu_deltas[kMaxCpus];  // by CPU number
inline constexpr u32 kNoCpuDelta = 0xffffffff;

/// Distance of this CPU's copy from the section. Not volatile: constant while the caller stays on this CPU.
[[gnu::always_inline]] inline u32 this_percpu_delta() {
  u32 delta;
  asm("movl %%fs:%1, %0" : "=r"(delta) : "m"(percpu_delta));
  return delta;
}

// A word within a per-CPU variable, named by its place in the section (PerCpu::in_section()): this CPU's copy whenever
// the instruction runs, and no register for an address.

template <typename W>
  requires(sizeof(W) == 4)
[[gnu::always_inline]] inline W own_word(const W& in_section) {
  W value;
  asm volatile("movl %%fs:%1, %0" : "=r"(value) : "m"(in_section));
  return value;
}
template <typename W>
  requires(sizeof(W) == 4)
[[gnu::always_inline]] inline void set_own_word(W& in_section, std::type_identity_t<W> value) {
  asm volatile("movl %1, %%fs:%0" : "=m"(in_section) : "ri"(value));
}
[[gnu::always_inline]] inline void add_to_own_word(u32& in_section, u32 number) {
  asm volatile("addl %1, %%fs:%0" : "+m"(in_section) : "ri"(number) : "cc");
}

template <typename T>
class PerCpu {
 public:
  constexpr PerCpu() = default;
  constexpr explicit PerCpu(T value) : value_(value) {}
  PerCpu(const PerCpu&) = delete;
  PerCpu& operator=(const PerCpu&) = delete;

  [[gnu::always_inline]] T& local() { return at(this_percpu_delta()); }
  /// Of a 32-bit variable, in one instruction that means this CPU's copy whenever it runs: right even where the thread
  /// may change its CPU or be interrupted before and after.
  [[gnu::always_inline]] T get() const
    requires(sizeof(T) == 4)
  {
    return own_word(value_);
  }
  [[gnu::always_inline]] void set(T value)
    requires(sizeof(T) == 4)
  {
    set_own_word(value_, value);
  }
  /// Sets bit 0 and says whether it was clear. The compiler moves no memory access across.
  [[gnu::always_inline]] bool claim()
    requires(sizeof(T) == 4)
  {
    bool was_set;
    asm volatile("btsl $0, %%fs:%1" : "=@ccc"(was_set), "+m"(value_) : : "memory");
    return !was_set;
  }
  [[gnu::always_inline]] bool is_zero() const
    requires(sizeof(T) == 4)
  {
    bool zero;
    asm volatile("cmpl $0, %%fs:%1" : "=@ccz"(zero) : "m"(value_));
    return zero;
  }
  /// Ends a claim(). The compiler moves no memory access across; the CPU sees its own in order.
  [[gnu::always_inline]] void release()
    requires(sizeof(T) == 4)
  {
    asm volatile("movl $0, %%fs:%0" : "=m"(value_) : : "memory");
  }
  /// Compares without a register of its own.
  [[gnu::always_inline]] bool is(T value) const
    requires(sizeof(T) == 4)
  {
    bool equal;
    asm volatile("cmpl %2, %%fs:%1" : "=@ccz"(equal) : "m"(value_), "r"(value));
    return equal;
  }
  /// Adds to one word of the variable: this CPU's copy whenever it runs, as get().
  [[gnu::always_inline]] void add(u32 word, u32 number)
    requires(sizeof(T) % 4 == 0)
  {
    add_to_own_word(reinterpret_cast<u32*>(&value_)[word], number);
  }
  T& on(u32 cpu) { return at(percpu_deltas[cpu]); }
  /// Nobody's copy: the place by which own_word() and its kin know a word of this CPU's.
  [[gnu::always_inline]] T& in_section() { return value_; }

 private:
  [[gnu::always_inline]] T& at(u32 delta) {
    return *reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(&value_) + delta);
  }
  T value_{};
};

#define PER_CPU(type, name) [[gnu::section(".percpu")]] constinit ::paean::arch::PerCpu<type> name

extern PerCpu<u32> cpu_number;
/// 0 is the boot CPU.
[[gnu::always_inline]] inline u32 this_cpu() { return cpu_number.get(); }
/// CPUs that are running.
u32 online_cpus();

}  // namespace paean::arch
