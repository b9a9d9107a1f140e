// What it costs to get lent lowmem back.
#include "mm/lending.hpp"

#include "kernel/bench/kbench.hpp"
#include "mm/user_copy.hpp"
#include "mm/user_space.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr VirtAddr kHere{0x10000000};
constexpr u32 kPages = 512 * kMiB / kPageSize;
constexpr u32 word_of(u32 n) { return n * 2654435761u + 1; }

/// Highmem is somebody else's for a scope, so that programs borrow.
class NoHighmem {
 public:
  NoHighmem() : list_(static_cast<Entry*>(vmalloc(kMost * sizeof(Entry)).value_or(nullptr))) {
    for (u32 order = kOrderCount; list_ != nullptr && order-- != 0;) {
      while (count_ != kMost) {
        Page* page = take_block_quietly(AllocFlags::HighUser, Order{order}, Owner::Test);
        if (page == nullptr) break;
        list_[count_++] = Entry{page, Order{order}};
        if (!is_lent(page)) continue;
        give_last();
        break;
      }
    }
  }
  ~NoHighmem() {
    while (count_ != 0) give_last();
    vfree(list_);
  }
  NoHighmem(const NoHighmem&) = delete;
  NoHighmem& operator=(const NoHighmem&) = delete;

 private:
  struct Entry {
    Page* page;
    Order order;
  };
  static constexpr u32 kMost = 70'000;  // 256 GB in blocks of 4 MiB
  void give_last() {
    --count_;
    free_pages(list_[count_].page, list_[count_].order);
  }
  Entry* list_;
  u32 count_ = 0;
};

class Program {
 public:
  Program() {
    const Result<UserSpace*> made = UserSpace::create();
    if (!made) return;
    UserSpace::switch_to(space_ = *made);
    good_ = space_
                ->map({.at = kHere,
                       .bytes = kPages * kPageSize,
                       .access = UserAccess::Read | UserAccess::Write,
                       .flags = MapFlag::Fixed})
                .has_value();
  }
  ~Program() {
    if (space_ != nullptr) space_->put();
    UserSpace::switch_to(nullptr);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  bool write() {
    for (u32 i = 0; good_ && i < kPages; ++i) good_ = put_user(kHere + i * kPageSize, word_of(i)).has_value();
    return good_;
  }
  bool has_kept_all() const {
    for (u32 i = 0; i < kPages; ++i) {
      if (get_user<u32>(kHere + i * kPageSize).value_or(0) != word_of(i)) return false;
    }
    return true;
  }

 private:
  UserSpace* space_ = nullptr;
  bool good_ = false;
};

}  // namespace

KBENCH(recall_512M, "512 MiB of lowmem back from a program, with contents") {
  if (high_totals().free.count() < 3 * kPages || low_totals().free.count() < kPages + kPages / 4)
    return bench.skip("too little memory");
  Program program;
  {
    const NoHighmem none;
    if (!program.write()) return bench.skip("no memory");
  }
  const u32 lent = lent_to_programs().count();
  const u64 begin = arch::read_tsc();
  const u32 moved = recall_lent_pages(lent);
  const u64 cost = arch::read_tsc() - begin;
  bench.note("{} of {} pages were lent, {} moved", lent, kPages, moved);
  if (lent < kPages - kPages / 64 || moved != lent || !program.has_kept_all()) return;  // no line: a failure
  bench.report(BenchValue::whole(cost), bench.unit());
}

}  // namespace paean
