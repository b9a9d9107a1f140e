// The split virtqueue: order, chains, and devices that answer nonsense. tests/fuzz/virtio_ring_fuzz.cpp has the rest.
#include "kernel/block/virtio_ring.hpp"

#include <cstring>
#include <memory>
#include <vector>

#include "support.hpp"

using namespace paean;

namespace {

constexpr u32 kSize = 8;

const VirtioPiece kChain[] = {{PhysAddr{0x1000}, 16, VirtioPiece::By::Driver},
                              {PhysAddr{0xf00000000}, 4096, VirtioPiece::By::Device},
                              {PhysAddr{0x2000}, 1, VirtioPiece::By::Device}};

struct Machine {
  Machine() : records(kSize) { ring.init(memory, records); }

  /// What the device would write: an entry of the used ring, and the index behind it.
  void give(u16 number, u32 head, u32 bytes) {
    u8* used = memory + VirtioRing::used_offset(kSize);
    std::memcpy(used + 4 + 8 * (number % kSize), &head, 4);
    std::memcpy(used + 8 + 8 * (number % kSize), &bytes, 4);
    const u16 index = static_cast<u16>(number + 1);
    std::memcpy(used + 2, &index, 2);
  }
  void add(u32 tag) {
    for (const VirtioPiece& piece : kChain) ring.put(piece);
    ring.commit(tag);
  }
  u16 half(u32 at) const {
    u16 value;
    std::memcpy(&value, memory + at, 2);
    return value;
  }
  u16 available_head(u32 number) const { return half(VirtioRing::available_offset(kSize) + 4 + 2 * (number % kSize)); }

  alignas(kPageSize) u8 memory[2 * kPageSize];
  std::vector<VirtioRing::Record> records;
  VirtioRing ring;
};

}  // namespace

TEST_CASE("virtio_ring: what the device sees of a chain") {
  const auto machine = std::make_unique<Machine>();
  machine->add(7);
  CHECK(machine->half(VirtioRing::available_offset(kSize) + 2) == 0);  // nothing before it is published
  CHECK(machine->ring.publish());
  CHECK(machine->half(VirtioRing::available_offset(kSize) + 2) == 1);
  const u32 head = machine->available_head(0);
  u64 address;
  const u32 second = machine->half(16 * head + 14);
  CHECK(machine->half(16 * head + 12) == 1);    // another follows
  CHECK(machine->half(16 * second + 12) == 3);  // the device writes, another follows
  std::memcpy(&address, machine->memory + 16 * second, 8);
  CHECK(address == 0xf00000000);
  CHECK(machine->half(16 * machine->half(16 * second + 14) + 12) == 2);
}

TEST_CASE("virtio_ring: a device that needs no bell is not told") {
  const auto machine = std::make_unique<Machine>();
  machine->memory[VirtioRing::used_offset(kSize)] = 1;
  machine->add(0);
  CHECK(!machine->ring.publish());
}

TEST_CASE("virtio_ring: chains come back in any order, for ever") {
  const auto machine = std::make_unique<Machine>();
  u16 given = 0;
  for (u32 round = 0; round < 70'000; round += 2) {  // past the wrap of all indexes
    machine->add(round);
    machine->add(round + 1);
    (void)machine->ring.publish();
    CHECK(machine->ring.free_descriptors() == kSize - 6);
    machine->give(given++, machine->available_head(round + 1), 4097);
    machine->give(given++, machine->available_head(round), 1);
    const auto first = machine->ring.take(), second = machine->ring.take(), none = machine->ring.take();
    REQUIRE((first.value_or(std::nullopt) && second.value_or(std::nullopt)));
    CHECK((*first)->tag == round + 1);
    CHECK((*first)->bytes == 4097);
    CHECK((*second)->tag == round);
    CHECK((none.has_value() && !none->has_value()));
    CHECK(machine->ring.free_descriptors() == kSize);
    CHECK(machine->ring.in_flight() == 0);
  }
}

TEST_CASE("virtio_ring: nonsense is Corrupt") {
  const auto complain = [](u16 number, u32 head_offset, u32 bytes) {
    const auto machine = std::make_unique<Machine>();
    machine->add(0);
    (void)machine->ring.publish();
    machine->give(number, machine->available_head(0) + head_offset, bytes);
    const auto used = machine->ring.take();
    return !used && used.error() == Error::Corrupt;
  };
  CHECK(!complain(0, 0, 4097));
  CHECK(complain(0, 0, 4098));     // more than it may write
  CHECK(complain(0, 1, 1));        // inside a chain
  CHECK(complain(0, 5, 1));        // nobody's
  CHECK(complain(0, 0x10000, 1));  // no descriptor, and not one cut to 16 bits
  CHECK(complain(0, 0xffffffff, 1));
  CHECK(complain(1, 0, 1));  // two done, one given
  CHECK(complain(0x8000, 0, 1));
}

TEST_CASE("virtio_ring: done twice is Corrupt") {
  const auto machine = std::make_unique<Machine>();
  machine->add(0);
  machine->add(1);
  (void)machine->ring.publish();
  machine->give(0, machine->available_head(0), 0);
  machine->give(1, machine->available_head(0), 0);
  CHECK(machine->ring.take().has_value());
  CHECK(!machine->ring.take().has_value());
}
