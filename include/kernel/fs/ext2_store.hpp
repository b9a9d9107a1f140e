// The medium, as ext2 sees it: bytes that are looked at and changed in place. In the kernel the pages of the tables in
// the page cache, on the host an image in memory.
//
// No range given here crosses a block of the file system (1, 2 or 4 KiB), except that the superblock lies in whatever
// block has byte 1024. The functions called must neither sleep nor come back to the store.
#pragma once

#include <span>
#include <string_view>

#include "lib/result.hpp"

namespace paean {

class Ext2Store {
 public:
  using Viewer = void (*)(void* context, std::span<const u8> bytes);
  using Changer = void (*)(void* context, std::span<u8> bytes);

  virtual Result<> view(u64 offset, u32 bytes, Viewer viewer, void* context) = 0;
  /// Dirty afterwards. An error: nothing was changed.
  virtual Result<> change(u64 offset, u32 bytes, Changer changer, void* context) = 0;
  /// This block holds a file's data from now on: no older change of it may reach the medium later.
  virtual void forget(u32 block) = 0;
  /// All changes are on the medium, and stay there without power.
  virtual Result<> sync() = 0;
  /// Seconds since 1970.
  virtual u32 now() = 0;
  /// The medium contradicts itself; called once, since the file system is read-only afterwards.
  virtual void complain(std::string_view what) = 0;

 protected:
  ~Ext2Store() = default;
};

}  // namespace paean
