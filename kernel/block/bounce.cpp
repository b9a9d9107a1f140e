#include "kernel/block/bounce.hpp"

#include <algorithm>

#include "kernel/block/queue.hpp"
#include "kernel/log_lines.hpp"
#include "mm/highmem.hpp"

namespace paean {

namespace {

constexpr PhysAddr kDmaLast{16 * kMiB - 1}, kDma32Last{4 * kGiB - 1};

constinit BouncePool pools[2];

PhysAddr address_of(const Segment& segment) { return to_phys(page_to_pfn(segment.page)) + segment.offset; }

/// Where a request has been taken apart to.
class Cursor {
 public:
  Cursor(std::span<const Segment> segments, PhysAddr highest) : segments_(segments), highest_(highest) {}

  bool at_end() const { return segment_ == segments_.size(); }
  /// What comes next: as much as is reached in one run, or what is not within one page.
  struct Piece {
    PhysAddr start;
    u32 bytes;
    bool reached;
  };
  Piece piece() const {
    const PhysAddr at = address_of(segments_[segment_]) + byte_;
    const u32 rest = segments_[segment_].bytes - byte_;
    if (at > highest_) return {at, std::min(rest, kPageSize - at.page_offset()), false};
    const u64 reached = highest_ - at + 1;  // 0: everything
    return {at, reached == 0 || reached > rest ? rest : static_cast<u32>(reached), true};
  }
  void skip(u32 bytes) {
    byte_ += bytes;
    if (byte_ != segments_[segment_].bytes) return;
    byte_ = 0;
    ++segment_;
  }

