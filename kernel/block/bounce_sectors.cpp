#include "kernel/block/bounce_sectors.hpp"

#include <algorithm>
#include <bit>

#include "lib/assert.hpp"

namespace paean {

namespace {

constexpr u32 kFullPage = 0xff;

constexpr u8 marks_of(u32 first, u32 count) { return static_cast<u8>(((1u << count) - 1) << first); }

/// The first of the longest runs of free sectors, cut to `most`.
BounceSectors::Run longest_run(u32 page, u32 used, u32 most) {
  BounceSectors::Run best{page, 0, 0};
  for (u32 first = 0; first < kSectorsPerPage && best.count < most;) {
    const u32 busy = static_cast<u32>(std::countr_one(used >> first));
    first += busy;
    const u32 count = std::min(static_cast<u32>(std::countr_zero((used | 1u << kSectorsPerPage) >> first)), most);
    if (first < kSectorsPerPage && count > best.count) best = {page, first, count};
    first += std::max(count, 1u);
  }
  return best;
}

}  // namespace

BounceSectors::BounceSectors(std::span<u8> marks) : marks_(marks), free_(capacity()) {
  std::ranges::fill(marks_, u8{0});
}

BounceSectors::Run BounceSectors::take(u32 most) {
  ASSERT(free_ != 0 && most != 0);
  most = std::min(most, kSectorsPerPage);
  Run best;
  for (u32 page = 0; page < marks_.size() && best.count < most; ++page) {
    if (marks_[page] == kFullPage) continue;
    const Run run = longest_run(page, marks_[page], most);
    if (run.count > best.count) best = run;
  }
  ASSERT(best.count != 0);
  marks_[best.page] |= marks_of(best.first, best.count);
  free_ -= best.count;
  return best;
}

void BounceSectors::give(Run run) {
  ASSERT(run.page < marks_.size() && run.count != 0 && run.first + run.count <= kSectorsPerPage);
  const u8 marks = marks_of(run.first, run.count);
  ASSERT((marks_[run.page] & marks) == marks);
  marks_[run.page] = static_cast<u8>(marks_[run.page] & ~marks);
  free_ += run.count;
}

}  // namespace paean
