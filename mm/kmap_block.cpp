#include "mm/kmap_block.hpp"

#include "arch/address_space.hpp"
#include "kernel/fault.hpp"
#include "mm/block_mirror.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_debug.hpp"
#include "mm/kmap_state.hpp"

namespace paean {

namespace {

FAULT_SITE(block_window, "a window on 2 MiB, where one may not sleep for it");

struct Window {
  void* address = nullptr;
  arch::Pde* entry = nullptr;
  Page* block = nullptr;  // what it shows, or showed last
  u32 users = 0;
  u32 stamp = 0;       // generation after the entry was cleared; of no meaning while it is shown
  bool shown = false;  // the entry is there
  bool ever = false;   // has been cleared once
};
constinit Window windows[arch::kBlockWindows];
constinit u32 newest_window = 0;  // the one that was mapped last
constinit u64 entry_flags = 0;
constinit SpinLock lock{LockRank::Kmap};  // all of this
constinit WaitQueue queue;
constinit BlockWindowStatistics counters{};

[[gnu::cold, gnu::noinline]] void tell_mirrors(const Window& window) REQUIRES(lock) {
  change_block_mirrors(VirtAddr{reinterpret_cast<u32>(window.address)}, window.entry->load());
}
[[gnu::always_inline]] inline void update_mirrors(const Window& window) REQUIRES(lock) {
  if (first_block_mirror != nullptr) [[unlikely]]
    tell_mirrors(window);
}

/// Others keep the translation until they flush.
[[gnu::always_inline]] inline void clear_window(Window& window) REQUIRES(lock) {
  window.entry->clear();
  update_mirrors(window);
  arch::invalidate_page(VirtAddr{reinterpret_cast<u32>(window.address)});
  window.shown = false;
  window.ever = true;
  window.stamp = PkmapMachine::new_generation();
}

[[gnu::always_inline]] inline bool is_clean(const Window& window) {
  return !window.shown && (!window.ever || PkmapMachine::is_done(window.stamp));
}

[[gnu::always_inline]] inline void show(Window& window, Page* block) REQUIRES(lock) {
  if (window.ever) check_acknowledged(window.stamp, "block window", static_cast<u32>(&window - windows));
  const u32 frame = page_to_pfn(block).raw();
  window.entry->set((frame << kPageShift) | static_cast<u32>(entry_flags),
                    (frame >> (32 - kPageShift)) | static_cast<u32>(entry_flags >> 32));
  update_mirrors(window);
  window.block = block;
  window.shown = true;
  ++counters.changes;
}

/// One that shows nothing and is or will be clean; the older of those without users, cleared; or nullptr.
[[gnu::always_inline]] inline Window* find_unused() REQUIRES(lock) {
  Window* waits = nullptr;
  for (Window& window : windows) {
    if (is_clean(window)) return &window;
    if (!window.shown) waits = &window;
  }
  if (waits != nullptr) return waits;
  for (u32 step = 1; step <= arch::kBlockWindows; ++step) {
    Window& window = windows[(newest_window + step) % arch::kBlockWindows];
    if (window.users != 0) continue;
    clear_window(window);
    return &window;
  }
  return nullptr;
}

/// nullptr if none shows nothing and is clean.
[[gnu::always_inline]] inline Window* change_window(Page* block) REQUIRES(lock) {
  Window* window = find_unused();
  if (window == nullptr || !is_clean(*window)) return nullptr;
  show(*window, block);
  return window;
}

[[gnu::always_inline]] inline Window* add_user(Window& window) REQUIRES(lock) {
  ++counters.maps;
  ++window.users;
  newest_window = static_cast<u32>(&window - windows);
  return &window;
}

/// If a window shows the block already.
[[gnu::always_inline]] inline Window* find_shown(Page* block) REQUIRES(lock) {
  for (Window& window : windows) {
    if (window.block == block && window.shown) return add_user(window);
  }
  return nullptr;
}
/// Without waiting for anybody.
Window* try_window(Page* block) {
  const SpinGuard<IrqSave> guard{lock};
  if (Window* window = find_shown(block)) return window;
  Window* window = change_window(block);
  return window != nullptr ? add_user(*window) : nullptr;
}

/// The generation after which a window is clean that nobody uses; nullopt if all have users.
std::optional<u32> stamp_to_wait_for() {
  const SpinGuard<IrqSave> guard{lock};
  for (const Window& window : windows) {
    if (!window.shown) return window.stamp;
  }
  return std::nullopt;
}

/// Waits for other CPUs, not for other users. nullptr if both windows have users.
[[gnu::noinline]] Window* get_window(Page* block) {
  for (;;) {
    if (Window* window = try_window(block)) return window;
    const std::optional<u32> stamp = stamp_to_wait_for();
    if (!stamp || !arch::irqs_enabled()) return nullptr;
    arch::tlb_wait_for_generation(*stamp);
    const SpinGuard<IrqSave> guard{lock};
    ++counters.flushes;
  }
}

[[gnu::noinline]] Window* sleep_for_window(Page* block, const void* caller) {
  might_sleep("kmap_block");
  check_no_hold_and_wait(caller);
  {
    const SpinGuard<IrqSave> guard{lock};
    ++counters.sleeps;
  }
  Window* window = nullptr;
  queue.wait([&] {
    window = get_window(block);
    return window != nullptr;
  });
  // The window that he was woken for may be another sleeper's: his block was mapped meanwhile.
  if (__atomic_load_n(&window->users, __ATOMIC_RELAXED) > 1) (void)queue.wake_one();
  return window;
}

/// Does the page begin 2 MiB that belong to one owner? Then the owner's word remembers the map until the free.
[[gnu::noinline]] bool note_block(Page* page) {
  Page* head = block_head(page);
  if (page_to_pfn(page).align_down(kBlockOrder) != page_to_pfn(page) || head == nullptr) return false;
  if (head->type() != PageType::Block || head->order().value() < kBlockOrder.value()) return false;
  if (!head->may_be_mapped()) head->note_mapped();
  return true;
}
/// Of the first page of a block that has been mapped before, one look says it all.
[[gnu::always_inline]] inline bool is_noted(Page* page) {
  constexpr u32 kMask = Page::kMapped | 0x7f000000u;  // type and order
  constexpr u32 kNoted = Page::kMapped | Page::make_block(kBlockOrder, 0);
  return ((page->word() ^ kNoted) & kMask) == 0;
}

bool overlaps(const Window& window, Pfn first, Order order) {
  const Pfn block = page_to_pfn(window.block);
  return block < first + PageCount{order} && first < block + PageCount{kBlockOrder};
}

}  // namespace

void init_block_windows(u64 flags) {
  // Part of the kernel image, and reached through its window: the direct map has it only if the firmware calls it RAM.
  const PhysAddr directory = arch::walk_current(arch::kBlockWindowStart).pd_page;
  ASSERT(directory < PhysAddr{arch::kImageWindowSize});
  const VirtAddr seen{static_cast<u32>(directory.raw()) + arch::kImageOffset};
  auto* entries = reinterpret_cast<arch::PageDirectory*>(seen.raw())->entries;
  entry_flags = flags | arch::pte_bits::kLarge;
  for (u32 i = 0; i < arch::kBlockWindows; ++i) {
    const VirtAddr at = arch::kBlockWindowStart + i * kLargePageSize;
    windows[i].address = reinterpret_cast<void*>(at.raw());
    windows[i].entry = &entries[arch::pd_index(at)];
    ASSERT(!windows[i].entry->load().present());
  }
}

void follow_block_windows(BlockMirror& mirror, Page* directory) {
  mirror.directory = directory;
  const SpinGuard<IrqSave> guard{lock};
  add_block_mirror(mirror);
}

void leave_block_windows(BlockMirror& mirror) {
  const SpinGuard<IrqSave> guard{lock};
  remove_block_mirror(mirror);
}

Result<void*> kmap_block(Page* block) {
  check_may_sleep("kmap_block");
  if (!is_noted(block) && !note_block(block)) [[unlikely]]
    return std::unexpected(Error::InvalidArgument);
  if (has_address(block)) return direct_address(block);
  const Window* window = try_window(block);
  if (window == nullptr) [[unlikely]]
    window = get_window(block);
  if (window == nullptr) [[unlikely]]
    window = sleep_for_window(block, __builtin_return_address(0));
  note_held(+1);
  return window->address;
}

Result<void*> kmap_block_nonblock(Page* block) {
  if (!is_noted(block) && !note_block(block)) return std::unexpected(Error::InvalidArgument);
  if (has_address(block)) return direct_address(block);
  const Window* window = must_fail(fault_block_window) ? nullptr : get_window(block);
  if (window == nullptr) return std::unexpected(Error::Busy);
  note_held(+1);
  return window->address;
}

void kunmap_block(const void* at) {
  const u32 offset = reinterpret_cast<u32>(at) - arch::kBlockWindowStart.raw();
  if (offset >= arch::kBlockWindows * kLargePageSize) return unmap_direct(at);
  Window& window = windows[offset / kLargePageSize];
  u32 left;
  {
    const SpinGuard<IrqSave> guard{lock};
    if (window.users == 0) return unmap_error(at, "no block is mapped there");
    left = --window.users;
  }
  note_held(-1);
  if (left == 0 && queue.waiting() != 0) (void)queue.wake_one();
}

KmapBlock::KmapBlock(Page* block) {
  const Result<void*> at = kmap_block(block);
  if (!at) panic("KmapBlock of frame {:#x}: it does not begin 2 MiB of one block", page_to_pfn(block));
  at_ = *at;
}

Seen forget_in_windows(Pfn first, Order order) {
  if (order.value() < kBlockOrder.value()) return Seen::No;
  Seen seen = Seen::No;
  bool used = false;
  {
    const SpinGuard<IrqSave> guard{lock};
    for (Window& window : windows) {
      if (window.block == nullptr || !overlaps(window, first, order)) continue;
      used |= window.users != 0;
      if (window.shown && window.users == 0) clear_window(window);
      if (!is_clean(window)) seen = Seen::Maybe;
    }
  }
  if (used) panic("free of frame {:#x}, which is mapped by kmap_block", first);
  return seen;
}

std::optional<u32> forget_unused_windows() {
  std::optional<u32> stamp;
  const SpinGuard<IrqSave> guard{lock};
  for (Window& window : windows) {
    if (window.shown && window.users == 0) clear_window(window);
    if (!window.shown && !is_clean(window)) stamp = window.stamp;
  }
  return stamp;
}

BlockWindowStatistics block_window_statistics() {
  const SpinGuard<IrqSave> guard{lock};
  BlockWindowStatistics s = counters;
  for (const Window& window : windows) {
    s.shown += window.shown ? 1 : 0;
    s.live += window.users != 0 ? 1 : 0;
  }
  return s;
}

}  // namespace paean
