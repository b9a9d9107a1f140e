// kmap for whole 2 MiB: a block of highmem, contiguous in addresses as it is in memory, by one directory entry.
//
//   {
//     const KmapBlock map{block};               // order 9 or more; may sleep
//     sum(map.bytes());                         // 2 MiB; good on every CPU
//   }
//
//                 map                                  last unmap
//   clean  ------------------>  shown, n users  ------------------>  shown, no user: mapped again for nothing
//     ^                                                                   | another block, or the block is freed:
//     |   every online CPU has flushed since the stamp                    v entry cleared, stamped
//     +----------------------------------------------------------  waits
//
// Two windows (arch::kBlockWindows), shared by all CPUs, each with any number of users of one block. A window shows
// another block only when every CPU has flushed, or is idle and will; whoever wants it first sees to that. When both
// windows have users of other blocks, kmap_block() sleeps; each window that becomes free wakes one.
// Lowmem has its direct address, unless `kmap=force`. A page that is freed loses its window as it loses its slot
// (mm/kmap.hpp); with a user that is a panic. The windows' two entries are the only ones in the kernel's directories
// that change after boot; the directories of user spaces follow them (mm/block_mirror.hpp).
// Context: kmap_block: may sleep. kmap_block_nonblock: threads, interrupts on. kunmap_block: any.
// Errors: InvalidArgument unless the page begins 2 MiB of an allocated block, by physical address too; Busy instead of
// sleeping. Unmapping what is not mapped panics.
#pragma once

#include <optional>
#include <span>

#include "lib/result.hpp"
#include "mm/page.hpp"

namespace paean {

inline constexpr Order kBlockOrder{9};

[[nodiscard]] Result<void*> kmap_block(Page* block);
[[nodiscard]] Result<void*> kmap_block_nonblock(Page* block);
/// Any byte of the block.
void kunmap_block(const void* at);

class [[nodiscard]] KmapBlock {
 public:
  /// Panics where kmap_block() would give an error.
  explicit KmapBlock(Page* block);
  ~KmapBlock() { kunmap_block(at_); }
  KmapBlock(const KmapBlock&) = delete;
  KmapBlock& operator=(const KmapBlock&) = delete;

  void* data() const { return at_; }
  std::span<u8, kLargePageSize> bytes() const {
    return std::span<u8, kLargePageSize>{static_cast<u8*>(at_), kLargePageSize};
  }
  template <typename T>
  T* as() const {
    return static_cast<T*>(at_);
  }

 private:
  void* at_;
};

struct BlockWindowStatistics {
  u32 shown, live;      // windows with an entry; with users
  u32 maps, changes;    // since boot; maps that changed what a window shows
  u32 flushes, sleeps;  // waits for other CPUs; for a window
};
BlockWindowStatistics block_window_statistics();

/// Boot, once. `flags` are those of an entry of the pool.
void init_block_windows(u64 flags);

/// May another CPU still reach the pages?
enum class Seen : u8 { No, Maybe };
/// The block is being freed: takes it out of its window. Panics if that has a user.
Seen forget_in_windows(Pfn first, Order order);
/// Ends all maps without users. Returns the generation to wait for, if there were any.
std::optional<u32> forget_unused_windows();

}  // namespace paean
