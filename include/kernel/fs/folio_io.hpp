// From folios to requests: for stores whose pages lie on a block device, in one piece or in several.
//
//   map(folio) -> extents --> one request an extent --> all done --> Folio::end_read() or end_write()
//
// Extents that follow each other on the device become one request. Parts of a folio that lie in a hole of the file, and
// those behind the end of the file, are filled with zeros when it is read; holes are not written.
//
// Requests come from an object cache. When it has none left, the transfer is done piece by piece on the caller's stack,
// which waits for each: slow, but write-back never waits for memory that only it can give.
#pragma once

#include "kernel/block/device.hpp"
#include "mm/page_cache.hpp"

namespace paean {

/// A part of a folio and where it lies on the device; multiples of a sector.
struct Extent {
  u32 offset = 0;  // bytes from the folio's start
  u32 bytes = 0;
  bool hole = false;
  Sector sector = 0;
};
/// 16 pages of blocks of 1 KiB, none beside the other.
inline constexpr u32 kMaxExtents = 64;

/// Extents in ascending order that cover the folio's part of the file; what lies behind them becomes zeros. A store
/// that cannot say where a folio lies answers itself, with the error. May sleep.
void read_folio_extents(BlockDevice& device, Folio& folio, std::span<const Extent> extents);
/// Collects the requests of several folios, and submits them when it ends: see submit() of several requests. A folio
/// that was given is the device's from then on. Lives on a stack, and only as long as mapping folios takes.
class FolioRequests {
 public:
  explicit FolioRequests(BlockDevice& device) : device_(device) {}
  ~FolioRequests() { submit(device_, requests_); }
  FolioRequests(const FolioRequests&) = delete;
  FolioRequests& operator=(const FolioRequests&) = delete;
  /// As read_folio_extents() and write_folio_extents().
  void read(Folio& folio, std::span<const Extent> extents);
  void write(Folio& folio, std::span<const Extent> extents);

 private:
  BlockDevice& device_;
  BlockRequests requests_;
};
void write_folio_extents(BlockDevice& device, Folio& folio, std::span<const Extent> extents);

/// Where pages for files on this device should come from. A device that does not reach all memory gets pages below
/// 4 GiB while there are plenty, because each page above them is copied on every transfer. Bytes copied for a file of
/// 1 MiB on a device of 32 bits (tests/unit/device_pages_test.cpp):
///
///                          read 4 times   streamed once   rewritten and synced 4 times
///   while there are plenty            0               0                              0
///   from anywhere                 1 MiB           1 MiB                          4 MiB
///
/// So the first line never copies more, and no file has to show first that it is used often. When there are no longer
/// plenty, whoever came first has them, a stream too, and for later files the second line is true.
AllocFlags pages_for(const BlockDevice& device);
enum class DevicePages : u8 { WhereItReaches, Anywhere };
/// For those who want to measure the difference. WhereItReaches at boot.
void set_device_pages(DevicePages policy);

/// The contents of a whole block device in the page cache: what file systems keep their tables in. The same for all who
/// have it open. Its pages and the file system's files are different pages: no block may be in use by both.
/// OutOfMemory. May sleep.
Result<AddressSpace*> open_device_contents(BlockDevice& device);
/// The last one to close it writes what is dirty, drops the pages, and hears of errors; it is closed then in any case.
/// May sleep.
Result<> close_device_contents(BlockDevice& device);

/// Cached pages of devices: `Buffers` of meminfo. May sleep.
u32 device_contents_pages();

/// Makes the object caches. Boot, once, after init_slab().
void init_folio_io();

}  // namespace paean
