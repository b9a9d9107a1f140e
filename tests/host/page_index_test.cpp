#include "mm/page_index.hpp"

#include <memory>
#include <random>
#include <set>
#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

class Fixture {
 public:
  ~Fixture() { CHECK(spare.count() == nodes.size()); }
  u32 insert(u32 at, u32 pages, void* entry) {
    const u32 needed = index.nodes_needed(at);
    while (spare.count() < needed) {
      nodes.push_back(std::make_unique<PageIndexNode>());
      spare.push(nodes.back().get());
    }
    index.insert(at, pages, entry, spare);
    return needed;
  }
  PageIndex index;
  SpareNodes spare;
  std::vector<std::unique_ptr<PageIndexNode>> nodes;
};

}  // namespace

TEST_SUITE("page_index") {
  TEST_CASE("a node costs 288 bytes, 1.1 MiB a GiB of single pages") {
    if constexpr (sizeof(void*) == 4) CHECK(sizeof(PageIndexNode) == 288);
  }

  TEST_CASE("nodes grow with the highest index and go with the last entry") {
    Fixture f;
    int a, b, c;
    CHECK(f.insert(0, 1, &a) == 1);
    CHECK(f.insert(63, 1, &b) == 0);
    CHECK(f.insert(0xffffffff, 1, &c) == 10);
    CHECK(f.index.find(0) == &a);
    CHECK(f.index.find(63) == &b);
    CHECK(f.index.find(64) == nullptr);
    CHECK(f.index.find(0xffffffff) == &c);
    CHECK(f.index.next(64).index == 0xffffffff);
    f.index.remove(0, 1, f.spare);
    f.index.remove(63, 1, f.spare);
    CHECK(f.index.next(0).entry == &c);
    f.index.remove(0xffffffff, 1, f.spare);
    CHECK(f.index.empty());
    CHECK(f.index.next(0).entry == nullptr);
  }

  TEST_CASE("an entry of many pages is found by each of them") {
    Fixture f;
    int a;
    f.insert(48, 16, &a);
    for (u32 i = 48; i < 64; ++i) CHECK(f.index.find(i) == &a);
    CHECK(f.index.find(47) == nullptr);
    CHECK(f.index.next(50).index == 50);
    f.index.set_mark(48, IndexMark::Dirty);
    CHECK(f.index.next_marked(0, IndexMark::Dirty).index == 48);
    CHECK(f.index.next_marked(49, IndexMark::Dirty).entry == nullptr);
    CHECK(f.index.next_marked(0, IndexMark::WriteBack).entry == nullptr);
    f.index.remove(48, 16, f.spare);
  }

  TEST_CASE("marks of high trees: set, found in order, cleared, gone with the entry") {
    Fixture f;
    std::mt19937 random{5};
    std::set<u32> present, marked;
    int entry;
    for (u32 i = 0; i < 3000; ++i) {
      const u32 at = static_cast<u32>(random()) >> (random() % 32);
      if (!present.insert(at).second) continue;
      f.insert(at, 1, &entry);
      if (random() % 3 == 0) {
        f.index.set_mark(at, IndexMark::WriteBack);
        marked.insert(at);
      }
    }
    u64 from = 0;
    for (const u32 at : marked) {
      const PageIndex::Hit hit = f.index.next_marked(static_cast<u32>(from), IndexMark::WriteBack);
      REQUIRE(hit.entry == &entry);
      REQUIRE(hit.index == at);
      from = u64{at} + 1;
    }
    for (const u32 at : present) {
      if (random() % 2 == 0 && marked.contains(at)) f.index.clear_mark(at, IndexMark::WriteBack);
      f.index.remove(at, 1, f.spare);
    }
    CHECK(f.index.empty());
  }

  TEST_CASE("a run of neighbours goes by one finger, across leaves, and what lies between stays") {
    Fixture f;
    int gone, kept;
    for (u32 at = 0; at < 200; ++at) f.insert(at, 1, at % 50 == 7 ? &kept : &gone);
    f.insert(1u << 20, 1, &gone);
    f.index.set_mark(3, IndexMark::Dirty);
    PageIndex::Finger finger;
    for (u32 at = 0; at < 200; ++at) {
      if (at % 50 != 7) f.index.remove(at, 1, f.spare, finger);
    }
    for (u32 at = 0; at < 200; ++at) CHECK(f.index.find(at) == (at % 50 == 7 ? &kept : nullptr));
    CHECK(f.index.next_marked(0, IndexMark::Dirty).entry == nullptr);
    f.index.remove(1u << 20, 1, f.spare, finger);
    for (const u32 at : {157, 107, 57, 7}) f.index.remove(static_cast<u32>(at), 1, f.spare, finger);
    CHECK(f.index.empty());
  }
}

}  // namespace paean::host
