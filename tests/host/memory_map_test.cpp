#include "mm/memory_map.hpp"

#include <memory>
#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

constexpr u32 kRam = 1;
constexpr u32 kRes = 2;
constexpr u32 kAcpi = 3;
constexpr u32 kNvs = 4;

/// A map of 20 KB, on the heap as tests keep several.
std::unique_ptr<MemoryMap> make_map(std::initializer_list<E820Entry> entries) {
  auto map = std::make_unique<MemoryMap>();
  map->load({entries.begin(), entries.size()});
  return map;
}

/// "begin-end kind;" for each range, in hexadecimal.
std::string text_of(const MemoryMap& map) {
  StringSink sink;
  for (const MemoryMap::Entry& entry : map.ranges()) {
    constexpr std::string_view kLetters = "UANPRB";
    format_to(sink, "{}-{}{} ", entry.begin, entry.end, kLetters[static_cast<usize>(entry.tag)]);
  }
  return sink.text();
}

std::string after_memmap(std::initializer_list<E820Entry> entries, std::string_view value) {
  const auto map = make_map(entries);
  StringSink complaints;
  apply_memmap_option(*map, value, complaints);
  return text_of(*map) + complaints.text();
}

}  // namespace

TEST_SUITE("memory_map") {
  TEST_CASE("a usual PC") {
    const auto map = make_map({{0, 0x9fc00, kRam},
                               {0x9fc00, 0x400, kRes},
                               {0xf0000, 0x10000, kRes},
                               {0x100000, 0xbfee0000, kRam},
                               {0xbffe0000, 0x20000, kRes},
                               {0xfffc0000, 0x40000, kRes},
                               {0x100000000, 0xf40000000, kRam}});
    CHECK(text_of(*map) ==
          "0-1000R 1000-9f000U 9f000-a0000R f0000-100000R 100000-bffe0000U bffe0000-c0000000R "
          "fffc0000-100000000R 100000000-1040000000U ");
    CHECK(map->usable_bytes_from(PhysAddr{4 * kGiB}) == 61 * kGiB);
    CHECK(map->usable_bytes_below(PhysAddr{0x100000}) == 0x9e000);
    CHECK(map->last_usable_end() == PhysAddr{65 * kGiB});
    CHECK(map->partial_bytes() == 0xc00);
  }

  TEST_CASE("no entries at all") {
    const auto map = make_map({});
    CHECK(map->ranges().empty());
    CHECK(map->usable_bytes() == 0);
    CHECK(map->last_usable_end() == PhysAddr{0});
    CHECK_FALSE(map->kind_at(PhysAddr{0}).has_value());
  }

  TEST_CASE("order of entries does not matter and neighbours merge") {
    CHECK(text_of(*make_map({{0x3000, 0x1000, kRam}, {0x1000, 0x1000, kRam}, {0x2000, 0x1000, kRam}})) ==
          "1000-4000U ");
  }

  TEST_CASE("entries without length are dropped") {
    CHECK(text_of(*make_map({{0x5000, 0, kRes}, {0x1000, 0x1000, kRam}, {~u64{0}, 0, kRam}})) == "1000-2000U ");
  }

  TEST_CASE("entries that pass 2^64 are clipped") {
    const auto map = make_map({{0xffffffffffff0000, 0x20000, kRes}, {0x10000, ~u64{0}, kRam}});
    CHECK(text_of(*map) == "10000-ffffffffffff0000U ffffffffffff0000-fffffffffffff000R ");
    CHECK(text_of(*make_map({{~u64{0}, ~u64{0}, kRam}})) == "");
    CHECK(text_of(*make_map({{~u64{0}, 1, kRes}})) == "");
  }

  TEST_CASE("the more restrictive kind wins, whoever came first") {
    CHECK(text_of(*make_map({{0x1000, 0x9000, kRam}, {0x3000, 0x2000, kRes}})) == "1000-3000U 3000-5000R 5000-a000U ");
    CHECK(text_of(*make_map({{0x3000, 0x2000, kRes}, {0x1000, 0x9000, kRam}})) == "1000-3000U 3000-5000R 5000-a000U ");
    CHECK(text_of(*make_map({{0x1000, 0x3000, kAcpi}, {0x2000, 0x3000, kNvs}, {0x3000, 0x3000, 5}})) ==
          "1000-2000A 2000-3000N 3000-6000B ");
  }

  TEST_CASE("unknown types are reserved, persistent memory is not RAM") {
    CHECK(text_of(*make_map({{0x1000, 0x1000, 0}, {0x3000, 0x1000, 99}, {0x5000, 0x1000, 7}, {0x7000, 0x1000, 12}})) ==
          "1000-2000R 3000-4000R 5000-6000P 7000-8000P ");
  }

  TEST_CASE("usable shrinks to pages, others grow") {
    const auto map = make_map({{0x1001, 0x3fff, kRam}, {0x6800, 1, kRes}});
    CHECK(text_of(*map) == "2000-5000U 6000-7000R ");
    CHECK(map->partial_bytes() == 0xfff);
  }

  TEST_CASE("a page whose bytes are all usable is usable, in however many pieces") {
    const auto map = make_map({{0x1000, 0x800, kRam}, {0x1800, 0x1800, kRam}});
    CHECK(text_of(*map) == "1000-3000U ");
    CHECK(map->partial_bytes() == 0);
  }

  TEST_CASE("several kinds inside one page: the worst takes it") {
    CHECK(text_of(*make_map({{0x1000, 0x200, kAcpi}, {0x1200, 0x100, 5}, {0x1300, 0xd00, kRes}})) == "1000-2000B ");
    CHECK(text_of(*make_map({{0x0800, 0x900, kRes}, {0x1200, 0x100, kNvs}, {0x1400, 0x2000, kAcpi}})) ==
          "0-2000R 2000-4000A ");
    CHECK(text_of(*make_map({{0x0800, 0x900, kAcpi}, {0x1200, 0x100, kNvs}, {0x1400, 0x2000, kRes}})) ==
          "0-1000A 1000-4000R ");
  }

  TEST_CASE("page 0 is never usable") {
    CHECK(text_of(*make_map({{0, 0x4000, kRam}})) == "0-1000R 1000-4000U ");
    CHECK(after_memmap({{0, 0x4000, kRam}}, "exactmap,64K@0") == "0-1000R 1000-10000U ");
    const auto map = make_map({});
    CHECK(map->replace(phys_range(0, 0x2000), MemoryKind::Usable).has_value());
    CHECK(text_of(*map) == "0-1000R 1000-2000U ");
  }

  TEST_CASE("at most 256 entries are looked at") {
    std::vector<E820Entry> entries;
    for (u64 i = 0; i < 300; ++i) entries.push_back({(2 * i + 1) * kPageSize, kPageSize, kRam});
    auto map = std::make_unique<MemoryMap>();
    map->load(entries);
    CHECK(map->ranges().size() == 256);
    CHECK(map->ignored_entries() == 44);
    CHECK(map->usable_bytes() == 256 * kPageSize);
  }

  TEST_CASE("256 entries that cut each other as often as possible fit") {
    std::vector<E820Entry> entries;
    for (u64 i = 0; i < 256; ++i) {
      entries.push_back({(i + 1) * kPageSize, (512 - 2 * i) * kPageSize, i % 2 == 0 ? kRes : kRam});
    }
    std::vector<E820Entry> nested{{0, ~u64{0}, kRam}};
    for (u64 i = 0; i < 255; ++i) nested.push_back({(2 * i + 1) * kMiB, kMiB, kRes});
    auto map = std::make_unique<MemoryMap>();
    map->load(entries);
    map->load(nested);
    CHECK(map->ranges().size() == 512);  // 511 segments and page 0
  }

  TEST_CASE("clip drops usable memory only") {
    const auto map = make_map({{0x1000, 0x9000, kRam}, {0x20000, 0x2000, kRes}, {0x30000, 0x4000, kRam}});
    CHECK(map->clip(PhysAddr{0x5800}) == 0x9000);
    CHECK(text_of(*map) == "1000-5000U 20000-22000R ");
    CHECK(map->clip(kPfnLimit) == 0);
    CHECK(map->clip(PhysAddr{0}) == 0x4000);
    CHECK(map->last_usable_end() == PhysAddr{0});
  }

  TEST_CASE("mem=") {
    StringSink complaints;
    const auto map = make_map({{0x100000, 0x7f00000, kRam}});
    CHECK(apply_mem_option(*map, "64M", complaints) == 64 * kMiB);
    CHECK(map->last_usable_end() == PhysAddr{64 * kMiB});
    CHECK(complaints.text().empty());
    CHECK(apply_mem_option(*map, "64X", complaints) == 0);
    CHECK(apply_mem_option(*map, "0", complaints) == 0);
    CHECK(complaints.text() == "cmdline: mem=64X is not a size, ignored\ncmdline: mem=0 is not a size, ignored\n");
  }

  TEST_CASE("memmap= in all its forms") {
    CHECK(after_memmap({{0x100000, 0x100000, kRam}}, "1M@2M") == "100000-300000U ");
    CHECK(after_memmap({{0x100000, 0x300000, kRam}}, "1M$2M") == "100000-200000U 200000-300000R 300000-400000U ");
    CHECK(after_memmap({{0x100000, 0x300000, kRam}}, "64K#2M") == "100000-200000U 200000-210000A 210000-400000U ");
    CHECK(after_memmap({{0x100000, 0x300000, kRam}}, "2M") == "100000-200000U ");
    CHECK(after_memmap({{0x100000, 0x300000, kRam}}, "exactmap") == "");
    CHECK(after_memmap({{0x100000, 0x300000, kRam}}, "exactmap,636K@4K,63M@0x100000,4K$8M") ==
          "1000-a0000U 100000-800000U 800000-801000R 801000-4000000U ");
    CHECK(after_memmap({{0x200000, 0x100000, kRes}}, "4M@1M") == "100000-200000U 200000-300000R 300000-500000U ");
    CHECK(after_memmap({}, "16E") == "cmdline: memmap=16E is not nn@ss, nn#ss, nn$ss, nn or exactmap, ignored\n");
    CHECK(after_memmap({}, "1@1,0xffffffffffffffff$0xfffffffffffff000") == "");
    CHECK(after_memmap({}, "0xffffffffffffffff$1M") == "100000-fffffffffffff000R ");
  }

  TEST_CASE("memmap= that makes no sense is named and skipped") {
    const std::string why = " is not nn@ss, nn#ss, nn$ss, nn or exactmap, ignored\n";
    CHECK(after_memmap({}, "") == "cmdline: memmap=" + why);
    CHECK(after_memmap({}, "1M@1M,,bad,1M%2M,1M@,0@1M,1M@2Mx") ==
          "100000-200000U cmdline: memmap=" + why + "cmdline: memmap=bad" + why + "cmdline: memmap=1M%2M" + why +
              "cmdline: memmap=1M@" + why + "cmdline: memmap=0@1M has no length, ignored\n" + "cmdline: memmap=1M@2Mx" +
              why);
  }

  TEST_CASE("an empty range inside a page touches nothing") {
    const auto map = make_map({});
    CHECK(map->add({PhysAddr{0x1800}, PhysAddr{0x1800}}, MemoryKind::Reserved).has_value());
    CHECK(map->replace({PhysAddr{0x1801}, PhysAddr{0x1800}}, MemoryKind::Reserved).has_value());
    CHECK(map->ranges().empty());
  }

  TEST_CASE("replace makes the new kind win") {
    const auto map = make_map({{0x1000, 0x4000, kRes}});
    CHECK(map->replace(phys_range(0x2000, 0x1000), MemoryKind::Usable).has_value());
    CHECK(text_of(*map) == "1000-2000R 2000-3000U 3000-5000R ");
  }

  TEST_CASE("a full table refuses and keeps everything") {
    auto map = std::make_unique<MemoryMap>();
    map->load({});
    u64 i = 0;
    while (map->add(phys_range((2 * i + 1) * kPageSize, kPageSize), MemoryKind::Usable)) ++i;
    CHECK(i == MemoryMap::kCapacity);
    const std::string before = text_of(*map);
    CHECK(map->add(phys_range(4 * kGiB, kPageSize), MemoryKind::Reserved).error() == Error::TooLarge);
    CHECK(map->replace(phys_range(0x1000, kGiB), MemoryKind::Reserved).error() == Error::TooLarge);
    CHECK(text_of(*map) == before);
    StringSink complaints;
    apply_memmap_option(*map, "4K$8G", complaints);
    CHECK(complaints.text() == "cmdline: memmap=4K$8G does not fit into the memory map, ignored\n");
    CHECK(map->clip(PhysAddr{0x3000}) == (i - 1) * kPageSize);
  }

  TEST_CASE("entries after seal and a second seal are refused") {
    const auto map = make_map({});
    ExpectPanic armed;
    CHECK_THROWS_AS(map->add_firmware_entry({0x1000, 0x1000, kRam}), Panic);
    CHECK_THROWS_AS(map->seal(), Panic);
    CHECK_THROWS_AS(std::make_unique<MemoryMap>()->clip(PhysAddr{0}), Panic);
  }

  TEST_CASE("kind_at and names") {
    const auto map = make_map({{0x1000, 0x1000, kRam}, {0x2000, 0x1000, kNvs}});
    CHECK_FALSE(map->kind_at(PhysAddr{0xfff}).has_value());
    CHECK(map->kind_at(PhysAddr{0x1000}) == MemoryKind::Usable);
    CHECK(map->kind_at(PhysAddr{0x2fff}) == MemoryKind::AcpiNvs);
    CHECK_FALSE(map->kind_at(PhysAddr{0x3000}).has_value());
    CHECK(name(MemoryKind::Usable) == "System RAM");
    CHECK(name(MemoryKind::Bad) == "Unusable memory");
  }
}

}  // namespace paean::host
