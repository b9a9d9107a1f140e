#include "kernel/block/dma_pieces.hpp"

#include <algorithm>
#include <bit>

#include "lib/assert.hpp"

namespace paean {

/// How long a piece may be that begins there.
u32 DmaPieces::most_at(PhysAddr start, u32 bytes) const {
  u32 most = std::min({bytes, limits_.max_segment_bytes, limits_.max_sectors * kSectorBytes - bytes_});
  if (limits_.boundary != 0) {
    const u64 to_boundary = start.align_down(limits_.boundary) + limits_.boundary - start;
    most = static_cast<u32>(std::min<u64>(most, to_boundary));
  }
  return most;
}

bool DmaPieces::extends_last(PhysAddr start) const {
  if (count_ == 0) return false;
  const DmaPiece& last = room_[count_ - 1];
  if (last.start + last.bytes != start || last.bytes >= limits_.max_segment_bytes) return false;
  return limits_.boundary == 0 || !start.is_aligned(limits_.boundary);
}

u32 DmaPieces::add(PhysAddr start, u32 bytes) {
  u32 taken = 0;
  while (taken != bytes && bytes_ != limits_.max_sectors * kSectorBytes) {
    const PhysAddr at = start + taken;
    u32 length = most_at(at, bytes - taken);
    ASSERT(at + (length - 1) <= limits_.highest);
    if (extends_last(at)) {
      DmaPiece& last = room_[count_ - 1];
      length = std::min(length, limits_.max_segment_bytes - last.bytes);
      last.bytes += length;
    } else {
      if (count_ == limits_.max_segments || count_ == room_.size()) break;
      room_[count_++] = {at, length};
    }
    bytes_ += length;
    taken += length;
  }
  return taken;
}

void DmaPieces::rewind(Mark mark) {
  count_ = mark.count;
  bytes_ = mark.bytes;
  if (count_ != 0) room_[count_ - 1].bytes = mark.last_bytes;
}

bool are_sane(const BlockLimits& limits) {
  const bool sizes = limits.max_segment_bytes >= kSectorBytes && limits.max_segment_bytes % kSectorBytes == 0 &&
                     limits.max_sectors != 0 && limits.max_sectors <= (1u << 21) && limits.max_segments != 0 &&
                     limits.max_segments <= 1024;
  const bool boundary =
      limits.boundary == 0 || (limits.boundary >= kSectorBytes && std::has_single_bit(limits.boundary));
  const bool reach = (limits.highest + 1).is_aligned(kPageSize);
  return sizes && boundary && reach && limits.queue_depth != 0 && limits.queue_depth <= 256 && limits.timeout_ms != 0;
}

}  // namespace paean
