// RegionAllocator against one byte a page: 160 pages around 4 GiB.
#include <array>
#include <memory>
#include <optional>

#include "entry.hpp"
#include "mm/region_allocator.hpp"

namespace paean::fuzz {

namespace {

constexpr u32 kPages = 160;
constexpr PhysAddr kBase{4 * kGiB - 80 * u64{kPageSize}};

PhysAddr address(u32 page) { return kBase + u64{page} * kPageSize; }

struct ModelPage {
  bool usable = false;
  std::optional<BootReason> reason;

  bool free() const { return usable && !reason; }
};

using Model = std::array<ModelPage, kPages>;

/// The lowest or highest place, found by trying every page.
std::optional<PhysAddr> search(const Model& model, u32 pages, u64 align, PhysRange window, Direction direction) {
  std::optional<PhysAddr> found;
  for (u32 first = 0; first + pages <= kPages; ++first) {
    const PhysAddr begin = address(first);
    if (begin < window.begin || begin + u64{pages} * kPageSize > window.end || !begin.is_aligned(align)) continue;
    bool free = true;
    for (u32 i = 0; i < pages; ++i) free = free && model[first + i].free();
    if (!free) continue;
    if (direction == Direction::TopDown || !found) found = begin;
  }
  return found;
}

void compare(const RegionAllocator& allocator, const MemoryMap& map, const Model& model) {
  std::array<bool, kPages> seen{};
  PhysAddr last{0};
  allocator.for_each_free([&](PhysAddr begin, PhysAddr end) {
    CHECK(begin > last || last == PhysAddr{0});
    CHECK(begin < end);
    last = end;
    for (u32 page = 0; page < kPages; ++page) {
      if (address(page) >= begin && address(page) < end) seen[page] = true;
    }
  });
  std::array<u64, kBootReasonCount> bytes{};
  std::array<std::optional<BootReason>, kPages> reasons{};
  allocator.for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason reason) {
    for (u32 page = 0; page < kPages; ++page) {
      if (address(page) >= begin && address(page) < end) reasons[page] = reason;
    }
  });
  u64 free = 0;
  for (u32 page = 0; page < kPages; ++page) {
    CHECK(seen[page] == model[page].free());
    CHECK(reasons[page] == model[page].reason);
    if (model[page].free()) free += kPageSize;
    if (model[page].usable && model[page].reason) bytes[static_cast<u32>(*model[page].reason)] += kPageSize;
  }
  u64 sum = 0;
  for (u32 reason = 0; reason + 1 < kBootReasonCount; ++reason) {
    CHECK(allocator.reserved_bytes(static_cast<BootReason>(reason)) == bytes[reason]);
    sum += bytes[reason];
  }
  CHECK(allocator.free_bytes() == free);
  CHECK(sum + free == map.usable_bytes());
}

void reserve(Input& input, RegionAllocator& allocator, Model& model) {
  const PhysAddr begin = kBase + u64{input.below(kPages * 2)} * (kPageSize / 2);
  const PhysAddr limit = kBase + u64{kPages} * kPageSize;
  const PhysAddr wanted = begin + u64{input.below(64)} * (kPageSize / 2);
  const PhysAddr end = wanted < limit ? wanted : limit;
  const BootReason reason = static_cast<BootReason>(input.below(kBootReasonCount - 1));
  CHECK(allocator.reserve({begin, end}, reason).has_value());
  for (u32 page = 0; page < kPages; ++page) {
    const bool touched = begin < end && address(page) < end && address(page + 1) > begin;
    if (touched && !model[page].reason) model[page].reason = reason;
  }
}

void allocate(Input& input, RegionAllocator& allocator, Model& model) {
  const u32 bytes = 1 + input.below(40 * kPageSize / 512) * 512;
  const u64 align = u64{1} << (8 + input.below(12));
  const Direction direction = input.below(2) == 0 ? Direction::BottomUp : Direction::TopDown;
  const BootReason reason = static_cast<BootReason>(input.below(kBootReasonCount - 1));
  PhysRange window{PhysAddr{0}, kPhysTop};
  if (input.below(2) == 0) {
    window = {kBase + u64{input.below(kPages)} * kPageSize + input.below(2), address(input.below(kPages)) + 1};
  }
  const u32 pages = (bytes + kPageSize - 1) / kPageSize;
  const u64 page_align = align < kPageSize ? kPageSize : align;
  const std::optional<PhysAddr> expected = search(model, pages, page_align, window, direction);
  const Result<PhysAddr> got = allocator.allocate(bytes, align, window, direction, reason);
  CHECK(got.has_value() == expected.has_value());
  if (!got) {
    CHECK(got.error() == Error::OutOfMemory);
    return;
  }
  CHECK(*got == *expected);
  for (u32 page = 0; page < kPages; ++page) {
    if (address(page) >= *got && address(page) < *got + u64{pages} * kPageSize) model[page].reason = reason;
  }
}

}  // namespace

void fuzz_one(Input& input) {
  Model model{};
  const auto map = std::make_unique<MemoryMap>();
  const u32 entries = 1 + input.below(6);
  for (u32 i = 0; i < entries; ++i) {
    const u32 begin = input.below(kPages);
    const u32 length = input.below(kPages - begin + 1);
    map->add_firmware_entry({(address(begin) - PhysAddr{0}), u64{length} * kPageSize, 1});
    for (u32 page = begin; page < begin + length; ++page) model[page].usable = true;
  }
  map->seal();
  const auto allocator = std::make_unique<RegionAllocator>(*map);
  compare(*allocator, *map, model);
  for (u32 i = 0; i < 100 && !input.empty(); ++i) {
    if (input.below(3) == 0)
      reserve(input, *allocator, model);
    else
      allocate(input, *allocator, model);
    compare(*allocator, *map, model);
  }
}

}  // namespace paean::fuzz
