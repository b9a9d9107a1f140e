// The ring against a device that obeys for a while, and then writes what it likes into the memory that it shares.
//
// As long as the device obeys, every chain comes back once, with its tag and length, and no descriptor is lost. When it
// does not, the ring may say Corrupt or believe it, but it gives back no chain that was not in flight, and touches
// nothing outside of its memory (which the sanitizer sees).
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "entry.hpp"
#include "kernel/block/virtio_ring.hpp"

namespace paean::fuzz {

namespace {

struct Chain {
  u32 pieces, writable;
};

/// The other side: sees the memory alone.
class Device {
 public:
  Device(u8* memory, u32 size) : memory_(memory), size_(size) {}

  bool take(u16& head) {
    if (load16(VirtioRing::available_offset(size_) + 2) == seen_) return false;
    head = load16(VirtioRing::available_offset(size_) + 4 + 2 * (seen_ % size_));
    ++seen_;
    return true;
  }
  /// Follows a chain; the sum of what it may write.
  Chain follow(u16 head) const {
    Chain chain{0, 0};
    for (u32 at = head;;) {
      CHECK(at < size_);
      ++chain.pieces;
      CHECK(chain.pieces <= size_);
      const u16 flags = load16(16 * at + 12);
      if ((flags & 2) != 0) chain.writable += load32(16 * at + 8);
      if ((flags & 1) == 0) return chain;
      at = load16(16 * at + 14);
    }
  }
  void give(u32 head, u32 bytes) {
    const u32 entry = VirtioRing::used_offset(size_) + 4 + 8 * (given_ % size_);
    std::memcpy(memory_ + entry, &head, 4);
    std::memcpy(memory_ + entry + 4, &bytes, 4);
    ++given_;
    std::memcpy(memory_ + VirtioRing::used_offset(size_) + 2, &given_, 2);
  }

 private:
  u16 load16(u32 at) const {
    u16 value;
    std::memcpy(&value, memory_ + at, 2);
    return value;
  }
  u32 load32(u32 at) const {
    u32 value;
    std::memcpy(&value, memory_ + at, 4);
    return value;
  }
  u8* memory_;
  u32 size_;
  u16 seen_ = 0, given_ = 0;
};

struct Machine {
  explicit Machine(u32 ring_size)
      : size(ring_size),
        memory(static_cast<u8*>(std::aligned_alloc(kPageSize, pages_for(VirtioRing::bytes_for(size)).bytes()))),
        records(size) {
    ring.init(memory.get(), records);
  }
  struct Free {
    void operator()(u8* at) const { std::free(at); }
  };

  u32 size;
  std::unique_ptr<u8, Free> memory;
  std::vector<VirtioRing::Record> records;
  VirtioRing ring;
  std::map<u32, Chain> in_flight;  // by tag
  u32 next_tag = 0;

  u32 used_descriptors() const {
    u32 count = 0;
    for (const auto& [tag, chain] : in_flight) count += chain.pieces;
    return count;
  }

  void add(Input& input) {
    const u32 room = ring.free_descriptors();
    if (room == 0) return;
    std::vector<VirtioPiece> pieces(1 + input.below(room < 16 ? room : 16));
    Chain chain{static_cast<u32>(pieces.size()), 0};
    for (VirtioPiece& piece : pieces) {
      const bool writes = input.below(2) != 0;
      piece = VirtioPiece{PhysAddr{input.wide()}, 1 + input.below(65536),
                          writes ? VirtioPiece::By::Device : VirtioPiece::By::Driver};
      if (writes) chain.writable += piece.bytes;
    }
    for (const VirtioPiece& piece : pieces) ring.put(piece);
    ring.commit(next_tag);
    in_flight[next_tag++] = chain;
    (void)ring.publish();
  }
  /// False when the ring complains.
  bool take(bool obedient) {
    const auto used = ring.take();
    if (!used) {
      CHECK(!obedient);
      return false;
    }
    if (!*used) return true;
    const auto chain = in_flight.find((*used)->tag);
    CHECK(chain != in_flight.end());
    CHECK((*used)->bytes <= chain->second.writable);
    in_flight.erase(chain);
    CHECK(ring.in_flight() == in_flight.size());
    CHECK(ring.free_descriptors() == size - used_descriptors());
    return true;
  }
};

}  // namespace

void fuzz_one(Input& input) {
  Machine machine{2u << input.below(8)};
  Device device{machine.memory.get(), machine.size};
  std::deque<u16> heads;
  bool obedient = true;
  while (!input.empty()) {
    switch (input.below(obedient ? 4 : 6)) {
      case 0: machine.add(input); break;
      case 1: {
        u16 head;
        if (!obedient || !device.take(head)) break;
        heads.push_back(head);
        break;
      }
      case 2: {
        if (heads.empty()) break;
        const u32 which = input.below(static_cast<u32>(heads.size()));
        const u16 head = heads[which];
        heads.erase(heads.begin() + which);
        const u32 most = obedient ? device.follow(head).writable : 0;
        device.give(head, most == 0 ? 0 : input.below(most + 1));
        break;
      }
      case 3:
        if (!machine.take(obedient)) return;
        if (input.below(200) == 199) obedient = false;
        break;
      case 4:  // any byte at all
        machine.memory.get()[static_cast<u32>(input.wide()) % VirtioRing::bytes_for(machine.size)] =
            static_cast<u8>(input.byte());
        break;
      default: device.give(static_cast<u32>(input.wide()), static_cast<u32>(input.wide())); break;
    }
  }
}

}  // namespace paean::fuzz
