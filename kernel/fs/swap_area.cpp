#include "kernel/fs/swap_area.hpp"

#include <algorithm>
#include <memory>
#include <new>

#include "kernel/block/device.hpp"
#include "kernel/fs/inode_cache.hpp"
#include "kernel/fs/open_file.hpp"
#include "kernel/fs/path.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"
#include "mm/swap.hpp"
#include "mm/swap_header.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr std::string_view kFolder = "/dev/";

std::string_view device_name(std::string_view path) {
  if (path.starts_with(kFolder)) path.remove_prefix(kFolder.size());
  return path;
}

/// Sectors of an area that are neighbours on the device too.
struct AreaRun {
  u64 first = 0;  // in the area
  u64 sectors = 0;
  Sector sector = 0;
  u64 end() const { return first + sectors; }
};

/// Runs of a file as its file system tells them, joined where they meet. Without room they are only counted.
class AreaRuns {
 public:
  explicit AreaRuns(std::span<AreaRun> room = {}) : room_(room) {}
  void add(const FileRun& part) {
    const AreaRun run{part.offset >> kSectorShift, part.bytes >> kSectorShift, part.sector};
    if (count_ != 0 && last_.sector + last_.sectors == run.sector) {
      last_.sectors += run.sectors;
    } else {
      ++count_;
      last_ = run;
    }
    if (count_ <= room_.size()) room_[count_ - 1] = last_;
  }
  u32 count() const { return count_; }

 private:
  std::span<AreaRun> room_;
  AreaRun last_{};
  u32 count_ = 0;
};

Result<BlockDevice*> list_runs(Inode& file, AreaRuns& list) {
  const auto add = [](void* runs, const FileRun& run) { static_cast<AreaRuns*>(runs)->add(run); };
  return file.super->for_each_run(file, add, &list);
}

/// The only one who uses a file as the area that it will be. Busy.
Result<> claim(Inode& file) {
  if (file.is_swap.exchange(true)) return std::unexpected(Error::Busy);
  // Who opened it before has a reference; who opens it from now on sees the mark.
  if (InodeCache::has_one_user(file)) return {};
  file.is_swap.store(false);
  return std::unexpected(Error::Busy);
}

/// A device, a partition or a file, from swap_on() to swap_off().
class BlockSwap final : public SwapStore {
 public:
  BlockSwap() = default;
  ~BlockSwap();
  BlockSwap(const BlockSwap&) = delete;
  BlockSwap& operator=(const BlockSwap&) = delete;

  Result<> open(std::string_view path);
  Result<> read(u32 slot, std::span<Page* const> pages) override { return transfer(BlockOp::Read, slot, pages); }
  Result<> write(u32 slot, std::span<Page* const> pages) override { return transfer(BlockOp::Write, slot, pages); }
  std::string_view path() const override { return path_; }
  std::string_view kind() const override { return file_ ? "file" : "partition"; }
  SwapMap& map() { return map_; }

 private:
  Result<> open_device(std::string_view path);
  Result<> open_file(std::string_view path);
  Result<> read_header(SwapHeader& header);
  Result<> make_map();
  Result<> transfer(BlockOp op, u32 slot, std::span<Page* const> pages);
  Result<> transfer_run(BlockOp op, Sector sector, std::span<Page* const> pages, u32 from, u32 bytes);
  const AreaRun& run_with(u64 sector) const;

  BlockDevice* device_ = nullptr;
  InodeRef file_{};
  AreaRun whole_{};            // of a device
  std::span<AreaRun> runs_{};  // sorted, without a gap
  void* run_memory_ = nullptr;
  SwapMap map_;
  void* map_memory_ = nullptr;
  char path_[128]{};
};

BlockSwap::~BlockSwap() {
  vfree(map_memory_);
  vfree(run_memory_);
  if (file_) {
    (void)file_->contents->invalidate();  // what was read meanwhile
    file_->is_swap.store(false);
  } else if (device_ != nullptr) {
    close_block_device(*device_, DeviceUse::Owning);
  }
}

const AreaRun& BlockSwap::run_with(u64 sector) const {
  return *std::upper_bound(runs_.begin(), runs_.end(), sector,
                           [](u64 value, const AreaRun& run) { return value < run.end(); });
}

/// `bytes` behind `from` of the pages.
Result<> BlockSwap::transfer_run(BlockOp op, Sector sector, std::span<Page* const> pages, u32 from, u32 bytes) {
  Segment segments[kMostTogether];
  u32 count = 0;
  for (const u32 end = from + bytes; from < end; ++count) {
    const u32 in_page = from % kPageSize, part = std::min(end - from, kPageSize - in_page);
    segments[count] = {pages[from >> kPageShift], in_page, part};
    from += part;
  }
  return submit_and_wait(*device_, op, sector, {segments, count});
}

