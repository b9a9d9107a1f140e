// A window of the races' own: pages at the end of the fixmap that nothing else uses, so that a test may do with their
// entries what must never be done. And the pool of kmap over slots in that window, with one thing wrong.
#pragma once

#include <new>

#include "access.hpp"
#include "arch/tlb.hpp"
#include "kernel/spinlock.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_pool.hpp"

namespace paean {

inline constexpr u32 kRaceWindowPages = 64;
inline constexpr u32 kRaceWindowFirst = arch::kFixmapPages - kRaceWindowPages;
static_assert(kRaceWindowFirst >= arch::kFixEarlyFirst + arch::kFixEarlyPages);

inline VirtAddr race_window(u32 page) { return arch::fixmap_address(kRaceWindowFirst + page); }
inline arch::Pte& race_entry(u32 page) { return arch::fix_entry(number(race_window(page))); }
inline arch::PteValue race_leaf(Pfn pfn) { return arch::make_leaf(to_phys(pfn), arch::Protection::ReadWrite); }

/// Clears all entries and lets no CPU keep a translation: frames may be freed after it.
inline void close_race_window() {
  for (u32 i = 0; i < kRaceWindowPages; ++i) race_entry(i).clear();
  arch::tlb_wait_for_generation(arch::tlb_new_generation());
}

/// Slots in the race window.
struct WindowMachine {
  struct Place {
    u32 number;
  };
  static Place place(u32 number) { return {number}; }
  static void map(const Place& place, u32 key) { race_entry(place.number).set(race_leaf(Pfn{key / sizeof(Page)})); }
  static void unmap(const Place& place) {
    race_entry(place.number).clear();
    arch::invalidate_page(race_window(place.number));
  }
  static u32 new_generation() { return arch::tlb_new_generation(); }
  static bool is_done(u32 generation) { return arch::tlb_generation_is_done(generation); }
  static void wait(u32 generation) { (void)arch::tlb_wait_for_generation(generation); }
};

/// A seeded bug: slots count as clean as soon as their entries are cleared.
struct HastyMachine : WindowMachine {
  u32 new_generation() { return ++generation; }
  static bool is_done(u32) { return true; }
  static void wait(u32) {}
  u32 generation = 0;
};

/// Does who finds no slot look again once he has the lock? Not to do so is another seeded bug.
enum class SecondLook : u8 { Yes, No };

/// kmap and kunmap over the kernel's pool with slots in the race window. Lies in lowmem of its own, because a pool is
/// large.
template <typename Machine, SecondLook kLook>
class WindowKmap {
 public:
  using Pool = KmapPool<Machine>;
  using Slot = Pool::Slot;
  static constexpr Order kMemory{6};
  static_assert(sizeof(Pool) <= PageCount{kMemory}.bytes());

  WindowKmap() : memory_(alloc_pages(AllocFlags::Kernel, kMemory, Owner::Test)) {
    if (!memory_) return;
    pool_ = new (pointer_to<void>(*page_address(*memory_))) Pool;
    pool_->init(kRaceWindowPages);
  }
  ~WindowKmap() {
    close_race_window();
    if (memory_) free_pages(*memory_, kMemory);
  }
  WindowKmap(const WindowKmap&) = delete;
  WindowKmap& operator=(const WindowKmap&) = delete;
  bool valid() const { return pool_ != nullptr; }

  Slot* map(Page* page) {
    const u32 key = word_distance(page);
    if (Slot* slot = pool_->get(key)) return slot;
    typename Pool::Share* const home = pool_->first_share();
    for (;;) {
      u32 stamp;
      {
        const SpinGuard<IrqSave> guard{lock_};
        Slot* slot = kLook == SecondLook::Yes ? pool_->get(key) : nullptr;
        if (slot == nullptr) slot = pool_->take(key, home, [&] { return pool_->share_with_clean(home); });
        if (slot != nullptr) return slot;
        (void)pool_->recycle(kRaceWindowPages);
        stamp = pool_->newest();
      }
      Machine::wait(stamp);
    }
  }
  /// Ends the maps that have no user.
  void recycle() {
    const SpinGuard<IrqSave> guard{lock_};
    (void)pool_->recycle(kRaceWindowPages);
  }
  static void unmap(Slot* slot) { (void)Pool::put(slot); }
  static VirtAddr address(const Slot* slot) { return race_window(slot->place.number); }
  static volatile u32* words(const Slot* slot) { return pointer_to<volatile u32>(address(slot)); }

 private:
  SpinLock lock_{LockRank::Test};
  Result<Page*> memory_;
  Pool* pool_ = nullptr;
};

using HastyKmap = WindowKmap<HastyMachine, SecondLook::Yes>;
/// Waits for other CPUs, but gives a page a second slot if two of them want it at once.
using CarelessKmap = WindowKmap<WindowMachine, SecondLook::No>;

}  // namespace paean
