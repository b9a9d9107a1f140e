// Cuts memory into what a device takes in one command.
//
//   DmaPieces pieces{limits, room};
//   taken = pieces.add(start, bytes);      // less than `bytes`: the command is full
//
//   memory   |-----------A-----------|------B------|        |--C--|       A and B lie side by side
//   pieces   |----64 KiB----|-------------|--------|        |--C--|
//                 longest            boundary
//
// Keeps max_segments, max_segment_bytes, max_sectors and boundary, and joins what lies side by side. A piece that the
// device does not reach is a bug of whoever had to bounce it (asserted).
// Pure: the room is the caller's. All sizes are multiples of a sector. Any context.
#pragma once

#include "kernel/block/device.hpp"

namespace paean {

class DmaPieces {
 public:
  DmaPieces(const BlockLimits& limits, std::span<DmaPiece> room) : limits_(limits), room_(room) {}

  /// How many bytes of it still fit, from its start.
  u32 add(PhysAddr start, u32 bytes);

  u32 bytes() const { return bytes_; }
  std::span<const DmaPiece> pieces() const { return room_.first(count_); }

  /// Takes back everything that was added since.
  struct Mark {
    u32 count, last_bytes, bytes;
  };
  Mark mark() const { return {count_, count_ == 0 ? 0 : room_[count_ - 1].bytes, bytes_}; }
  void rewind(Mark mark);

 private:
  u32 most_at(PhysAddr start, u32 bytes) const;
  bool extends_last(PhysAddr start) const;

  const BlockLimits& limits_;
  std::span<DmaPiece> room_;
  u32 count_ = 0, bytes_ = 0;
};

/// Limits that the block layer can keep: nothing is 0, sizes are multiples of a sector, the boundary a power of two.
bool are_sane(const BlockLimits& limits);

}  // namespace paean
