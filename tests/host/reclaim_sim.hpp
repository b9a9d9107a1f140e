// A machine whose memory is a page cache and nothing else, for comparing what eviction costs the disk: the kernel's two
// lists, from the kernel's source, beside exact LRU on the same trace.
//
// A page that is not there is read (one transfer); a dirty page is written when it has been dirty for kWriteBackAge
// accesses, or when it is in eviction's way (one transfer). Both machines write back alike.
#pragma once

#include <list>
#include <utility>
#include <vector>

#include "mm/age_lists.hpp"

namespace paean::host {

struct Access {
  u32 page;
  bool writes;
};
using Trace = std::vector<Access>;

struct Traffic {
  u64 reads = 0, writes = 0;
  u64 all() const { return reads + writes; }
};

struct SimPage {
  u32 number = 0;
  bool dirty = false, touched = false, used = false;
  Age age = Age::Inactive;
  SimPage *older = nullptr, *newer = nullptr;
};

struct SimAged {
  using List = LinkedList<SimPage, &SimPage::older, &SimPage::newer>;
  static u32 pages(const SimPage&) { return 1; }
  static Age age(const SimPage& page) { return page.age; }
  static void set_age(SimPage& page, Age age) { page.age = age; }
  static bool test_and_clear_used(SimPage& page) { return std::exchange(page.used, false); }
};

/// What both machines have: pages that become dirty, and are written after a while.
class SimDisk {
 public:
  static constexpr u32 kWriteBackAge = 4096;

  explicit SimDisk(Traffic& traffic) : traffic_(traffic) {}
  void dirty(SimPage& page) {
    if (!std::exchange(page.dirty, true)) waiting_.emplace_back(now_, &page);
  }
  void write(SimPage& page) {
    if (std::exchange(page.dirty, false)) ++traffic_.writes;
  }
  void tick() {
    ++now_;
    while (!waiting_.empty() && now_ - waiting_.front().first >= kWriteBackAge) {
      write(*waiting_.front().second);
      waiting_.pop_front();
    }
  }

 private:
  Traffic& traffic_;
  u32 now_ = 0;
  std::list<std::pair<u32, SimPage*>> waiting_;
};

/// Pages of a disk as large as the trace wants it.
inline std::vector<SimPage> sim_pages(u32 count) {
  std::vector<SimPage> pages(count);
  for (u32 i = 0; i < count; ++i) pages[i].number = i;
  return pages;
}

inline Traffic play_kernel(const Trace& trace, u32 disk_pages, u32 memory) {
  std::vector<SimPage> pages = sim_pages(disk_pages);
  std::vector<bool> cached(disk_pages);
  AgeLists<SimPage, SimAged> lists;
  Traffic traffic;
  SimDisk disk{traffic};
  for (const Access& access : trace) {
    SimPage& page = pages[access.page];
    disk.tick();
    if (!cached[access.page]) {
      while (lists.pages() == memory) {
        SimPage* victim = lists.take();
        if (victim == nullptr) continue;
        if (victim->dirty) {
          disk.write(*victim);
          lists.add(*victim);  // it is clean when its turn comes again
          continue;
        }
        cached[victim->number] = false;
      }
      ++traffic.reads;
      page.touched = page.used = false;
      cached[access.page] = true;
      lists.add(page);
    }
    if (page.touched) page.used = true;
    page.touched = true;
    if (access.writes) disk.dirty(page);
  }
  return traffic;
}

inline Traffic play_lru(const Trace& trace, u32 disk_pages, u32 memory) {
  std::vector<SimPage> pages = sim_pages(disk_pages);
  std::vector<bool> cached(disk_pages);
  SimAged::List order;
  Traffic traffic;
  SimDisk disk{traffic};
  for (const Access& access : trace) {
    SimPage& page = pages[access.page];
    disk.tick();
    if (cached[access.page]) {
      order.move_to_back(page);
    } else {
      if (order.count() == memory) {
        SimPage& victim = *order.first();
        disk.write(victim);
        order.erase(victim);
        cached[victim.number] = false;
      }
      ++traffic.reads;
      cached[access.page] = true;
      order.push_back(page);
    }
    if (access.writes) disk.dirty(page);
  }
  return traffic;
}

}  // namespace paean::host
