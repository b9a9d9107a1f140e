// Contents of tmpfs files: who pays for a page, and what one that was never written holds.
#include "kernel/fs/tmpfs.hpp"
#include "mm/highmem.hpp"

namespace paean {

namespace {

constexpr u32 kSectorsInPage = kPageSize / 512;

}  // namespace

/// A page of a hole that a program has mapped, or that is written in part; it stays as long as the file. (One that is
/// read is not kept.) It is charged beyond the limit too: what has no error to give does not fail for want of space.
void Tmpfs::read_folio(AddressSpace& space, Folio& folio) {
  for (u32 i = 0; i < folio.pages(); ++i) clear_highpage(folio.page(i));
  static_cast<TmpFile&>(space).charged.fetch_add(folio.pages(), std::memory_order_relaxed);
  charged_.fetch_add(folio.pages(), std::memory_order_relaxed);
  folio.end_read({});
}

void Tmpfs::write_folio(AddressSpace&, Folio&) {
  panic("a page of tmpfs is to be written, but there is no place for it");
}

/// All of them or none.
bool Tmpfs::charge(TmpFile& file, u32 pages) {
  u32 charged = charged_.load(std::memory_order_relaxed);
  do {
    const u32 limit = limit_.load(std::memory_order_relaxed);
    if (charged >= limit || limit - charged < pages) return false;
  } while (!charged_.compare_exchange_weak(charged, charged + pages, std::memory_order_relaxed));
  file.charged.fetch_add(pages, std::memory_order_relaxed);
  return true;
}

/// What was charged for pages that then were not made, because memory was short or in pieces, pays for these.
Result<> Tmpfs::prepare_write(AddressSpace& space, u64 offset, u32 bytes) {
  auto& file = static_cast<TmpFile&>(space);
  const auto first = static_cast<u32>(offset >> kPageShift);
  const auto last = static_cast<u32>((offset + bytes - 1) >> kPageShift);
  u32 missing = 0;
  for (u32 index = first; index <= last; ++index) missing += space.find_page(index) ? 0 : 1;
  const u32 paid = file.charged.load(std::memory_order_relaxed), wanted = space.pages() + missing;
  if (missing == 0 || wanted <= paid) return {};
  return charge(file, wanted - paid) ? Result<>{} : std::unexpected(Error::NoSpace);
}

/// What was charged for pages that have gone, or that were never made because there was no memory, is given back.
/// Nobody writes meanwhile.
void Tmpfs::recharge(TmpFile& file) {
  const u32 pages = file.pages();
  const u32 before = file.charged.exchange(pages, std::memory_order_relaxed);
  charged_.fetch_sub(before - pages, std::memory_order_relaxed);
}

Result<> Tmpfs::truncate(Inode& inode, u64) {
  auto& file = static_cast<TmpFile&>(*inode.contents);
  recharge(file);
  inode.blocks_512 = u64{file.charged.load(std::memory_order_relaxed)} * kSectorsInPage;
  return {};
}

Result<FsStatistics> Tmpfs::statistics() {
  const MutexGuard guard{mutex_};
  const u32 limit = limit_.load(std::memory_order_relaxed), used = charged();
  return FsStatistics{.block_bytes = kPageSize,
                      .blocks = limit,
                      .free_blocks = limit > used ? limit - used : 0,
                      .inodes = NodeTable::kMaxNodes,
                      .free_inodes = NodeTable::kMaxNodes - nodes_.used(),
                      .name_limit = 255};
}

}  // namespace paean
