// Blocks of one ext2 file that were never written since they were allocated: they hold somebody's old contents, and
// whoever reads one gets zeros.
//
//   allocated --> fresh --begin()--> in flight --end(ok)--> an ordinary block
//                   ^                    |
//                   +----- end(error) ---+
//
// Marks lie in windows of 64 blocks, 40 bytes of lowmem each, which are there while one of their blocks is marked.
// Locks: one of its own (LockRank::PageCache). Context: add() may sleep; the others any, because a write ends in an
// interrupt. Errors: OutOfMemory.
#pragma once

#include <boost/intrusive/set.hpp>

#include "kernel/spinlock.hpp"
#include "lib/result.hpp"

namespace paean {

class FreshBlocks {
 public:
  static constexpr u32 kWindow = 64, kNone = ~0u;

  FreshBlocks() = default;
  /// No mark is left.
  ~FreshBlocks() { ASSERT(windows_.empty()); }
  FreshBlocks(const FreshBlocks&) = delete;
  FreshBlocks& operator=(const FreshBlocks&) = delete;

  Result<> add(u32 block);
  /// Bit i: block `first` + i is one. At most 64 blocks.
  u64 among(u32 first, u32 blocks) const;
  /// Grows whenever add() or remove() has changed a mark: who looks at pointers and then at marks, and finds it grown,
  /// may have seen a pointer of before and marks of afterwards.
  u32 changes() const {
    const SpinGuard<IrqSave> guard{lock_};
    return changes_;
  }
  /// The first one; kNone.
  u32 first() const;
  /// These blocks, fresh or not, are ordinary ones or nobody's from now on.
  void remove(u32 first, u32 blocks = kNone);
  /// Blocks that are about to be written, and the end of that. Meanwhile nothing of the range is written again.
  void begin(u32 first, u32 blocks);
  void end(u32 first, u32 blocks, Result<> result);

 private:
  struct Window : boost::intrusive::set_base_hook<> {
    explicit Window(u32 of) : number(of) {}
    u32 number;
    u64 fresh = 0, in_flight = 0;
  };
  struct NumberOf {
    using type = u32;  // NOLINT(readability-identifier-naming): Boost wants that name
    u32 operator()(const Window& window) const { return window.number; }
  };
  using Windows = boost::intrusive::set<Window, boost::intrusive::key_of_value<NumberOf>>;
  enum class Step : u8 { Begin, EndWell, EndBadly, Remove };
  void change(u32 first, u32 blocks, Step step);
  static u64 marks(const Window& window, u32 first, u32 last);

  mutable SpinLock lock_{LockRank::PageCache};
  Windows windows_ GUARDED_BY(lock_);
  u32 changes_ GUARDED_BY(lock_) = 0;
};

}  // namespace paean
