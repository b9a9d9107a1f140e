#include "kernel/block/bounce.hpp"
#include "kernel/block/queue.hpp"
#include "kernel/sync.hpp"

namespace paean {

namespace {

/// Keeps the sum of a request's bytes in 32 bits.
constexpr u64 kMostBytes = 1 * kGiB;

bool is_memory(const Segment& segment) {
  if (segment.page == nullptr || segment.bytes == 0 || segment.offset >= kPageSize) return false;
  if ((segment.offset | segment.bytes) % kSectorBytes != 0 || segment.bytes > kMostBytes) return false;
  const Pfn first = page_to_pfn(segment.page);
  if (!(first < frame_limit()) || pages_for(segment.offset + segment.bytes) > frame_limit() - first) return false;
  return segment.page->type() != PageType::VCompound || segment.offset + segment.bytes <= kPageSize;
}

/// The request's sectors, if its segments make sense.
Result<u32> sectors_of(const BlockRequest& request) {
  u64 bytes = 0;
  for (const Segment& segment : request.segments) {
    bytes += segment.bytes;
    if (!is_memory(segment) || bytes > kMostBytes) return std::unexpected(Error::InvalidArgument);
  }
  if ((bytes == 0) != (request.op == BlockOp::Flush)) return std::unexpected(Error::InvalidArgument);
  return static_cast<u32>(bytes >> kSectorShift);
}

Result<> check(const BlockDevice& device, const BlockRequest& request) {
  if (request.op == BlockOp::Write && device.read_only()) return std::unexpected(Error::ReadOnly);
  const u32 sectors = TRY(sectors_of(request));
  if (sectors > device.sectors() || request.sector > device.sectors() - sectors)
    return std::unexpected(Error::InvalidArgument);
  return {};
}

struct Waiting : BlockRequest {
  Completion completion;
  Result<> result{};
};

void wake(BlockRequest& request, Result<> result) {
  auto& waiting = static_cast<Waiting&>(request);
  waiting.result = result;
  waiting.completion.complete();
}

/// The queue that it has to be added to; nullptr if it has been answered, or is on its way in parts.
BlockQueue* queue_for(BlockDevice& device, BlockRequest& request) {
  const Result<> checked = check(device, request);
  BlockQueue* queue = device.queue();
  if (!checked || queue == nullptr) {
    request.done(request, checked ? std::unexpected(Error::Io) : checked);
    return nullptr;
  }
  request.position = device.first_sector() + (request.op == BlockOp::Flush ? 0 : request.sector);
  request.at_segment = request.at_byte = 0;
  request.alone = false;
  BouncePool* pool = queue->bounce_pool();
  if (pool == nullptr || !needs_bounce(device.limits(), request.segments)) [[likely]]
    return queue;
  add_bounced(*queue, device.limits(), *pool, request);
  return nullptr;
}

}  // namespace

void submit(BlockDevice& device, BlockRequest& request) {
  if (BlockQueue* queue = queue_for(device, request)) queue->add(request);
}

void submit(BlockDevice& device, BlockRequests& requests) {
  BlockRequests reached;
  BlockQueue* all = nullptr;
  while (!requests.empty()) {
    BlockRequest& request = requests.front();
    requests.pop_front();
    BlockQueue* queue = queue_for(device, request);
    if (queue == nullptr) continue;
    all = queue;
    reached.push_back(request);
  }
  if (all != nullptr) all->add(reached);
}

Result<> submit_and_wait(BlockDevice& device, BlockOp op, Sector sector, std::span<const Segment> segments) {
  Waiting waiting;
  waiting.op = op;
  waiting.sector = sector;
  waiting.segments = segments;
  waiting.done = wake;
  submit(device, waiting);
  waiting.completion.wait();
  return waiting.result;
}

}  // namespace paean
