// Reads a device front to back with large requests: what its driver gives when nothing else is in the way.
//
//   request 0 | request 1 | ... | request 7     always so many on their way; each goes on behind the last one
//
// Memory for the requests is the caller's, because a stack has no room for it; pages are taken by prepare().
#pragma once

#include "kernel/block/device.hpp"
#include "kernel/sync.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

class DiskReader {
 public:
  static constexpr u32 kPages = 32, kRequests = 8, kBytes = kPages * kPageSize;

  /// Blocks of 2^order pages, each of them one segment; `order` at most 5.
  DiskReader(Order order, AllocFlags flags) : order_(order), flags_(flags) {}
  ~DiskReader() {
    while (blocks_ != 0) free_pages(block(--blocks_).page, order_);
  }
  DiskReader(const DiskReader&) = delete;
  DiskReader& operator=(const DiskReader&) = delete;

  Result<> prepare() {
    for (; blocks_ < kRequests * segments(); ++blocks_) {
      block(blocks_) = { TRY(alloc_pages(flags_, order_, Owner::Test)), 0, order_.pages() * kPageSize };
    }
    return {};
  }

  /// The first `bytes` of the disk, a multiple of kBytes; `take(segments)` sees what has come, in order, before its
  /// memory is used again. False if a read failed.
  template <typename Take>
  bool run(BlockDevice& disk, u32 bytes, Take take) {
    bool failed = false;
    const u32 parts = bytes / kBytes;
    for (u32 i = 0; i < parts + kRequests; ++i) {
      Request& request = requests_[i % kRequests];
      if (i >= kRequests) {
        request.finished.down();
        failed |= request.failed;
        take(request.segments);
      }
      if (i >= parts) continue;
      request.segments = std::span{request.parts}.first(segments());
      request.done = on_done;
      request.sector = u64{i} * (kBytes / kSectorBytes);
      submit(disk, request);
    }
    return !failed;
  }

 private:
  struct Request : BlockRequest {
    Semaphore finished{0};
    bool failed = false;
    Segment parts[kPages]{};
  };
  static void on_done(BlockRequest& request, Result<> result) {
    auto& mine = static_cast<Request&>(request);
    if (!result) mine.failed = true;
    mine.finished.up();
  }
  u32 segments() const { return kPages >> order_.value(); }
  Segment& block(u32 number) { return requests_[number / segments()].parts[number % segments()]; }

  Order order_;
  AllocFlags flags_;
  Request requests_[kRequests];
  u32 blocks_ = 0;
};

}  // namespace paean
