// Contents of ext2 files: where their pages lie, and blocks for those that are about to be written.
#include <algorithm>

#include "kernel/fs/ext2_fs.hpp"

namespace paean {

void Ext2Super::Extents::add(Extent part) {
  part.offset = count == 0 ? 0 : list[count - 1].offset + list[count - 1].bytes;
  if (count > 0) {
    Extent& last = list[count - 1];
    const bool follows =
        last.hole ? part.hole : !part.hole && last.sector + (last.bytes >> kSectorShift) == part.sector;
    if (follows) {
      last.bytes += part.bytes;
      return;
    }
  }
  list[count++] = part;
}

/// Pointers and marks of one moment. A writer on a full disk may give a fresh block back between the two looks: then
/// again, while no mark comes or goes but by a write that has ended.
Result<> Ext2Super::map_to_read(Ext2File& file, const Folio& folio, Extents& extents) {
  const u32 before = file.fresh.changes();
  TRY(map_folio(file, folio, MapFor::Reading, extents));
  if (file.fresh.changes() == before) return {};
  extents.count = 0;
  const MutexGuard guard{mutex_};
  return map_folio(file, folio, MapFor::Reading, extents);
}

/// Never fails for want of memory.
Result<> Ext2Super::map_to_write(Ext2File& file, const Folio& folio, Extents& extents) {
  const Result<> mapped = map_folio(file, folio, MapFor::Writing, extents);
  if (mapped || mapped.error() != Error::OutOfMemory) return mapped;
  extents.count = 0;
  const Ext2Tables::Reserve reserve{tables_};
  return map_folio(file, folio, MapFor::Writing, extents);
}

/// Up to the block in which the file ends.
Result<> Ext2Super::map_folio(Ext2File& file, const Folio& folio, MapFor purpose, Extents& extents) {
  const Ext2Geometry& geometry = fs_.geometry();
  const auto record = TRY(fs_.volume().get<Ext2InodeRecord>(file.record_offset));
  const u32 block_bytes = geometry.block_bytes();
  const u64 end = std::min(folio.end(), file.size());
  u32 at = static_cast<u32>(folio.offset() >> geometry.block_shift);
  const u32 last = static_cast<u32>((end + block_bytes - 1) >> geometry.block_shift);
  while (at < last) {
    const bool reads = purpose == MapFor::Reading;
    const Ext2Run run = TRY(reads ? fs_.map(record, at, last - at) : fs_.map_to_write(record, at, last - at));
    const u64 fresh = reads ? file.fresh.among(at, run.blocks) : 0;
    for (u32 i = 0, blocks; i < run.blocks; i += blocks) {
      blocks = fresh == 0 ? run.blocks : 1;
      const bool hole = run.block == 0 || (fresh >> i & 1) != 0;
      extents.add({.bytes = blocks * block_bytes,
                   .hole = hole,
                   .sector = hole ? 0 : geometry.offset_of(run.block + i) >> kSectorShift});
    }
    at += run.blocks;
  }
  return {};
}

void Ext2Super::read_folios(AddressSpace& space, std::span<Folio* const> folios) {
  FolioRequests requests{tables_.device()};
  for (Folio* folio : folios) {
    Extents extents;
    const Result<> mapped = map_to_read(static_cast<Ext2File&>(space), *folio, extents);
    if (mapped)
      requests.read(*folio, {extents.list, extents.count});
    else
      folio->end_read(mapped);
  }
}

void Ext2Super::write_mapped(Ext2File& file, Folio& folio, FolioRequests& requests) {
  Extents extents;
  const Result<> mapped = map_to_write(file, folio, extents);
  if (!mapped) return folio.end_write(mapped);
  const u32 shift = fs_.geometry().block_shift;
  // A block that is allocated just now may not be among them, and stays fresh.
  for (const Extent& extent : std::span<const Extent>{extents.list, extents.count}) {
    if (extent.hole) continue;
    file.fresh.begin(static_cast<u32>((folio.offset() + extent.offset) >> shift), extent.bytes >> shift);
  }
  requests.write(folio, {extents.list, extents.count});
}

void Ext2Super::write_folios(AddressSpace& space, std::span<Folio* const> folios) {
  FolioRequests requests{tables_.device()};
  for (Folio* folio : folios) write_mapped(static_cast<Ext2File&>(space), *folio, requests);
}

void Ext2Super::write_ends(Folio& folio, Result<> result) {
  const u32 shift = fs_.geometry().block_shift;
  static_cast<Ext2File*>(folio.space())
      ->fresh.end(static_cast<u32>(folio.offset() >> shift), folio.pages() << (kPageShift - shift), result);
}

/// One fresh block goes back. Write-back of its page may have found it before, and ends before anybody else gets it.
Result<> Ext2Super::give_back(Ext2File& file, u32 block) {
  TRY(fs_.punch_block(file.inode.number, block));  // otherwise it stays, with its mark
  file.fresh.remove(block, 1);
  const FolioRef folio = file.find_page(block >> (kPageShift - fs_.geometry().block_shift));
  if (folio) folio->wait_until_written();
  return {};
}

/// Blocks that were allocated for a write which then did not happen, or failed, go back. The caller is the file's last
/// user and has written what can be, so nobody writes.
Result<> Ext2Super::settle(Ext2File& file) {
  for (u32 block; (block = file.fresh.first()) != FreshBlocks::kNone;) TRY(give_back(file, block));
  return {};
}

/// The file's blocks end where a size does.
Result<> Ext2Super::cut(Ext2File& file, u64 size) {
  TRY(fs_.truncate(file.inode.number, size));
  const u64 keep = (size + fs_.geometry().block_bytes() - 1) >> fs_.geometry().block_shift;
  if (keep <= ~0u) file.fresh.remove(static_cast<u32>(keep));
  if (size <= file.cut_at) file.cut_at = Ext2File::kWhole;
  return {};
}

Result<> Ext2Super::finish_cut(Ext2File& file) {
  return file.cut_at != Ext2File::kWhole ? cut(file, file.cut_at) : Result<>{};
}

/// Blocks are marked before a reader can find them.
Result<Ext2NewBlock::Age> Ext2Super::allocate_block(Ext2File& file, u32 block, u64 end) {
  const auto record = TRY(fs_.volume().get<Ext2InodeRecord>(file.record_offset));
  const Ext2Run run = TRY(fs_.map(record, block, 1));
  if (run.block == 0) TRY(file.fresh.add(block));
  const Result<Ext2NewBlock> found = fs_.need_block(file.inode.number, block, end);
  if (found) return found->age;
  if (run.block == 0) file.fresh.remove(block, 1);
  return std::unexpected(found.error());
}

/// All of them, or none; what cannot go back now stays fresh, for settle().
Result<> Ext2Super::allocate(Ext2File& file, u32 first, u32 last, u64 end) {
  ASSERT(last - first < 64);
  const u32 shift = fs_.geometry().block_shift;
  u64 taken = 0;  // bit i: block first + i
  for (u32 block = first; block <= last; ++block) {
    const auto age = allocate_block(file, block, std::min(end, (u64{block} + 1) << shift));
    if (age) {
      if (*age == Ext2NewBlock::Age::Fresh) taken |= u64{1} << (block - first);
      continue;
    }
    for (u32 back = first; back < block; ++back) {
      if ((taken >> (back - first) & 1) != 0) (void)give_back(file, back);
    }
    return std::unexpected(age.error());
  }
  return {};
}

Result<> Ext2Super::prepare_write(AddressSpace& space, u64 offset, u32 bytes) {
  auto& file = static_cast<Ext2File&>(space);
  const u32 shift = fs_.geometry().block_shift;
  const u64 end = offset + bytes;
  if ((end - 1) >> shift >= ~0u) return std::unexpected(Error::TooLarge);
  const MutexGuard guard{mutex_};
  TRY(may_change());
  TRY(finish_cut(file));
  const Result<> done = allocate(file, static_cast<u32>(offset >> shift), static_cast<u32>((end - 1) >> shift), end);
  // The record has the size of a write that may not happen; the inode's, which is right then, is written later.
  file.inode.attributes_dirty = true;
  note(file.inode);
  return done;
}

/// What was never written is given back first: it would show somebody's old contents.
Result<BlockDevice*> Ext2Super::for_each_run(Inode& inode, FileRunVisitor visit, void* context) {
  const MutexGuard guard{mutex_};
  TRY(may_change());
  auto& file = static_cast<Ext2File&>(*inode.contents);
  TRY(finish_cut(file));
  TRY(settle(file));
  const Ext2Geometry& geometry = fs_.geometry();
  const auto record = TRY(fs_.volume().get<Ext2InodeRecord>(file.record_offset));
  const u32 blocks = static_cast<u32>((file.size() + geometry.block_bytes() - 1) >> geometry.block_shift);
  for (u32 at = 0; at < blocks;) {
    const Ext2Run run = TRY(fs_.map(record, at, blocks - at));
    if (run.block == 0) return std::unexpected(Error::InvalidArgument);
    visit(context, {.offset = u64{at} << geometry.block_shift,
                    .bytes = u64{run.blocks} << geometry.block_shift,
                    .sector = geometry.offset_of(run.block) >> kSectorShift});
    at += run.blocks;
  }
  return &tables_.device();
}

}  // namespace paean
