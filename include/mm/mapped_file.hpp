// What a user mapping knows of a file: its pages, and how to keep the file alive.
//
// Owner: whoever makes it counts references; the first is his own. Each area of a user space has one more.
// kernel/fs/map_file.hpp makes one of an inode, mm/shared_memory.hpp one of memory without a file.
#pragma once

#include "mm/page_cache.hpp"

namespace paean {

class MappedFile {
 public:
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  AddressSpace& contents() const { return contents_; }
  /// May stores through a shared area reach it? A file that was not opened for writing.
  bool is_writable() const { return writable_ == Writable::Yes; }
  void get() { references_.fetch_add(1, std::memory_order_relaxed); }
  /// May sleep: the last one ends the object.
  void put() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) end();
  }
  /// For /proc/PID/maps.
  virtual std::string_view name() const { return {}; }

 protected:
  enum class Writable : u8 { No, Yes };
  MappedFile(AddressSpace& contents, Writable writable) : contents_(contents), writable_(writable) {}
  ~MappedFile() = default;
  virtual void end() = 0;

 private:
  AddressSpace& contents_;
  std::atomic<u32> references_{1};
  Writable writable_;
};

}  // namespace paean
