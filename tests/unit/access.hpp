// The one place where in-kernel tests take addresses out of their classes, and what several of them share.
#pragma once

#include <initializer_list>

#include "arch/pte.hpp"
#include "kernel/test/ktest.hpp"
#include "lib/addr.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

inline u32 number(Pfn pfn) { return pfn.raw(); }
inline u32 number(VirtAddr va) { return va.raw(); }
inline u64 number(PhysAddr pa) { return pa.raw(); }
inline u64 bits(arch::PteValue value) { return value.raw(); }

inline VirtAddr address_of(const void* at) { return VirtAddr{reinterpret_cast<u32>(at)}; }
inline VirtAddr code_address(void (*function)()) { return VirtAddr{reinterpret_cast<u32>(function)}; }
template <typename T>
T* pointer_to(VirtAddr va) {
  return reinterpret_cast<T*>(va.raw());
}

extern "C" {
extern char __image_start[], __image_end[];
extern char __text_start[], __text_end[], __rodata_start[], __rodata_end[], __data_start[], __data_end[];
}

/// Where `what` begins in `text`; its size if nowhere. (std::string_view::find needs memchr, which the kernel has not.)
inline usize position_of(std::string_view what, std::string_view text) {
  for (usize at = 0; at + what.size() <= text.size(); ++at) {
    if (std::string_view{text.data() + at, what.size()} == what) return at;
  }
  return text.size();
}
inline bool contains(std::string_view text, std::string_view what) { return position_of(what, text) != text.size(); }

/// Bounds of a part of the kernel image.
struct ImagePart {
  VirtAddr start, end;
  bool contains(VirtAddr va) const { return va >= start && va < end; }
};
inline ImagePart image_text() { return {address_of(__text_start), address_of(__text_end)}; }
inline ImagePart image_rodata() { return {address_of(__rodata_start), address_of(__rodata_end)}; }
inline ImagePart image_data() { return {address_of(__data_start), address_of(__data_end)}; }

/// Where the direct map shows an address of the kernel image.
inline VirtAddr direct_alias(VirtAddr image) { return direct_map.page_offset + (image - arch::kImageStart); }

/// Blocks that a test holds, in one lowmem block of its own; freed with it.
class HeldBlocks {
 public:
  static constexpr Order kMemory{8};  // 1 MiB: 131072 entries, twice what 256 GB is in blocks of order 10

  HeldBlocks() : memory_(alloc_pages(AllocFlags::Kernel, kMemory, Owner::Test)) {}
  ~HeldBlocks() {
    free_all();
    if (memory_) free_pages(*memory_, kMemory);
  }
  HeldBlocks(const HeldBlocks&) = delete;
  HeldBlocks& operator=(const HeldBlocks&) = delete;

  struct Entry {
    Page* page;
    Order order;
  };

  bool valid() const { return memory_.has_value(); }
  u32 count() const { return count_; }
  bool full() const { return count_ == PageCount{kMemory}.bytes() / sizeof(Entry); }
  Entry& operator[](u32 index) { return entries()[index]; }
  void add(Page* page, Order order) { entries()[count_++] = Entry{page, order}; }
  /// Removes an entry (the last takes its place) without freeing.
  Entry take(u32 index) {
    const Entry entry = entries()[index];
    entries()[index] = entries()[--count_];
    return entry;
  }
  void free_at(u32 index) {
    const Entry entry = take(index);
    free_pages(entry.page, entry.order);
  }
  void free_all() {
    while (count_ != 0) free_at(count_ - 1);
  }

 private:
  Entry* entries() const { return pointer_to<Entry>(*page_address(*memory_)); }
  Result<Page*> memory_;
  u32 count_ = 0;
};

}  // namespace paean
