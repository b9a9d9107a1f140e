#include "mm/va_space.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

constexpr VirtAddr kBase{0xf0000000};
constexpr VirtAddr page(u32 number) { return kBase + number * kPageSize; }

/// A space with as many blocks as it wants.
class Fixture {
 public:
  Fixture() { space.init(); }

  VaBlock& fresh() {
    blocks_.push_back(std::make_unique<VaBlock>());
    return *blocks_.back();
  }
  void add_range(u32 first, u32 pages) { space.add_range(page(first), pages, fresh()); }
  VaBlock* allocate(u32 pages, u32 align = kPageSize) {
    supply();
    return space.allocate(pages, align, spares);
  }
  VaBlock* allocate_at(u32 first, u32 pages) {
    supply();
    return space.allocate_at(page(first), pages, spares);
  }
  void free(VaBlock* block) { space.free(*block, spares); }
  /// `+` before a free block, `-` before a taken one.
  std::string text() const {
    StringSink sink;
    for (VaBlock* block = space.first(); block != nullptr; block = space.next(*block)) {
      format_to(sink, "{}{}:{} ", block->is_free() ? '+' : '-', (block->start() - kBase) / kPageSize, block->pages());
    }
    return sink.text();
  }

  VaSpace space;
  VaSpares spares;

 private:
  void supply() {
    while (spares.count() < VaSpace::kSparesNeeded) spares.push(fresh());
  }
  std::vector<std::unique_ptr<VaBlock>> blocks_;
};

}  // namespace

TEST_CASE("va_space: takes the smallest hole that is large enough, from its low end") {
  Fixture f;
  f.add_range(0, 100);
  VaBlock* a = f.allocate(10);
  VaBlock* b = f.allocate(5);
  VaBlock* c = f.allocate(3);
  VaBlock* d = f.allocate(5);
  VaBlock* e = f.allocate(1);
  CHECK(a->start() == page(0));
  f.free(b);
  f.free(d);
  CHECK(f.text() == "-0:10 +10:5 -15:3 +18:5 -23:1 +24:76 ");
  CHECK(f.allocate(4)->start() == page(10));
  CHECK(f.allocate(5)->start() == page(18));
  CHECK(f.allocate(2)->start() == page(24));
  CHECK(f.space.find(page(15))->start() == c->start());
  f.free(e);
  CHECK(f.space.free_pages() == 76);  // of 100: 10, 4, 3, 5 and 2 are taken
}

TEST_CASE("va_space: free blocks join with both neighbours") {
  Fixture f;
  f.add_range(0, 12);
  VaBlock* blocks[] = {f.allocate(3), f.allocate(3), f.allocate(3), f.allocate(3)};
  CHECK(f.space.largest_free() == 0);
  f.free(blocks[0]);
  f.free(blocks[2]);
  CHECK(f.text() == "+0:3 -3:3 +6:3 -9:3 ");
  f.free(blocks[1]);
  CHECK(f.text() == "+0:9 -9:3 ");
  f.free(blocks[3]);
  CHECK(f.text() == "+0:12 ");
  CHECK(f.spares.count() >= 3);
}

TEST_CASE("va_space: an area never straddles two ranges, even if they touch") {
  Fixture f;
  f.add_range(10, 10);
  f.add_range(0, 10);
  f.add_range(30, 15);
  CHECK(f.allocate(16) == nullptr);
  VaBlock* a = f.allocate(10);
  VaBlock* b = f.allocate(10);
  CHECK(a->start() == page(0));
  CHECK(b->start() == page(10));
  CHECK(f.allocate(11)->start() == page(30));
  f.free(a);
  f.free(b);
  CHECK(f.text() == "+0:10 +10:10 -30:11 +41:4 ");
  CHECK(f.allocate(11) == nullptr);
  CHECK(f.space.find(page(25)) == nullptr);
  CHECK(f.space.find(page(45)) == nullptr);
  CHECK(f.space.find(page(44) + 4095)->is_free());
  CHECK(f.space.find(page(0) - 1) == nullptr);
  CHECK(f.space.from(page(25))->start() == page(30));
  CHECK(f.space.from(page(15))->start() == page(10));
  CHECK(f.space.from(page(45)) == nullptr);
}