Result<> BlockSwap::transfer(BlockOp op, u32 slot, std::span<Page* const> pages) {
  ASSERT(pages.size() <= kMostTogether);
  const u32 bytes = static_cast<u32>(pages.size()) * kPageSize;
  for (u32 from = 0; from < bytes;) {
    const u64 sector = (u64{slot} * kPageSize + from) >> kSectorShift;
    const AreaRun& run = run_with(sector);
    const u32 part = static_cast<u32>(std::min<u64>(bytes - from, (run.end() - sector) << kSectorShift));
    TRY(transfer_run(op, run.sector + (sector - run.first), pages, from, part));
    from += part;
  }
  return {};
}

Result<> BlockSwap::open_device(std::string_view path) {
  device_ = TRY(open_block_device(device_name(path), DeviceUse::Owning));
  BufferSink text{path_};
  format_to(text, "{}{}", kFolder, device_->name());
  whole_ = {0, device_->sectors(), 0};
  runs_ = {&whole_, 1};
  return {};
}

Result<> BlockSwap::open_file(std::string_view path) {
  if (path.size() >= sizeof path_) return std::unexpected(Error::NameTooLong);
  std::ranges::copy(path, path_);
  InodeRef file = TRY(resolve(path, Links::Follow));
  if (file->type != FileType::Regular) return std::unexpected(Error::InvalidArgument);
  TRY(check_writable(*file));
  TRY(claim(*file));
  file_ = std::move(file);
  TRY(file_->super->sync_inode(*file_));
  (void)file_->contents->invalidate();
  AreaRuns counted;
  device_ = TRY(list_runs(*file_, counted));
  if (counted.count() == 0) return std::unexpected(Error::InvalidArgument);
  run_memory_ = TRY(vmalloc(counted.count() * sizeof(AreaRun), AllocFlags::HighUser, "swap runs"));
  runs_ = {new (run_memory_) AreaRun[counted.count()], counted.count()};
  AreaRuns kept{runs_};
  (void)TRY(list_runs(*file_, kept));
  return {};
}

Result<> BlockSwap::read_header(SwapHeader& header) {
  if (runs_.back().end() < kPageSize >> kSectorShift) return std::unexpected(Error::InvalidArgument);
  Page* page = TRY(alloc_page(AllocFlags::HighUser));
  Result<> result = read(0, {&page, 1});
  if (result) {
    const KmapLocal map{page};
    result = read_swap_header(map.bytes(), runs_.back().end() << kSectorShift, header);
  }
  free_page(page);
  return result;
}

Result<> BlockSwap::make_map() {
  auto* const header = new (TRY(kmalloc(sizeof(SwapHeader), AllocFlags::Kernel))) SwapHeader;
  const auto make = [&]() -> Result<> {
    TRY(read_header(*header));
    const usize words = SwapMap::words_needed(header->slots);
    map_memory_ = TRY(vzalloc(words * sizeof(u32), AllocFlags::HighUser, "swap map"));
    map_.init({static_cast<u32*>(map_memory_), words}, header->slots);
    for (u32 i = 0; i < header->bad; ++i) map_.mark_bad(header->bad_slots[i]);
    return {};
  };
  const Result<> made = make();
  kfree(header);
  return made;
}

/// What is no device may be a file.
Result<> BlockSwap::open(std::string_view path) {
  const Result<> opened = open_device(path);
  if (!opened && (opened.error() != Error::NotFound || !path.starts_with('/'))) return opened;
  if (!opened) TRY(open_file(path));
  if (device_->read_only()) return std::unexpected(Error::ReadOnly);
  return make_map();
}

void destroy_area(BlockSwap* area) {
  std::destroy_at(area);
  kfree(area);
}

bool is_there(std::string_view path) {
  return find_block_device(device_name(path)) != nullptr || (path.starts_with('/') && resolve(path, Links::Follow));
}

}  // namespace

Result<> swap_on(std::string_view path) {
  auto* const area = new (TRY(kmalloc(sizeof(BlockSwap), AllocFlags::Kernel))) BlockSwap;
  Result<> result = area->open(path);
  if (result) result = add_swap(*area, area->map());
  if (!result) {
    destroy_area(area);
    if (result.error() == Error::Exists) return std::unexpected(Error::Busy);
    return result;
  }
  log_info("Adding {}k swap on {}.", PageCount{area->map().usable()}.kib(), area->path());
  return {};
}

Result<> swap_off(std::string_view path) {
  char full[32];
  BufferSink text{full};
  format_to(text, "{}{}", kFolder, device_name(path));
  Result<SwapStore*> store = remove_swap(text.view());
  if (!store && store.error() == Error::NotFound) store = remove_swap(path);
  if (!store && store.error() == Error::NotFound && is_there(path)) return std::unexpected(Error::InvalidArgument);
  if (!store) return std::unexpected(store.error());
  destroy_area(static_cast<BlockSwap*>(*store));
  return {};
}

}  // namespace paean
