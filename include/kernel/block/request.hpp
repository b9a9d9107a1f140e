// A request to a block device: pages to be read or written. Never addresses, because most pages have none.
//
//   filled in --submit()--> bounced? --> queued --> merged into a command --> device --> done(request, result)
//
// The memory is the submitter's and must stay until `done` is called, exactly once for each submit(), in any context,
// interrupts included, and possibly before submit() returns. Afterwards the request may be submitted again.
//
// Requests that are on their way together are carried out in no particular order: who writes a sector twice, or reads
// what he writes, waits in between. Only a flush keeps order: all that was submitted before it is done first, and what
// comes later waits for it. A request of any length is allowed; one that a device cannot do at once is done in parts,
// front to back. When one fails, parts of its sectors may have been transferred; a bounced part that fails leaves its
// pages as they were.
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set_hook.hpp>
#include <span>

#include "lib/result.hpp"
#include "mm/page.hpp"

namespace paean {

class BlockDevice;

using Sector = u64;
inline constexpr u32 kSectorShift = 9, kSectorBytes = 1u << kSectorShift;

/// A piece of memory that is contiguous in frames: it begins `offset` bytes into `page` (less than a page) and may run
/// on over the frames behind it. Both numbers are multiples of a sector. Not a page of a virtual block.
struct Segment {
  Page* page = nullptr;
  u32 offset = 0;
  u32 bytes = 0;
};

/// Flush: everything written before is on the medium when it is done; has no segments.
enum class BlockOp : u8 { Read, Write, Flush };

struct BlockRequest : boost::intrusive::list_base_hook<> {
  BlockOp op = BlockOp::Read;
  Sector sector = 0;  // of the device that it is submitted to
  std::span<const Segment> segments{};
  /// Errors: Io, TimedOut; InvalidArgument for segments that are none or run over the device's end; ReadOnly.
  void (*done)(BlockRequest& request, Result<> result) = nullptr;
  void* owner = nullptr;  // for `done`

  u32 sectors() const {
    u32 bytes = 0;
    for (const Segment& segment : segments) bytes += segment.bytes;
    return bytes >> kSectorShift;
  }

  // The block layer's.
  boost::intrusive::set_member_hook<> by_sector{};
  Sector position = 0;              // on the whole device, of what is still to be done
  u32 at_segment = 0, at_byte = 0;  // the same, in `segments`
  u32 arrived = 0;                  // tick
  bool alone = false;               // not to be merged: it failed together with others
  u32 parts_left = 0;               // of a bounced request, and one for its submitter
  Error error{};                    // of the first part that failed
  bool failed = false;
};

using BlockRequests = boost::intrusive::list<BlockRequest>;

/// Gives the request to its device. May sleep while bounce memory is reserved, before anything is queued. The caller
/// knows that the device stays, see open_block_device().
void submit(BlockDevice& device, BlockRequest& request);
/// The same for several at once, and the list is empty then. Those that follow each other make one command, where one
/// by one the first would be on its way before the second comes.
void submit(BlockDevice& device, BlockRequests& requests);
/// The same, and waits. May sleep.
Result<> submit_and_wait(BlockDevice& device, BlockOp op, Sector sector, std::span<const Segment> segments);

}  // namespace paean
