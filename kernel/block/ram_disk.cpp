#include "kernel/block/ram_disk.hpp"

#include <algorithm>
#include <new>

#include "kernel/log_lines.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"
#include "mm/page_alloc.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kMostPages = 1u << 28;

/// Within one page of each.
void copy_part(Page* to, u32 to_offset, Page* from, u32 from_offset, u32 bytes) {
  const KmapLocal target{to}, source{from};
  std::ranges::copy(source.bytes().subspan(from_offset, bytes), target.bytes().subspan(to_offset, bytes).begin());
}

}  // namespace

Result<> RamDisk::take_pages(u32 pages) {
  void* table = TRY(vmalloc(pages * sizeof(Page*), AllocFlags::HighUser, "RAM disk"));
  pages_ = {static_cast<Page**>(table), 0};
  for (u32 i = 0; i < pages; ++i) {
    const Result<Page*> page = alloc_page(AllocFlags::HighUser | AllocFlags::Zero | AllocFlags::NoWarn);
    if (!page) return std::unexpected(page.error());
    pages_ = {pages_.data(), i + 1};
    pages_[i] = *page;
  }
  return {};
}

void RamDisk::give_pages() {
  for (Page* page : pages_) free_page(page);
  vfree(static_cast<const void*>(pages_.data()));
}

Result<RamDisk*> RamDisk::create(std::string_view name, u64 bytes) {
  const u64 pages = bytes >> kPageShift;
  if (pages == 0 || name.size() >= sizeof(name_)) return std::unexpected(Error::InvalidArgument);
  if (pages > kMostPages) return std::unexpected(Error::TooLarge);
  void* memory = TRY(kmalloc(sizeof(RamDisk), AllocFlags::Kernel));
  auto* disk = new (memory) RamDisk;
  std::ranges::copy(name, disk->name_);
  disk->sectors_ = pages << (kPageShift - kSectorShift);
  disk->limits_.queue_depth = kDepth;

  Result<> done = disk->take_pages(static_cast<u32>(pages));
  if (done) {
    const Result<Thread*> thread = thread_create(name, serve, disk);
    if (thread) {
      disk->thread_ = *thread;
      done = register_block_device(*disk);
      if (done) return disk;
      disk->leave();
    } else {
      done = std::unexpected(thread.error());
    }
  }
  disk->give_pages();
  kfree(disk);
  return std::unexpected(done.error());
}

Result<> RamDisk::destroy(RamDisk* disk) {
  TRY(unregister_block_device(*disk));
  disk->leave();
  disk->give_pages();
  kfree(disk);
  return {};
}

/// Ends the thread, which has nothing to do any more.
void RamDisk::leave() {
  __atomic_store_n(&leaving_, 1, __ATOMIC_SEQ_CST);
  work_.wake_all();
  thread_join(thread_);
}

void RamDisk::start(BlockCommand& command) {
  ring_[started_ % kDepth] = &command;
  __atomic_store_n(&started_, started_ + 1, __ATOMIC_SEQ_CST);
  work_.wake_one();
}

/// Memory always answers: what has begun is waited for, and its answer counts.
void RamDisk::abort(BlockCommand&) {
  while (__atomic_load_n(&started_, __ATOMIC_SEQ_CST) != __atomic_load_n(&ended_, __ATOMIC_SEQ_CST))
    thread_sleep_ms(10);
}

/// nullptr when the disk goes.
BlockCommand* RamDisk::next() {
  const auto waits = [this] { return __atomic_load_n(&started_, __ATOMIC_SEQ_CST) != ended_; };
  work_.wait([&] { return waits() || __atomic_load_n(&leaving_, __ATOMIC_SEQ_CST) != 0; });
  return waits() ? ring_[ended_ % kDepth] : nullptr;
}

void RamDisk::serve(void* argument) {
  auto& disk = *static_cast<RamDisk*>(argument);
  while (BlockCommand* command = disk.next()) {
    disk.carry_out(*command);
    finish(disk, *command, {});  // its place in the ring has been read, the next command may have it
    __atomic_store_n(&disk.ended_, disk.ended_ + 1, __ATOMIC_SEQ_CST);  // what abort() waits for
  }
}

void RamDisk::carry_out(const BlockCommand& command) {
  u64 disk_byte = command.sector << kSectorShift;
  for (const DmaPiece& piece : command.pieces) {
    copy_piece(command.op, disk_byte, piece);
    disk_byte += piece.bytes;
  }
}

void RamDisk::copy_piece(BlockOp op, u64 disk_byte, const DmaPiece& piece) {
  for (u32 done = 0; done != piece.bytes;) {
    const PhysAddr at = piece.start + done;
    const u32 disk_offset = static_cast<u32>(disk_byte + done) % kPageSize;
    const u32 bytes = std::min({piece.bytes - done, kPageSize - disk_offset, kPageSize - at.page_offset()});
    Page* here = pages_[static_cast<u32>((disk_byte + done) >> kPageShift)];
    Page* there = pfn_to_page(to_pfn(at));
    if (op == BlockOp::Read)
      copy_part(there, at.page_offset(), here, disk_offset, bytes);
    else
      copy_part(here, disk_offset, there, at.page_offset(), bytes);
    done += bytes;
  }
}

namespace {

void probe_ram_disk(const CommandLine& options) {
  if (!options.has("ramdisk")) return;
  LogLines complaints{LogLevel::Warning};
  const u64 bytes = options.size("ramdisk", 0, complaints);
  const Result<RamDisk*> disk = RamDisk::create("ram0", bytes);
  if (!disk) return format_to(complaints, "ramdisk=: {}\n", error_name(disk.error()));
  log_info("{}: {} MB of memory", (*disk)->name(), (*disk)->sectors() >> 11);
}

BLOCK_DRIVER(ram_disk, probe_ram_disk);

}  // namespace

}  // namespace paean
