// Tables of an ext2 volume in the page cache.
#include "kernel/fs/ext2_fs.hpp"
#include "kernel/fs/file_time.hpp"
#include "lib/log.hpp"

namespace paean {

Ext2Tables::~Ext2Tables() {
  (void)space_.truncate(0);
  if (reserve_ != nullptr) free_page(reserve_);
}

Result<> Ext2Tables::take_reserve() {
  reserve_ = TRY(alloc_page(page_flags()));
  return {};
}

Ext2Tables::Reserve::Reserve(Ext2Tables& tables) : tables_(tables) {
  tables.reserve_free_.down();
  __atomic_store_n(&tables.reserve_user_, current_thread(), __ATOMIC_RELAXED);
}

Ext2Tables::Reserve::~Reserve() {
  __atomic_store_n(&tables_.reserve_user_, nullptr, __ATOMIC_RELAXED);
  tables_.reserve_free_.up();
}

/// What is not in the cache is on the medium as it was last changed.
Result<> Ext2Tables::view_in_reserve(u64 offset, u32 bytes, Viewer viewer, void* context) {
  const u32 block_bytes = 1u << block_shift_;
  const Segment segment{reserve_, 0, block_bytes};
  const Sector sector = offset >> block_shift_ << (block_shift_ - kSectorShift);
  TRY(submit_and_wait(device_, BlockOp::Read, sector, {&segment, 1}));
  const KmapLocal map{reserve_};
  viewer(context, std::span<const u8>{map.bytes()}.subspan(static_cast<u32>(offset & (block_bytes - 1)), bytes));
  return {};
}

Result<> Ext2Tables::view(u64 offset, u32 bytes, Viewer viewer, void* context) {
  const u64 place = place_of(offset);
  const u32 index = static_cast<u32>(place >> kPageShift);
  const Result<FolioRef> folio = space_.read_page(index, nullptr);
  if (!folio && folio.error() == Error::OutOfMemory && have_reserve()) {
    return view_in_reserve(offset, bytes, viewer, context);
  }
  if (!folio) return std::unexpected(folio.error() == Error::NotFound ? Error::Io : folio.error());
  const KmapLocal map{(*folio)->page_at(index)};
  viewer(context, std::span<const u8>{map.bytes()}.subspan(place & (kPageSize - 1), bytes));
  return {};
}

Result<> Ext2Tables::change(u64 offset, u32 bytes, Changer changer, void* context) {
  if (device_.read_only()) return std::unexpected(Error::ReadOnly);
  const Result<> done = space_.update(place_of(offset), bytes, [&](std::span<u8> found) { changer(context, found); });
  if (!done && done.error() == Error::NotFound) return std::unexpected(Error::Io);
  return done;
}

void Ext2Tables::forget(u32 block) { space_.discard(block); }

u32 Ext2Tables::now() { return file_time_now(); }

void Ext2Tables::complain(std::string_view what) {
  log_warning("ext2 {}: {}; read-only from now on", device_.name(), what);
}

Extent Ext2Tables::extent_of(const Folio& folio) const {
  return {.offset = 0,
          .bytes = 1u << block_shift_,
          .hole = false,
          .sector = u64{folio.index()} << (block_shift_ - kSectorShift)};
}

void Ext2Tables::read_folio(AddressSpace&, Folio& folio) {
  const Extent extent = extent_of(folio);
  read_folio_extents(device_, folio, {&extent, 1});
}

void Ext2Tables::write_folios(AddressSpace&, std::span<Folio* const> folios) {
  FolioRequests requests{device_};
  for (Folio* folio : folios) {
    const Extent extent = extent_of(*folio);
    requests.write(*folio, {&extent, 1});
  }
}

Result<> Ext2Tables::sync() {
  TRY(space_.sync());
  return submit_and_wait(device_, BlockOp::Flush, 0, {});
}

}  // namespace paean
