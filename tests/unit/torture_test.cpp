// Real interrupts, thousands a second, that allocate and map in the middle of whatever this CPU does.
// The real-time clock's periodic interrupt is the source: nothing else uses it, and it stops when told.
#include "access.hpp"
#include "arch/fixmap.hpp"
#include "arch/interrupts.hpp"
#include "arch/port.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "mm/ledger.hpp"

namespace paean {

namespace {

constexpr u32 kRtcIrq = 8;
constexpr u16 kRtcIndex = 0x70, kRtcData = 0x71;
constexpr u8 kRegisterA = 0x8a, kRegisterB = 0x8b, kRegisterC = 0x8c;  // bit 7: no NMI while the index is held
constexpr u8 kPeriodic = 0x40, kRateMask = 0x0f, kRate8192 = 3;

u8 read_rtc(u8 index) {
  arch::out8(kRtcIndex, index);
  return arch::in8(kRtcData);
}
void write_rtc(u8 index, u8 value) {
  arch::out8(kRtcIndex, index);
  arch::out8(kRtcData, value);
}

constinit u32 calls = 0, wrong = 0;
constinit PhysAddr handlers_page{};

void on_rtc(arch::IrqsOff) {
  (void)read_rtc(kRegisterC);  // acknowledges; without it there is no next one
  ++calls;
  const Result<Page*> page = alloc_page(AllocFlags::Atomic | AllocFlags::NoWarn, Owner::Test);
  const Result<Page*> high = alloc_page(AllocFlags::HighUser | AllocFlags::Zero | AllocFlags::NoWarn, Owner::User);
  const Order order{calls % 4};
  const Result<Page*> block = alloc_pages(AllocFlags::Atomic | AllocFlags::NoWarn, order, Owner::Test);
  {
    const arch::FixWindow window{handlers_page};
    auto* word = window.as<volatile u32>();
    if (*word != calls - 1) ++wrong;
    *word = calls;
  }
  if (high) {
    const KmapAtomic map{*high};
    if (map.as<volatile u32>()[calls % 1024] != 0) ++wrong;
    map.as<volatile u32>()[calls % 1024] = calls;
  }
  if (!page || !high || !block) ++wrong;
  if (block) free_pages(*block, order);
  if (high) free_page(*high);
  if (page) free_page(*page);
}

/// 8192 interrupts a second while it lives.
class RtcInterrupts {
 public:
  RtcInterrupts() {
    arch::set_irq_handler(kRtcIrq, on_rtc);
    const arch::IrqsOffGuard off;
    rate_ = read_rtc(kRegisterA);
    enabled_ = read_rtc(kRegisterB);
    write_rtc(kRegisterA, static_cast<u8>((rate_ & ~kRateMask) | kRate8192));
    write_rtc(kRegisterB, static_cast<u8>(enabled_ | kPeriodic));
    (void)read_rtc(kRegisterC);
  }
  ~RtcInterrupts() {
    {
      const arch::IrqsOffGuard off;
      write_rtc(kRegisterB, enabled_);
      write_rtc(kRegisterA, rate_);
      (void)read_rtc(kRegisterC);
    }
    arch::delay_microseconds(1000);  // one that was on its way
    arch::set_irq_handler(kRtcIrq, [](arch::IrqsOff) { (void)read_rtc(kRegisterC); });
  }
  RtcInterrupts(const RtcInterrupts&) = delete;
  RtcInterrupts& operator=(const RtcInterrupts&) = delete;

 private:
  u8 rate_, enabled_;
};

bool ledger_is_exact() {
  const arch::IrqsOffGuard off;
  for (const ZoneId id : kAllZones) {
    if (ledger_total(id).count() + free_pages_in(id).count() != zone(id).managed.count()) return false;
  }
  return true;
}

}  // namespace

KTEST(torture, allocator_and_windows_under_interrupts) {
  constexpr u32 kInterrupts = 3000, kMostHeld = 500;
  constexpr AllocFlags kFlags[] = {AllocFlags::Kernel, AllocFlags::HighUser, AllocFlags::Dma32};
  const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::Test);
  HeldBlocks held;
  REQUIRE(page && held.valid());
  calls = wrong = 0;
  handlers_page = to_phys(page_to_pfn(*page));
  u32 inexact = 0, mixed_up = 0, steps = 0;
  const u64 start = arch::microseconds_since_entry();
  {
    const RtcInterrupts interrupts;
    while (*const_cast<volatile u32*>(&calls) < kInterrupts && arch::microseconds_since_entry() - start < 10'000'000) {
      ++steps;
      if (held.count() != 0 && (held.count() == kMostHeld || test.random_below(2) == 0)) {
        const HeldBlocks::Entry entry = held.take(test.random_below(held.count()));
        {
          const KmapAtomic map{entry.page};
          if (*map.as<volatile u32>() != number(page_to_pfn(entry.page))) ++mixed_up;
        }
        free_pages(entry.page, entry.order);
      } else {
        const Order order{test.random_below(5) == 0 ? test.random_below(5) : 0};
        const Result<Page*> got =
            alloc_pages(kFlags[steps % std::size(kFlags)] | AllocFlags::NoWarn, order, Owner::Slab);
        if (!got) continue;
        const KmapAtomic map{*got};
        *map.as<volatile u32>() = number(page_to_pfn(*got));
        held.add(*got, order);
      }
      if (steps % 256 == 0 && !ledger_is_exact()) ++inexact;
    }
  }
  test.note("{} interrupts in {} steps, {} us", calls, steps, arch::microseconds_since_entry() - start);
  EXPECT(calls >= 100);  // a busy host may merge most of them
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(mixed_up, 0);
  EXPECT_EQ(inexact, 0);
  EXPECT(ledger_is_exact());
  free_page(*page);
}

}  // namespace paean
