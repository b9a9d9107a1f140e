#include "kernel/process/arguments.hpp"

#include <algorithm>

#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

ArgumentPages::~ArgumentPages() {
  for (Page* page : pages_) {
    if (page != nullptr) free_page(page);
  }
}

Result<> ArgumentPages::append(std::string_view text) {
  while (!text.empty()) {
    if (bytes_ == kMostBytes) return std::unexpected(Error::TooLarge);
    Page*& page = pages_[bytes_ / kPageSize];
    if (page == nullptr) page = TRY(alloc_page(AllocFlags::HighUser, Owner::User));
    const u32 offset = bytes_ % kPageSize, count = std::min<u32>(text.size(), kPageSize - offset);
    const KmapLocal map{page};
    copy_bytes(map.as<u8>() + offset, text.data(), count);
    bytes_ += count;
    text.remove_prefix(count);
  }
  return {};
}

Result<> ArgumentPages::end_string() {
  static constexpr char kEnd[1] = {'\0'};
  TRY(append({kEnd, 1}));
  ++strings_;
  return {};
}

Result<> ArgumentPages::add(std::string_view text) {
  TRY(append(text));
  return end_string();
}

Result<> ArgumentPages::add_user(VirtAddr string) {
  char part[64];
  for (;;) {
    // No further than the page, because what follows may not be there.
    const u32 count = std::min<u32>(sizeof part, kPageSize - string.page_offset());
    TRY(copy_from_user(part, string, count));
    u32 length = 0;
    while (length < count && part[length] != '\0') ++length;
    TRY(append({part, length}));
    if (length < count) return end_string();
    string = string + count;
  }
}

Result<> ArgumentPages::add_user_list(VirtAddr list) {
  if (list == VirtAddr{}) return {};
  for (;;) {
    const u32 string = TRY(get_user<u32>(list));
    if (string == 0) return {};
    TRY(add_user(VirtAddr{string}));
    list = list + u32{sizeof(u32)};
  }
}

u32 ArgumentPages::length_at(u32 at) const {
  u32 length = 0;
  for (;;) {
    const KmapLocal map{pages_[(at + length) / kPageSize]};
    const u8* bytes = map.as<u8>();
    do {
      if (bytes[(at + length) % kPageSize] == 0) return length;
      ++length;
    } while ((at + length) % kPageSize != 0);
  }
}

Result<> ArgumentPages::copy_out(VirtAddr to, VirtAddr argv, VirtAddr envp) const {
  for (u32 at = 0; at < bytes_; at += kPageSize) {
    const KmapLocal map{pages_[at / kPageSize]};
    TRY(copy_to_user(to + at, map.data(), std::min(kPageSize, bytes_ - at)));
  }
  u32 at = 0;
  for (u32 i = 0; i < strings_; ++i) {
    VirtAddr& list = i < arguments_ ? argv : envp;
    TRY(put_user(list, to + at));
    list = list + u32{sizeof(u32)};
    at += length_at(at) + 1;
  }
  TRY(put_user(argv, u32{0}));
  return put_user(envp, u32{0});
}

}  // namespace paean
