// 1 to 257 segments under any sane limits, cut into commands until all is done: the pieces keep the limits, and byte by
// byte they are the segments in order.
#include <array>
#include <vector>

#include "entry.hpp"
#include "kernel/block/dma_pieces.hpp"

namespace paean::fuzz {

namespace {

struct Extent {
  u64 start;
  u64 bytes;
};

/// Neighbours joined, so that two ways of saying the same are equal.
void append(std::vector<Extent>& list, u64 start, u64 bytes) {
  if (!list.empty() && list.back().start + list.back().bytes == start)
    list.back().bytes += bytes;
  else
    list.push_back({start, bytes});
}

void check_pieces(const DmaPieces& pieces, const BlockLimits& limits) {
  u64 sum = 0;
  for (const DmaPiece& piece : pieces.pieces()) {
    const PhysAddr last = piece.start + (piece.bytes - 1);
    CHECK(piece.bytes != 0 && piece.bytes <= limits.max_segment_bytes && piece.bytes % kSectorBytes == 0);
    CHECK(last <= limits.highest);
    if (limits.boundary != 0) CHECK(piece.start.align_down(limits.boundary) == last.align_down(limits.boundary));
    sum += piece.bytes;
  }
  CHECK(sum == pieces.bytes() && sum <= u64{limits.max_sectors} * kSectorBytes);
  CHECK(pieces.pieces().size() <= limits.max_segments);
}

}  // namespace

void fuzz_one(Input& input) {
  BlockLimits limits;
  limits.max_segments = 1 + input.below(128);
  limits.max_segment_bytes = (1 + input.below(256)) * kSectorBytes;
  limits.max_sectors = 1 + input.below(1024);
  limits.boundary = input.below(3) == 0 ? 0 : kSectorBytes << input.below(9);
  CHECK(are_sane(limits));
  std::array<DmaPiece, 128> room;
  std::vector<Extent> given, made;
  auto pieces = DmaPieces{limits, room};
  const auto end_command = [&] {
    check_pieces(pieces, limits);
    CHECK(pieces.bytes() != 0);
    for (const DmaPiece& piece : pieces.pieces()) append(made, piece.start.raw(), piece.bytes);
    std::destroy_at(&pieces);
    std::construct_at(&pieces, limits, room);
  };
  u64 behind = 0;
  for (u32 segments = 1 + input.below(257); segments != 0; --segments) {
    u64 start = input.below(3) != 0 ? behind : (input.wide() & 0xfffffffff) / kSectorBytes * kSectorBytes;
    u32 bytes = (1 + input.below(input.below(8) == 0 ? 512 : 8)) * kSectorBytes;
    behind = start + bytes;
    append(given, start, bytes);
    while (bytes != 0) {
      const DmaPieces::Mark mark = pieces.mark();
      u32 taken = pieces.add(PhysAddr{start}, bytes);
      CHECK(taken <= bytes);
      if (taken != bytes && taken != 0 && input.below(2) == 0) {  // whole or not at all, as the queue merges
        pieces.rewind(mark);
        if (pieces.bytes() == 0)
          taken = pieces.add(PhysAddr{start}, bytes);
        else
          taken = 0;
      }
      start += taken;
      bytes -= taken;
      if (bytes != 0) end_command();
    }
  }
  if (pieces.bytes() != 0) end_command();
  CHECK(given.size() == made.size());
  for (usize i = 0; i < given.size(); ++i) CHECK(given[i].start == made[i].start && given[i].bytes == made[i].bytes);
}

}  // namespace paean::fuzz
