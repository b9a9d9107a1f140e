// Where cached pages come from and go to: the only thing that the page cache knows of devices and file systems.
//
// The cache calls; the store answers, once for each call, with Folio::end_read() or Folio::end_write(), in any context,
// interrupts included, and possibly before the call returns. How many requests it takes is the store's business.
#pragma once

#include <span>

#include "lib/result.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

class AddressSpace;
class Folio;

class BackingStore {
 public:
  /// Fills a folio that is locked and not up to date. Bytes behind the end of the file become zeros. May sleep.
  virtual void read_folio(AddressSpace& space, Folio& folio) = 0;
  /// The same for several, ascending in the file, of which each is answered for itself. For stores that can make large
  /// transfers of them.
  virtual void read_folios(AddressSpace& space, std::span<Folio* const> folios) {
    for (Folio* folio : folios) read_folio(space, *folio);
  }
  /// Writes a folio that is under write-back. The last block of the file is written to its end: what the folio has
  /// behind the end of the file is zeros, and they replace what truncation left on the medium. Blocks behind that one
  /// need not be written. May sleep, and must not wait for memory that only write-back can give: after OutOfMemory the
  /// folio is dirty again and comes back later.
  virtual void write_folio(AddressSpace& space, Folio& folio) = 0;
  virtual void write_folios(AddressSpace& space, std::span<Folio* const> folios) {
    for (Folio* folio : folios) write_folio(space, *folio);
  }
  /// Before [offset, offset + bytes) is made dirty, all of it in one folio: reserves what write-back will need, so that
  /// a full disk is an error of the write and not of the write-back. May sleep.
  virtual Result<> prepare_write(AddressSpace& space, u64 offset, u32 bytes) = 0;
  /// A write begun through kernel/fs/folio_io.hpp is over; the folio is still under write-back. Any context.
  virtual void write_ends(Folio&, Result<>) {}
  /// Where pages of this store should come from, and the largest folio that it likes to read at once.
  virtual AllocFlags page_flags() const { return AllocFlags::HighUser; }
  virtual Order largest_folio() const { return Order{4}; }
  /// False for memory file systems: their pages have no other home, so they are never clean and never evicted.
  virtual bool writes_back() const { return true; }

 protected:
  ~BackingStore() = default;
};

}  // namespace paean
