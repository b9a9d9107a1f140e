#include "kernel/fs/folio_io.hpp"

#include <algorithm>
#include <new>

#include "kernel/fault.hpp"
#include "mm/slab.hpp"

namespace paean {

namespace {

FAULT_SITE(folio_transfer, "a record of a folio's transfer, or of one of its requests");

constinit ObjectCache transfers;
constinit ObjectCache pieces;
constinit std::atomic<DevicePages> device_pages{DevicePages::WhereItReaches};

constexpr AllocFlags kFlags = AllocFlags::Kernel | AllocFlags::NoIo | AllocFlags::NoWarn;

/// One folio on its way.
struct Transfer {
  Folio* folio;
  BlockOp op;
  u64 file_end;               // when it began: the folio is locked, so nobody writes behind it meanwhile
  std::atomic<u32> left{1};   // requests, and one while they are being submitted
  std::atomic<u32> error{0};  // the first one, plus 1
};

struct Piece : BlockRequest {
  Segment segment;
};

Result<> first_error(u32 error) {
  if (error == 0) return {};
  return std::unexpected(static_cast<Error>(error - 1));
}

void zero_part(Folio& folio, u32 from, u32 end) {
  while (from < end) {
    const u32 in_page = from % kPageSize, bytes = std::min(end - from, kPageSize - in_page);
    zero_user(folio.page(from >> kPageShift), in_page, bytes);
    from += bytes;
  }
}

u32 bytes_of(const Folio& folio) { return folio.pages() * kPageSize; }

void end(Folio& folio, BlockOp op, u64 file_end, Result<> result) {
  if (op == BlockOp::Write) {
    folio.space()->store().write_ends(folio, result);
    return folio.end_write(result);
  }
  // The file's last block may have anything behind the end of the file.
  if (result && file_end < folio.end()) {
    zero_part(folio, file_end <= folio.offset() ? 0 : static_cast<u32>(file_end - folio.offset()), bytes_of(folio));
  }
  folio.end_read(result);
}

void drop(Transfer* transfer) {
  if (transfer->left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const Transfer ended{transfer->folio, transfer->op, transfer->file_end, {}, {}};
  const Result<> result = first_error(transfer->error.load(std::memory_order_relaxed));
  give_object(transfers, transfer);
  end(*ended.folio, ended.op, ended.file_end, result);
}

void piece_done(BlockRequest& request, Result<> result) {
  auto* transfer = static_cast<Transfer*>(request.owner);
  if (!result) {
    u32 none = 0;
    transfer->error.compare_exchange_strong(none, static_cast<u32>(result.error()) + 1);
  }
  give_object(pieces, &static_cast<Piece&>(request));
  drop(transfer);
}

/// Extents from the n-th on that make one request; the n of the next one.
struct Run {
  Extent extent;
  usize next;
};
Run run_at(std::span<const Extent> extents, usize n) {
  Extent run = extents[n++];
  while (n < extents.size() && !run.hole && !extents[n].hole && extents[n].offset == run.offset + run.bytes &&
         extents[n].sector == run.sector + (run.bytes >> kSectorShift)) {
    run.bytes += extents[n++].bytes;
  }
  return {run, n};
}

Segment segment_of(const Folio& folio, const Extent& extent) {
  return {folio.page(extent.offset >> kPageShift), extent.offset % kPageSize, extent.bytes};
}

/// Without memory of its own.
Result<> transfer_slowly(BlockDevice& device, Folio& folio, BlockOp op, std::span<const Extent> extents) {
  Result<> result{};
  for (usize n = 0; n < extents.size();) {
    const Run run = run_at(extents, n);
    n = run.next;
    if (run.extent.hole) continue;
    const Segment segment = segment_of(folio, run.extent);
    const Result<> done = submit_and_wait(device, op, run.extent.sector, {&segment, 1});
    if (result) result = done;
  }
  return result;
}

Piece* make_piece() {
  if (must_fail(fault_folio_transfer)) return nullptr;
  const Result<void*> memory = take_object(pieces, kFlags);
  return memory ? new (*memory) Piece : nullptr;
}

Transfer* make_transfer(Folio& folio, BlockOp op, u64 file_end) {
  if (must_fail(fault_folio_transfer)) return nullptr;
  const Result<void*> memory = take_object(transfers, kFlags);
  return memory ? new (*memory) Transfer{&folio, op, file_end, {1}, {0}} : nullptr;
}

/// Leaves its requests in the list.
void transfer(BlockDevice& device, Folio& folio, BlockOp op, std::span<const Extent> extents, BlockRequests& requests) {
  const u64 file_end = folio.space()->size();
  Transfer* transfer = make_transfer(folio, op, file_end);
  if (transfer == nullptr) return end(folio, op, file_end, transfer_slowly(device, folio, op, extents));
  for (usize n = 0; n < extents.size();) {
    const Run run = run_at(extents, n);
    n = run.next;
    if (run.extent.hole) continue;
    Piece* piece = make_piece();
    if (piece == nullptr) {
      const Extent rest[] = {run.extent};
      if (const Result<> done = transfer_slowly(device, folio, op, rest); !done) {
        u32 none = 0;
        transfer->error.compare_exchange_strong(none, static_cast<u32>(done.error()) + 1);
      }
      continue;
    }
    piece->segment = segment_of(folio, run.extent);
    piece->op = op;
    piece->sector = run.extent.sector;
    piece->segments = {&piece->segment, 1};
    piece->done = piece_done;
    piece->owner = transfer;
    transfer->left.fetch_add(1, std::memory_order_relaxed);
    requests.push_back(*piece);
  }
  drop(transfer);
}

}  // namespace

void init_folio_io() {
  ASSERT(transfers.init({.name = "folio_transfer", .size = sizeof(Transfer), .align = alignof(Transfer)}).has_value());
  ASSERT(pieces.init({.name = "folio_request", .size = sizeof(Piece), .align = alignof(Piece)}).has_value());
}

void FolioRequests::read(Folio& folio, std::span<const Extent> extents) {
  ASSERT(extents.size() <= kMaxExtents);
  u32 covered = 0;
  for (const Extent& extent : extents) {
    ASSERT(extent.offset >= covered && extent.bytes <= bytes_of(folio) - extent.offset);
    zero_part(folio, covered, extent.hole ? extent.offset + extent.bytes : extent.offset);
    covered = extent.offset + extent.bytes;
  }
  zero_part(folio, covered, bytes_of(folio));
  transfer(device_, folio, BlockOp::Read, extents, requests_);
}

void read_folio_extents(BlockDevice& device, Folio& folio, std::span<const Extent> extents) {
  FolioRequests{device}.read(folio, extents);
}

void FolioRequests::write(Folio& folio, std::span<const Extent> extents) {
  ASSERT(extents.size() <= kMaxExtents);
  transfer(device_, folio, BlockOp::Write, extents, requests_);
}

void write_folio_extents(BlockDevice& device, Folio& folio, std::span<const Extent> extents) {
  FolioRequests{device}.write(folio, extents);
}

AllocFlags pages_for(const BlockDevice& device) {
  const bool reaches_all = device.limits().highest >= PhysAddr{64 * kTiB};
  if (reaches_all || device_pages.load(std::memory_order_relaxed) == DevicePages::Anywhere) return AllocFlags::HighUser;
  return AllocFlags::HighUser | AllocFlags::Dma32;
}

void set_device_pages(DevicePages policy) { device_pages.store(policy, std::memory_order_relaxed); }

}  // namespace paean
