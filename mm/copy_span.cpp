#include "mm/copy_span.hpp"

#include <algorithm>

#include "mm/user_copy.hpp"
#include "mm/user_gather.hpp"

namespace paean {

u32 CopyTarget::fill_program(const void* from) const { return copy_to_user_part(program_, from, size_); }

u32 CopyTarget::clear() const {
  static constexpr u8 kZeros[256]{};
  u32 done = 0;
  while (done < size_) {
    const u32 part = std::min(size_ - done, u32{sizeof kZeros}), copied = subspan(done, part).fill(kZeros);
    done += copied;
    if (copied < part) break;
  }
  return done;
}

void CopySource::copy_to(Page* page, u32 offset) const {
  if (pages_ == nullptr) return copy_to_page(page, offset, {at_, size_});
  ASSERT(offset + size_ <= kPageSize);
  const KmapLocal to{page};
  for (u32 done = 0; done < size_;) {
    const u32 at = offset_ + done, in_page = at % kPageSize, part = std::min(size_ - done, kPageSize - in_page);
    const KmapLocal from{pages_[at / kPageSize]};
    copy_bytes(to.as<u8>() + offset + done, from.as<u8>() + in_page, part);
    done += part;
  }
}

HeldPages::HeldPages(VirtAddr at, u32 bytes) : offset_(at.page_offset()) {
  if (bytes == 0 || !is_user_range(at, bytes) || UserSpace::current() == nullptr) return;
  bytes = std::min(bytes, (kMost - 1) * kPageSize);  // so that folios of the file stay aligned from call to call
  count_ = UserSpace::current()->hold_pages(at.align_down(kPageSize), {pages_, pages_for(offset_ + bytes).count()});
  if (count_ != 0) bytes_ = std::min(bytes, count_ * kPageSize - offset_);
}

HeldPages::~HeldPages() {
  for (u32 i = 0; i < count_; ++i) put_user_page(pages_[i]);
}

}  // namespace paean
