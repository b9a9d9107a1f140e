#include "mm/region_allocator.hpp"

#include <memory>

#include "support.hpp"

namespace paean::host {

namespace {

constexpr PhysRange kAnywhere{PhysAddr{0}, kPhysTop};

/// An allocator with its map: usable 0x1000-0x10000, reserved up to 0x12000, usable 0x12000-0x20000.
class Fixture {
 public:
  Fixture() {
    constexpr E820Entry kEntries[] = {{0x1000, 0x1f000, 1}, {0x10000, 0x2000, 2}};
    map.load(kEntries);
  }

  std::string free_text() const {
    StringSink sink;
    allocator.for_each_free([&](PhysAddr begin, PhysAddr end) { format_to(sink, "{}-{} ", begin, end); });
    return sink.text();
  }

  std::string reserved_text() const {
    StringSink sink;
    allocator.for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason reason) {
      format_to(sink, "{}-{} {}; ", begin, end, name(reason));
    });
    return sink.text();
  }

  u64 reserved_sum() const {
    u64 sum = 0;
    for (u32 i = 0; i < kBootReasonCount; ++i) sum += allocator.reserved_bytes(static_cast<BootReason>(i));
    return sum;
  }

  MemoryMap map;
  RegionAllocator allocator{map};
};

}  // namespace

