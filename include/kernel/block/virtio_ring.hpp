// A split virtqueue: how a driver and a virtio device hand each other chains of memory.
//
//   shared memory     descriptors          available ring        used ring (on a page of its own)
//                     address length next  heads, by the driver  heads and lengths, by the device
//
//   free descriptors --put()...commit()--> chain --publish()--> the device works --take()--> free descriptors
//
// The device is not trusted. What it may write is the used ring; a head that is not in flight, an index that runs ahead
// of what was given, or more bytes written than the chain offers is Corrupt, and then the ring is of no use until
// init(). Which descriptors a chain has is kept here, in memory that the device does not see.
// Pure but for the memory, which the caller gives: bytes_for() bytes of lowmem, page-aligned, and a record for each
// descriptor. One user at a time, who holds a lock.
// Source: Virtual I/O Device (VIRTIO) 1.1, section 2.6; the layout is the one that legacy devices demand.
#pragma once

#include <optional>
#include <span>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

struct VirtioPiece {
  enum class By : u8 { Driver, Device };  // who writes it
  PhysAddr start{};
  u32 bytes = 0;
  By written = By::Driver;
};

class VirtioRing {
 public:
  /// What is known of a descriptor; of a chain by its first one.
  struct Record {
    u16 next;      // in the chain, or among the free ones
    u16 count;     // of the chain; 0 if no chain in flight begins here
    u32 writable;  // bytes that the device may write
    u32 tag;
  };
  struct Used {
    u32 tag;
    u32 bytes;  // written by the device
  };

  static constexpr u32 kMostDescriptors = 1024;
  /// A power of two up to kMostDescriptors.
  static constexpr bool is_size(u32 size) { return size >= 2 && size <= kMostDescriptors && (size & (size - 1)) == 0; }
  static constexpr u32 available_offset(u32 size) { return size * 16; }
  static constexpr u32 used_offset(u32 size) {
    return (available_offset(size) + 4 + 2 * size + 2 + kPageSize - 1) & ~(kPageSize - 1);
  }
  static constexpr u32 bytes_for(u32 size) { return used_offset(size) + 4 + 8 * size + 2; }

  /// Forgets all chains. `memory` has bytes_for(records.size()) bytes.
  void init(void* memory, std::span<Record> records);

  u32 free_descriptors() const { return free_; }
  /// Chains that the device has.
  u32 in_flight() const { return in_flight_; }
  /// One piece more of the chain that is being made; there is a free descriptor.
  void put(const VirtioPiece& piece);
  /// Ends the chain, which has a piece at least. The device sees it after publish().
  void commit(u32 tag);
  /// True if the device wants to be told.
  [[nodiscard]] bool publish();
  /// The next chain that the device is done with; nullopt if there is none. Corrupt.
  Result<std::optional<Used>> take();

 private:
  struct Descriptor {
    PhysAddr address;
    u32 bytes;
    u16 flags, next;
  };
  static_assert(sizeof(Descriptor) == 16);
  struct UsedEntry {
    u32 head, bytes;
  };
  struct Available {
    u16 flags, index;
    u16 heads[];
  };
  struct UsedRing {
    u16 flags, index;
    UsedEntry entries[];
  };

  u32 size() const { return static_cast<u32>(records_.size()); }

  Descriptor* descriptors_ = nullptr;
  Available* available_ = nullptr;
  UsedRing* used_ = nullptr;
  std::span<Record> records_{};
  Record chain_{};  // being made
  u16 chain_first_ = 0, chain_last_ = 0;
  u16 first_free_ = 0;
  u32 free_ = 0;
  u32 in_flight_ = 0;  // chains
  u16 next_available_ = 0, next_used_ = 0;
};

}  // namespace paean