TEST_CASE("va_space: fills to the last page") {
  Fixture f;
  f.add_range(0, 1000);
  std::vector<VaBlock*> taken;
  while (VaBlock* block = f.allocate(1)) taken.push_back(block);
  CHECK(taken.size() == 1000);
  for (u32 i = 0; i < 1000; i += 2) f.free(taken[i]);
  CHECK(f.space.free_pages() == 500);
  CHECK(f.allocate(2) == nullptr);
  for (u32 i = 1; i < 1000; i += 2) f.free(taken[i]);
  CHECK(f.text() == "+0:1000 ");
  CHECK(f.allocate(1001) == nullptr);
  CHECK(f.allocate(1000)->pages() == 1000);
}

TEST_CASE("va_space: alignment up to 4 MiB") {
  Fixture f;
  f.add_range(1, 4096);
  for (u32 align = kPageSize; align <= 4 * kMiB; align *= 2) {
    VaBlock* block = f.allocate(3, align);
    REQUIRE(block != nullptr);
    CHECK(block->start().is_aligned(align));
    CHECK(block->pages() == 3);
  }
}

TEST_CASE("va_space: an aligned area is found where it fits exactly, behind many that do not") {
  Fixture f;
  f.add_range(1, 4095 + 1024);  // one place of 1024 pages that begins at a multiple of 4 MiB is kept free
  VaBlock* place = f.allocate_at(4096, 1024);
  REQUIRE(place != nullptr);
  std::vector<VaBlock*> small;
  for (u32 first = 3; first + 1025 <= 4096; first += 1026) small.push_back(f.allocate_at(first, 1025));
  while (f.allocate(1) != nullptr) {}
  for (VaBlock* block : small) f.free(block);
  f.free(place);
  VaBlock* found = f.allocate(1024, 4 * kMiB);
  REQUIRE(found != nullptr);
  CHECK(found->start() == page(4096));
}

TEST_CASE("va_space: given pages can be taken if they are free") {
  Fixture f;
  f.add_range(0, 20);
  VaBlock* middle = f.allocate_at(5, 5);
  REQUIRE(middle != nullptr);
  CHECK(f.text() == "+0:5 -5:5 +10:10 ");
  CHECK(f.allocate_at(9, 2) == nullptr);
  CHECK(f.allocate_at(4, 2) == nullptr);
  CHECK(f.allocate_at(19, 2) == nullptr);
  CHECK(f.allocate_at(30, 1) == nullptr);
  CHECK(f.allocate_at(19, 1) != nullptr);
}

TEST_CASE("va_space: a block can be described by another object") {
  Fixture f;
  f.add_range(0, 20);
  VaBlock* taken = f.allocate(7);
  VaBlock& fresh = f.fresh();
  f.space.replace(*taken, fresh);
  CHECK(f.text() == "-0:7 +7:13 ");
  VaBlock& free_one = f.fresh();
  f.space.replace(*f.space.find(page(7)), free_one);
  CHECK(f.space.find(page(8)) == &free_one);
  f.free(&fresh);
  CHECK(f.text() == "+0:20 ");
}

TEST_CASE("va_space: misuse is caught") {
  Fixture f;
  f.add_range(0, 20);
  VaBlock* block = f.allocate(2);
  f.free(f.allocate(1));
  ExpectPanic armed;
  f.free(block);
  CHECK_THROWS_AS(f.space.free(*f.space.first(), f.spares), Panic);
  CHECK_THROWS_AS((void)f.space.allocate(0, kPageSize, f.spares), Panic);
  CHECK_THROWS_AS((void)f.space.allocate(1, 3 * kPageSize, f.spares), Panic);
  VaSpares none;
  CHECK_THROWS_AS((void)f.space.allocate(1, kPageSize, none), Panic);
}

TEST_CASE("va_space: 15000 areas come and go in any order and leave nothing") {
  Fixture f;
  f.add_range(0, 60000);
  std::mt19937 random{1};
  std::vector<VaBlock*> taken;
  for (u32 i = 0; i < 15000; ++i) taken.push_back(f.allocate(1 + random() % 4));
  for (u32 i = 0; i < 60000; ++i) {
    VaBlock*& one = taken[random() % taken.size()];
    f.free(one);
    one = f.allocate(1 + random() % 4);
    REQUIRE(one != nullptr);
  }
  std::shuffle(taken.begin(), taken.end(), random);
  for (VaBlock* block : taken) f.free(block);
  CHECK(f.text() == "+0:60000 ");
}

}  // namespace paean::host
