#include <array>
#include <set>
#include <vector>

#include "mm/swap_entry.hpp"
#include "mm/swap_header.hpp"
#include "mm/swap_map.hpp"
#include "support.hpp"

namespace paean::host {

namespace {

struct Slots {
  std::vector<u32> memory;
  SwapMap map;
  explicit Slots(u32 slots) : memory(SwapMap::words_needed(slots)) { map.init(memory, slots); }
};

struct HeaderPage {
  std::array<u8, kPageSize> bytes{};
  HeaderPage(u32 version, u32 last, std::vector<u32> bad = {}) {
    put(1024, version);
    put(1028, last);
    put(1032, static_cast<u32>(bad.size()));
    for (u32 i = 0; i < bad.size(); ++i) put(1536 + 4 * i, bad[i]);
    __builtin_memcpy(bytes.data() + kPageSize - 10, "SWAPSPACE2", 10);
  }
  void put(u32 at, u32 value) { __builtin_memcpy(bytes.data() + at, &value, 4); }
};

Result<> read(const HeaderPage& page, u64 bytes) {
  SwapHeader header;
  return read_swap_header(page.bytes, bytes, header);
}

}  // namespace

TEST_SUITE_BEGIN("swap");

TEST_CASE("entries keep area and slot, and nobody takes them for a page") {
  for (u32 area = 0; area < SwapEntry::kMostAreas; ++area) {
    for (u32 shift = 0; shift < 28; ++shift) {
      for (const u32 slot : {u32{1} << shift, (u32{2} << shift) - 1, ~(u32{1} << shift) % SwapEntry::kMostSlots}) {
        const arch::PteValue value = SwapEntry{area, slot}.value();
        CHECK(is_swap_entry(value));
        CHECK(SwapEntry{value}.area() == area);
        CHECK(SwapEntry{value}.slot() == slot);
        CHECK_FALSE(value.present());
        CHECK(static_cast<u32>(value.raw()) != 0);  // the half that says "in use"
        CHECK_FALSE(value.has(1ull << 9));          // not hidden
        CHECK_FALSE(value.has(arch::pte_bits::kAccessed | arch::pte_bits::kDirty | arch::pte_bits::kNoExecute));
      }
    }
  }
}

TEST_CASE("the address bits of an entry lie behind all memory") {
  constexpr u64 kSeenBySome = (1ull << 44) - 1;
  for (const u32 slot : {0u, 1u, 0xfffffu, SwapEntry::kMostSlots - 1}) {
    const u64 address = SwapEntry{3, slot}.value().address().raw();
    CHECK(address >= (1ull << 52) - (1ull << 40));
    CHECK((address & kSeenBySome) >= (1ull << 44) - (1ull << 40));
  }
}

TEST_CASE("other entries are none of the swap") {
  CHECK_FALSE(is_swap_entry(arch::PteValue{}));
  CHECK_FALSE(is_swap_entry(arch::PteValue{0x12345000 | 1ull << 9 | arch::pte_bits::kUser}));  // hidden
  CHECK_FALSE(is_swap_entry(arch::PteValue{0x12345000 | SwapEntry::kMark | arch::pte_bits::kPresent}));
}

TEST_CASE("every slot but the header is given out once") {
  Slots slots{1000};
  slots.map.mark_bad(17);
  slots.map.mark_bad(17);
  std::set<u32> seen;
  while (true) {
    const SwapMap::Run run = slots.map.allocate(32);
    if (run.slots == 0) break;
    for (u32 i = 0; i < run.slots; ++i) CHECK(seen.insert(run.first + i).second);
  }
  CHECK(seen.size() == 998);
  CHECK_FALSE(seen.contains(0));
  CHECK_FALSE(seen.contains(17));
  CHECK(slots.map.used() == slots.map.usable());
  for (const u32 slot : seen) CHECK(slots.map.release(slot));
  CHECK(slots.map.used() == 0);
}

TEST_CASE("runs end where a slot is in use") {
  Slots slots{100};
  CHECK(slots.map.allocate(10).slots == 10);
  CHECK(slots.map.release(3));
  CHECK(slots.map.release(4));
  const SwapMap::Run run = slots.map.allocate(8);
  CHECK(run.first == 3);
  CHECK(run.slots == 2);
}

TEST_CASE("a slot is free when its last user has gone, and sharers have a limit that readers do not meet") {
  Slots slots{4};
  const u32 slot = slots.map.allocate(1).first;
  for (u32 i = 1; i < SwapMap::kMostSharers; ++i) REQUIRE(slots.map.share(slot));
  CHECK_FALSE(slots.map.share(slot));
  slots.map.hold(slot);
  CHECK(slots.map.users(slot) == SwapMap::kMostSharers + 1);
  for (u32 i = 0; i < SwapMap::kMostSharers; ++i) CHECK_FALSE(slots.map.release(slot));
  CHECK(slots.map.release(slot));
  CHECK(slots.map.users(slot) == 0);
}

TEST_CASE("a header is believed only if it fits") {
  CHECK(read(HeaderPage{1, 255}, kMiB).has_value());
  CHECK_FALSE(read(HeaderPage{1, 256}, kMiB).has_value());  // longer than the device
  CHECK_FALSE(read(HeaderPage{1, 0}, kMiB).has_value());
  CHECK_FALSE(read(HeaderPage{2, 255}, kMiB).has_value());
  CHECK_FALSE(read(HeaderPage{0x01000000, 255}, kMiB).has_value());  // of a machine with the other byte order
  CHECK(read(HeaderPage{1, 255, {1, 255}}, kMiB).has_value());
  CHECK_FALSE(read(HeaderPage{1, 255, {0}}, kMiB).has_value());
  CHECK_FALSE(read(HeaderPage{1, 255, {256}}, kMiB).has_value());
  HeaderPage many{1, 255};
  many.put(1032, SwapHeader::kMostBad + 1);
  CHECK_FALSE(read(many, kMiB).has_value());
  HeaderPage old{1, 255};
  __builtin_memcpy(old.bytes.data() + kPageSize - 10, "SWAP-SPACE", 10);
  CHECK_FALSE(read(old, kMiB).has_value());
}

TEST_SUITE_END();

}  // namespace paean::host
