// Interrupts, clocks and locks of this CPU.
#include "arch/irq.hpp"

#include "access.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/percpu.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "kernel/spinlock.hpp"

namespace paean {

namespace {

u32 ticks() { return arch::irq_count(arch::using_apic() ? 16 : 0); }

// An ISA interrupt that no device of the machines we know raises, called by instruction.
constexpr u32 kUnusedIrq = 5;
#define RAISE_UNUSED_IRQ() asm volatile("int %0" ::"i"(arch::kVectorIrqBase + kUnusedIrq) : "memory")

struct Seen {
  u32 calls;
  u32 depth_inside;
  u32 wrong;
  bool irqs_on;
  PhysAddr page;
  u32 mark;
};
constinit Seen seen{};

/// Works with windows and pages of its own, as a driver's handler would.
void nest_windows(arch::IrqsOff) {
  ++seen.calls;
  seen.irqs_on = arch::irqs_enabled();
  const arch::FixWindow a{seen.page};
  const arch::FixWindow b{seen.page};
  seen.depth_inside = arch::fix_depth();
  *a.as<volatile u32>() = seen.mark + seen.calls;
  if (*b.as<volatile u32>() != seen.mark + seen.calls) ++seen.wrong;
}

void allocate(arch::IrqsOff) {
  ++seen.calls;
  const Result<Page*> page = alloc_page(AllocFlags::Atomic | AllocFlags::NoWarn, Owner::Test);
  const Result<Page*> block = alloc_pages(AllocFlags::Atomic | AllocFlags::NoWarn, Order{2}, Owner::Test);
  if (!page || !block) ++seen.wrong;
  if (block) free_pages(*block, Order{2});
  if (page) free_page(*page);
}

void nothing(arch::IrqsOff) {}

}  // namespace

KTEST(irq, ticks_arrive) {
  const u32 before = ticks();
  for (u32 i = 0; i < 200 && ticks() - before < 3; ++i) arch::delay_microseconds(5000);
  EXPECT(ticks() - before >= 3);
}

KTEST(irq, tick_rate_agrees_with_the_tsc) {
  if (arch::clock_unit() == arch::ClockUnit::Instructions) SKIP("the time-stamp counter counts instructions");
  // A busy host delays ticks and never adds any, so the best of some tries is the clock's own rate.
  constexpr u32 kTicks = 20, kTries = 8;
  constexpr u64 kExpected = u64{1'000'000} / arch::kTicksPerSecond * kTicks;
  u64 nearest = ~u64{0};
  for (u32 i = 0; i < kTries; ++i) {
    u32 at = ticks();
    while (ticks() == at) arch::wait_for_irq();
    at = ticks();
    const u64 start = arch::microseconds_since_entry();
    while (ticks() - at < kTicks) arch::wait_for_irq();
    const u64 took = arch::microseconds_since_entry() - start;
    const u64 error = took > kExpected ? took - kExpected : kExpected - took;
    if (error < nearest) nearest = error;
    if (nearest * 20 <= kExpected) break;
  }
  test.note("{} us off in {} us", nearest, kExpected);
  EXPECT(nearest * 20 <= kExpected);
}

KTEST(irq, guards_nest) {
  EXPECT(arch::irqs_enabled());
  {
    const arch::IrqsOffGuard outer;
    EXPECT(!arch::irqs_enabled());
    {
      const arch::IrqsOffGuard inner;
      EXPECT(!arch::irqs_enabled());
    }
    EXPECT(!arch::irqs_enabled());
  }
  EXPECT(arch::irqs_enabled());
}

KTEST(irq, no_tick_while_off) {
  const arch::IrqsOffGuard off;
  const u32 before = ticks();
  arch::delay_microseconds(50'000);
  EXPECT_EQ(ticks(), before);
}

KTEST(irq, handlers_use_windows_above_what_they_interrupt) {
  Page* pages[2];
  for (Page*& page : pages) {
    const Result<Page*> got = alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::Test);
    REQUIRE(got);
    page = *got;
  }
  seen = Seen{};
  seen.page = to_phys(page_to_pfn(pages[1]));
  seen.mark = 0x77000000;
  arch::set_irq_handler(kUnusedIrq, nest_windows);
  const u32 count = arch::irq_count(kUnusedIrq);
  for (u32 i = 0; i < 1000; ++i) {
    const arch::FixWindow window{to_phys(page_to_pfn(pages[0]))};
    auto* word = window.as<volatile u32>();
    *word = i;
    RAISE_UNUSED_IRQ();
    if (*word != i) ++seen.wrong;
  }
  arch::set_irq_handler(kUnusedIrq, nothing);
  EXPECT_EQ(seen.calls, 1000);
  EXPECT_EQ(arch::irq_count(kUnusedIrq) - count, 1000);
  EXPECT_EQ(seen.depth_inside, 3);
  EXPECT_EQ(seen.wrong, 0);
  EXPECT(!seen.irqs_on);
  EXPECT(arch::irqs_enabled());
  for (Page* page : pages) free_page(page);
}

KTEST(irq, handlers_may_allocate) {
  seen = Seen{};
  arch::set_irq_handler(kUnusedIrq, allocate);
  for (u32 i = 0; i < 1000; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
    RAISE_UNUSED_IRQ();
    if (page)
      free_page(*page);
    else
      ++seen.wrong;
  }
  arch::set_irq_handler(kUnusedIrq, nothing);
  EXPECT_EQ(seen.calls, 1000);
  EXPECT_EQ(seen.wrong, 0);
}

KTEST(irq, numbers_that_do_not_exist_count_nothing) {
  EXPECT_EQ(arch::irq_count(17), 0);
  EXPECT_EQ(arch::irq_count(0xffffffff), 0);
}

KTEST(clock, time_never_runs_backwards) {
  u64 tsc = arch::read_tsc(), us = arch::microseconds_since_entry();
  for (u32 i = 0; i < 100'000; ++i) {
    const u64 now_tsc = arch::read_tsc(), now_us = arch::microseconds_since_entry();
    REQUIRE(now_tsc >= tsc && now_us >= us);
    tsc = now_tsc;
    us = now_us;
  }
  EXPECT(arch::tsc_khz() > 1000);
  EXPECT(arch::read_tsc() > arch::tsc_at_entry());
}

KTEST(clock, delays_take_at_least_their_time) {
  for (const u32 wanted : {1u, 100u, 5000u}) {
    const u64 start = arch::read_tsc();
    arch::delay_microseconds(wanted);
    EXPECT((arch::read_tsc() - start + 1) * 1000 >= u64{arch::tsc_khz()} * wanted);
  }
}

KTEST(locks, guards_hold_and_release) {
  SpinLock lock{LockRank::Zone};
  EXPECT(!lock.is_held());
  {
    const SpinGuard<IrqSave> guard{lock};
    EXPECT(lock.is_held());
    EXPECT(!arch::irqs_enabled());
  }
  EXPECT(!lock.is_held());
  EXPECT(arch::irqs_enabled());
  {
    const SpinGuard<NoIrq> guard{lock};
    EXPECT(arch::irqs_enabled());
  }
}

KTEST(locks, ranks_are_kept_while_held) {
#ifdef PAEAN_DEBUG
  SpinLock outer{LockRank::Zone}, inner{LockRank::LogRing};
  const arch::IrqsOffGuard off;
  EXPECT_EQ(held_ranks(), LockRanks{0});
  {
    const SpinGuard<NoIrq> a{outer};
    EXPECT_EQ(held_ranks(), mask_of(LockRank::Zone));
    const SpinGuard<NoIrq> b{inner};
    EXPECT_EQ(held_ranks(), mask_of(LockRank::Zone) | mask_of(LockRank::LogRing));
  }
  EXPECT_EQ(held_ranks(), LockRanks{0});
#else
  EXPECT_EQ(held_ranks(), LockRanks{0});
#endif
}

KTEST(percpu, this_cpu_is_the_boot_cpu) {
  EXPECT_EQ(arch::this_cpu(), 0);
  EXPECT(arch::online_cpus() >= 1 && arch::online_cpus() <= arch::kMaxCpus);
  EXPECT_EQ(arch::this_percpu_delta(), arch::percpu_deltas[0]);
  EXPECT(&arch::cpu_number.local() == &arch::cpu_number.on(0));
}

}  // namespace paean