TEST_SUITE("region_allocator") {
  TEST_CASE("nothing reserved: all that is usable is free") {
    Fixture f;
    CHECK(f.free_text() == "1000-10000 12000-20000 ");
    CHECK(f.allocator.free_bytes() == f.map.usable_bytes());
    CHECK(f.reserved_sum() == 0);
  }

  TEST_CASE("reservations grow to pages and cut free memory") {
    Fixture f;
    CHECK(f.allocator.reserve({PhysAddr{0x3001}, PhysAddr{0x4001}}, BootReason::KernelImage).has_value());
    CHECK(f.free_text() == "1000-3000 5000-10000 12000-20000 ");
    CHECK(f.allocator.reserved_bytes(BootReason::KernelImage) == 0x2000);
  }

  TEST_CASE("the first reason wins, the rest is split, nothing is lost") {
    Fixture f;
    CHECK(f.allocator.reserve({PhysAddr{0x3000}, PhysAddr{0x5000}}, BootReason::KernelImage).has_value());
    CHECK(f.allocator.reserve({PhysAddr{0x2000}, PhysAddr{0x6000}}, BootReason::Modules).has_value());
    CHECK(f.reserved_text() == "2000-3000 modules; 3000-5000 kernel image; 5000-6000 modules; ");
    CHECK(f.reserved_sum() + f.allocator.free_bytes() == f.map.usable_bytes());
  }

  TEST_CASE("neighbours with one reason merge") {
    Fixture f;
    for (const u64 begin : {0x3000, 0x5000, 0x4000}) {
      CHECK(f.allocator.reserve(phys_range(begin, 0x1000), BootReason::PerCpu).has_value());
    }
    CHECK(f.reserved_text() == "3000-6000 per-CPU data; ");
  }

  TEST_CASE("only usable bytes count, although all ranges are kept") {
    Fixture f;
    CHECK(f.allocator.reserve({PhysAddr{0}, PhysAddr{0x2000}}, BootReason::Firmware).has_value());
    CHECK(f.allocator.reserve({PhysAddr{0xf000}, PhysAddr{0x13000}}, BootReason::AcpiTables).has_value());
    CHECK(f.allocator.reserved_bytes(BootReason::Firmware) == 0x1000);
    CHECK(f.allocator.reserved_bytes(BootReason::AcpiTables) == 0x2000);
    CHECK(f.reserved_sum() + f.allocator.free_bytes() == f.map.usable_bytes());
    CHECK(f.reserved_text() == "0-2000 firmware; f000-13000 ACPI tables; ");
  }

  TEST_CASE("bad reservations") {
    Fixture f;
    CHECK(f.allocator.reserve({PhysAddr{2}, PhysAddr{1}}, BootReason::Modules).error() == Error::InvalidArgument);
    CHECK(f.allocator.reserve({PhysAddr{1}, PhysAddr{2}}, BootReason::Partial).error() == Error::InvalidArgument);
    CHECK(f.allocator.reserve({PhysAddr{5}, PhysAddr{5}}, BootReason::Modules).has_value());
    CHECK(f.reserved_text().empty());
  }

  TEST_CASE("allocation from below and from above") {
    Fixture f;
    CHECK(*f.allocator.allocate(1, 1, kAnywhere, Direction::BottomUp, BootReason::PageTables) == PhysAddr{0x1000});
    CHECK(*f.allocator.allocate(0x1001, 1, kAnywhere, Direction::TopDown, BootReason::FrameWords) == PhysAddr{0x1e000});
    CHECK(f.free_text() == "2000-10000 12000-1e000 ");
    CHECK(f.allocator.reserved_bytes(BootReason::FrameWords) == 0x2000);
  }

  TEST_CASE("alignment and windows") {
    Fixture f;
    const auto allocate = [&](u64 bytes, u64 align, u64 low, u64 high, Direction direction) {
      return f.allocator.allocate(bytes, align, {PhysAddr{low}, PhysAddr{high}}, direction, BootReason::PerCpu);
    };
    CHECK(*allocate(0x1000, 0x8000, 0, ~u64{0}, Direction::BottomUp) == PhysAddr{0x8000});
    CHECK(*allocate(0x1000, 0x8000, 0, ~u64{0}, Direction::TopDown) == PhysAddr{0x18000});
    CHECK(*allocate(0x1000, 1, 0x3800, 0x6000, Direction::BottomUp) == PhysAddr{0x4000});
    CHECK(*allocate(0x1000, 1, 0x3800, 0x6fff, Direction::TopDown) == PhysAddr{0x5000});
    CHECK(allocate(0x1000, 1, 0x3800, 0x4fff, Direction::TopDown).error() == Error::OutOfMemory);
    CHECK(allocate(0x1000, 1, 0x6000, 0x6000, Direction::TopDown).error() == Error::OutOfMemory);
    CHECK(allocate(0x1000, 1, 0x8000, 0x6000, Direction::TopDown).error() == Error::OutOfMemory);
    CHECK(allocate(0x1000, 1, 0x10000, 0x12000, Direction::BottomUp).error() == Error::OutOfMemory);
  }

  TEST_CASE("a block never spans a hole or a reservation") {
    Fixture f;
    CHECK(f.allocator.allocate(0xf001, 1, kAnywhere, Direction::BottomUp, BootReason::PerCpu).error() ==
          Error::OutOfMemory);
    CHECK(*f.allocator.allocate(0xf000, 1, kAnywhere, Direction::TopDown, BootReason::PerCpu) == PhysAddr{0x1000});
  }

  TEST_CASE("bad arguments and absurd sizes") {
    Fixture f;
    const auto error = [&](u64 bytes, u64 align) {
      return f.allocator.allocate(bytes, align, kAnywhere, Direction::TopDown, BootReason::PerCpu).error();
    };
    CHECK(error(0, 1) == Error::InvalidArgument);
    CHECK(error(1, 0) == Error::InvalidArgument);
    CHECK(error(1, 3) == Error::InvalidArgument);
    CHECK(error(~u64{0}, 1) == Error::OutOfMemory);
    CHECK(error(~u64{0} - 0xfff, 1) == Error::OutOfMemory);
    CHECK(error(1, u64{1} << 63) == Error::OutOfMemory);
    CHECK(f.reserved_text().empty());
  }

  TEST_CASE("memory at the top of the world") {
    MemoryMap map;
    const E820Entry entry{0xffffffff00000000, 0xffffffff, 1};
    map.load({&entry, 1});
    RegionAllocator allocator{map};
    CHECK(*allocator.allocate(1, kPageSize, kAnywhere, Direction::TopDown, BootReason::PerCpu) == kPhysTop - kPageSize);
    CHECK(allocator.allocate(1, u64{1} << 33, kAnywhere, Direction::BottomUp, BootReason::PerCpu).error() ==
          Error::OutOfMemory);
  }

  TEST_CASE("a full table refuses and keeps everything") {
    auto map = std::make_unique<MemoryMap>();
    const E820Entry entry{0, kGiB, 1};
    map->load({&entry, 1});
    auto allocator = std::make_unique<RegionAllocator>(*map);
    u64 count = 0;
    while (allocator->reserve(phys_range((2 * count + 1) * kPageSize, kPageSize), BootReason::Modules)) ++count;
    CHECK(count == RegionAllocator::kCapacity);
    const u64 free = allocator->free_bytes();
    CHECK(allocator->reserve(phys_range(512 * kMiB, 1), BootReason::PerCpu).error() == Error::TooLarge);
    CHECK(allocator->allocate(1, 1, kAnywhere, Direction::TopDown, BootReason::PerCpu).error() == Error::TooLarge);
    CHECK(allocator->free_bytes() == free);
  }

  TEST_CASE("partial pages are a reason of their own") {
    MemoryMap map;
    const E820Entry entry{0x1800, 0x2000, 1};
    map.load({&entry, 1});
    const RegionAllocator allocator{map};
    CHECK(allocator.reserved_bytes(BootReason::Partial) == 0x1000);
    CHECK(allocator.free_bytes() == 0x1000);
  }

  TEST_CASE("every reason has a name") {
    for (u32 i = 0; i < kBootReasonCount; ++i) CHECK(name(static_cast<BootReason>(i)) != "unknown");
  }
}

}  // namespace paean::host
