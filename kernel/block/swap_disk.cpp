#include "kernel/block/swap_disk.hpp"

#include <algorithm>
#include <memory>
#include <new>

#include "kernel/block/device.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"
#include "mm/swap.hpp"
#include "mm/swap_header.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kSlotSectors = kPageSize / kSectorBytes;
constexpr std::string_view kFolder = "/dev/";

std::string_view device_name(std::string_view path) {
  if (path.starts_with(kFolder)) path.remove_prefix(kFolder.size());
  return path;
}

/// One device or partition, from swap_on() to swap_off().
class SwapDisk final : public SwapStore {
 public:
  explicit SwapDisk(BlockDevice& device) : device_(device) {
    BufferSink path{path_};
    format_to(path, "{}{}", kFolder, device.name());
  }
  ~SwapDisk() {
    vfree(map_memory_);
    close_block_device(device_, DeviceUse::Owning);
  }
  SwapDisk(const SwapDisk&) = delete;
  SwapDisk& operator=(const SwapDisk&) = delete;

  Result<> read(u32 slot, std::span<Page* const> pages) override { return transfer(BlockOp::Read, slot, pages); }
  Result<> write(u32 slot, std::span<Page* const> pages) override { return transfer(BlockOp::Write, slot, pages); }
  std::string_view path() const override { return path_; }
  std::string_view kind() const override { return "partition"; }

  /// Reads the header and makes the map.
  Result<> prepare();
  SwapMap& map() { return map_; }

 private:
  Result<> transfer(BlockOp op, u32 slot, std::span<Page* const> pages) {
    ASSERT(pages.size() <= kMostTogether);
    Segment segments[kMostTogether];
    for (u32 i = 0; i < pages.size(); ++i) segments[i] = {pages[i], 0, kPageSize};
    return submit_and_wait(device_, op, Sector{slot} * kSlotSectors, {segments, pages.size()});
  }
  Result<> read_header(SwapHeader& header);

  BlockDevice& device_;
  SwapMap map_;
  void* map_memory_ = nullptr;
  char path_[32]{};
};

Result<> SwapDisk::read_header(SwapHeader& header) {
  Page* page = TRY(alloc_page(AllocFlags::HighUser));
  Result<> result = read(0, {&page, 1});
  if (result) {
    const KmapLocal map{page};
    result = read_swap_header(map.bytes(), device_.sectors() << kSectorShift, header);
  }
  free_page(page);
  return result;
}

Result<> SwapDisk::prepare() {
  if (device_.read_only()) return std::unexpected(Error::ReadOnly);
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

void destroy(SwapDisk* disk) {
  std::destroy_at(disk);
  kfree(disk);
}

}  // namespace

Result<> swap_on(std::string_view path) {
  BlockDevice* device = TRY(open_block_device(device_name(path), DeviceUse::Owning));
  const Result<void*> memory = kmalloc(sizeof(SwapDisk), AllocFlags::Kernel);
  if (!memory) {
    close_block_device(*device, DeviceUse::Owning);
    return std::unexpected(memory.error());
  }
  auto* const disk = new (*memory) SwapDisk(*device);
  Result<> result = disk->prepare();
  if (result) result = add_swap(*disk, disk->map());
  if (!result) {
    destroy(disk);
    if (result.error() == Error::Exists) return std::unexpected(Error::Busy);
    return result;
  }
  log_info("Adding {}k swap on {}.", PageCount{disk->map().usable()}.kib(), disk->path());
  return {};
}

Result<> swap_off(std::string_view path) {
  char full[32];
  BufferSink text{full};
  format_to(text, "{}{}", kFolder, device_name(path));
  const Result<SwapStore*> store = remove_swap(text.view());
  if (!store && store.error() == Error::NotFound && find_block_device(device_name(path)) != nullptr)
    return std::unexpected(Error::InvalidArgument);
  if (!store) return std::unexpected(store.error());
  destroy(static_cast<SwapDisk*>(*store));
  return {};
}

}  // namespace paean
