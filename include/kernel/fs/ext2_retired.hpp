// Blocks of one ext2 volume that were tables and are free now, while the medium may still point to them as tables.
//
// A file that got one of them would write its data there before the medium has the new tables; after a power cut at
// that moment e2fsck takes the data for pointers, and clears the file that once had the table. So contents of files do
// not get these blocks until the tables have been synced; other tables may.
//
//   table --add()--> retired --sync_begins() ... sync_ended()--> ordinary free block
//
// Ranges, sorted, each with the last sync that had begun when the last of its blocks came; what a later one has written
// no longer needs it. Where there are too many, the two with the smallest gap become one: then some blocks are kept
// from files without need, but never the other way round.
// No memory is allocated. Serialised by the caller.
#pragma once

#include "lib/types.hpp"

namespace paean {

class RetiredTables {
 public:
  static constexpr u32 kRanges = 64;

  bool empty() const { return ranges_ == 0; }
  void add(u32 first, u32 blocks);
  /// The first block behind the range that has this one; 0 if none has it.
  u32 end_of_range_with(u32 block) const;
  /// What changed before this call will be on the medium when this sync has ended. Its number.
  u32 sync_begins() { return ++syncs_; }
  /// It has ended well.
  void sync_ended(u32 number);

 private:
  struct Range {
    u32 first, end;
    u32 after;  // so many syncs had begun
  };
  void remove(u32 at);
  void join_nearest();

  Range range_[kRanges + 1]{};
  u32 ranges_ = 0;
  u32 syncs_ = 0;
};

}  // namespace paean