 private:
  std::span<const Segment> segments_;
  PhysAddr highest_;
  usize segment_ = 0;
  u32 byte_ = 0;
};

/// Sectors to be bounced in the next part.
u32 sectors_wanted(Cursor cursor, u32 most) {
  u32 sectors = 0;
  for (u32 pieces = 0; pieces < BounceRecord::kPieces && sectors < most && !cursor.at_end(); ++pieces) {
    const Cursor::Piece piece = cursor.piece();
    if (!piece.reached) sectors += piece.bytes >> kSectorShift;
    cursor.skip(piece.bytes);
  }
  return std::min(sectors, most);
}

void fill_part(BounceRecord& part, Cursor& cursor) {
  while (part.pieces < BounceRecord::kPieces && !cursor.at_end()) {
    const Cursor::Piece piece = cursor.piece();
    Page* page = pfn_to_page(to_pfn(piece.start));
    const u32 offset = piece.start.page_offset();
    u32 taken = piece.bytes;
    if (piece.reached) {
      part.segments[part.pieces] = {page, offset, taken};
      part.targets[part.pieces] = {};
      ++part.pieces;
    } else {
      if (part.reserved == 0) break;
      taken = part.pool->add_bounced(part, page, offset, piece.bytes);
    }
    cursor.skip(taken);
  }
}

enum class Direction : u8 { IntoBounce, OutOfBounce };

/// Bytes copied. Any context.
u32 copy(const BounceRecord& part, Direction direction) {
  u32 copied = 0;
  for (u32 i = 0; i < part.pieces; ++i) {
    const BounceRecord::Target& target = part.targets[i];
    const Segment& bounce = part.segments[i];
    if (target.page == nullptr) continue;
    const KmapAtomic there{target.page}, here{bounce.page};
    const auto outside = there.bytes().subspan(target.offset, bounce.bytes);
    const auto inside = here.bytes().subspan(bounce.offset, bounce.bytes);
    if (direction == Direction::IntoBounce)
      std::ranges::copy(outside, inside.begin());
    else
      std::ranges::copy(inside, outside.begin());
    copied += bounce.bytes;
  }
  return copied;
}

u32 bounced_sectors(const BounceRecord& part) {
  u32 sectors = 0;
  for (u32 i = 0; i < part.pieces; ++i)
    sectors += part.targets[i].page != nullptr ? part.segments[i].bytes >> kSectorShift : 0;
  return sectors;
}

/// One part less, or the submitter's own count; the last one tells.
void drop_part(BlockRequest& request) {
  if (__atomic_sub_fetch(&request.parts_left, 1, __ATOMIC_SEQ_CST) != 0) return;
  request.done(request, request.failed ? Result<>{std::unexpected(request.error)} : Result<>{});
}

void part_done(BlockRequest& queued, Result<> result) {
  auto& part = *static_cast<BounceRecord*>(queued.owner);
  BlockRequest& whole = *part.whole;
  if (!result) {
    if (!__atomic_exchange_n(&whole.failed, true, __ATOMIC_SEQ_CST)) whole.error = result.error();
  } else if (queued.op == BlockOp::Read) {
    (void)copy(part, Direction::OutOfBounce);
  }
  part.pool->release(part);
  drop_part(whole);
}

}  // namespace

bool needs_bounce(const BlockLimits& limits, std::span<const Segment> segments) {
  return std::ranges::any_of(
      segments, [&](const Segment& segment) { return address_of(segment) + (segment.bytes - 1) > limits.highest; });
}

void add_bounced(BlockQueue& queue, const BlockLimits& limits, BouncePool& pool, BlockRequest& request) {
  request.parts_left = 1;
  request.failed = false;
  Sector position = request.position;
  for (Cursor cursor{request.segments, limits.highest};
       !cursor.at_end() && !__atomic_load_n(&request.failed, __ATOMIC_SEQ_CST);) {
    BounceRecord& part = pool.reserve(sectors_wanted(cursor, pool.most_sectors()));
    fill_part(part, cursor);
    pool.give_rest(part);
    if (request.op == BlockOp::Write) (void)copy(part, Direction::IntoBounce);
    const u32 sectors = bounced_sectors(part);
    pool.count(request.op, sectors);
    queue.count_bounced(sectors << kSectorShift);

    part.whole = &request;
    BlockRequest& queued = part.request;
    queued.op = request.op;
    queued.position = position;
    queued.segments = {part.segments, part.pieces};
    queued.at_segment = queued.at_byte = 0;
    queued.alone = false;
    queued.owner = &part;
    queued.done = part_done;
    position += queued.sectors();
    __atomic_fetch_add(&request.parts_left, 1, __ATOMIC_SEQ_CST);
    queue.add(queued);
  }
  drop_part(request);
}

BouncePool& bounce_pool(BounceKind kind) { return pools[std::to_underlying(kind)]; }

Result<BouncePool*> bounce_pool_for(const BlockLimits& limits) {
  if (limits.highest + 1 >= to_phys(frame_limit()) || limits.highest == PhysAddr{~u64{0}}) return nullptr;
  if (limits.highest < kDmaLast) return std::unexpected(Error::NotSupported);
  BouncePool& pool = bounce_pool(limits.highest < kDma32Last ? BounceKind::Dma : BounceKind::Dma32);
  if (pool.empty()) return std::unexpected(Error::OutOfMemory);
  return &pool;
}

void init_bounce_pools(const CommandLine& options) {
  LogLines complaints{LogLevel::Warning};
  const auto pages = [&](u32 usual) {
    return static_cast<u32>(options.number_in("bouncepool", 2, kMostPoolPages, usual, complaints));
  };
  const auto fill = [&](BounceKind kind, u32 usual, AllocFlags flags, PhysAddr last) {
    if (to_phys(frame_limit()) <= last + 1) return;  // every device of the kind reaches all
    if (!bounce_pool(kind).fill(pages(usual), flags, last)) format_to(complaints, "no bounce memory below {}\n", last);
  };
  fill(BounceKind::Dma, kDmaPoolPages, AllocFlags::Dma, kDmaLast);
  fill(BounceKind::Dma32, kDma32PoolPages, AllocFlags::Dma32, kDma32Last);
}

void print_bounce(Sink& out) {
  static constexpr std::string_view kNames[] = {"DMA", "DMA32"};
  format_to(out, "{:<6} {:>6} {:>8} {:>8} {:>9} {:>8} {:>8} {:>10} {:>12} {:>12}\n", "pool", "pages", "sectors", "free",
            "most used", "waiting", "waits", "parts", "read", "written");
  for (u32 i = 0; i < 2; ++i) {
    const BounceStatistics s = pools[i].statistics();
    format_to(out, "{:<6} {:>6} {:>8} {:>8} {:>9} {:>8} {:>8} {:>10} {:>12} {:>12}\n", kNames[i], s.pages, s.sectors,
              s.free, s.most_used, s.waiting, s.waits, s.parts, s.sectors_read, s.sectors_written);
  }
}

u64 bounced_bytes_now() {
  u64 bytes = 0;
  for (BouncePool& pool : pools) {
    const BounceStatistics s = pool.statistics();
    bytes += u64{s.sectors - s.free} << kSectorShift;
  }
  return bytes;
}

}  // namespace paean
