// Mounting ext2: from a device's name to a SuperBlock.
#include <memory>

#include "kernel/fs/ext2_fs.hpp"
#include "lib/bytes.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

Result<u32> read_block_shift(BlockDevice& device) {
  AddressSpace* contents = TRY(open_device_contents(device));
  Ext2SuperRecord record{};
  const std::span<u8> bytes{bytes_at(&record), sizeof record};
  const Result<u32> got = contents->read(kExt2SuperOffset, bytes, nullptr);
  (void)close_device_contents(device);  // nothing was changed
  if (!got) return std::unexpected(got.error());
  // Another file system's, or nobody's.
  if (*got < sizeof record || record.magic != kExt2Magic) return std::unexpected(Error::NotSupported);
  return ext2_block_shift(record);
}

void end(Ext2Super* super) {
  std::destroy_at(super);
  kfree(super);
}

Result<Ext2Super*> start_on(BlockDevice& device, MountMode mode) {
  const u32 shift = TRY(read_block_shift(device));
  void* place = TRY(kmalloc(sizeof(Ext2Super), AllocFlags::Kernel));
  Ext2Super* super = std::construct_at(static_cast<Ext2Super*>(place), device, shift);
  if (const Result<> started = super->start(mode); !started) {
    end(super);
    return std::unexpected(started.error());
  }
  return super;
}

Result<SuperBlock*> mount_ext2(std::string_view source, MountMode mode) {
  if (source.empty()) return std::unexpected(Error::NotSupported);
  BlockDevice* device = TRY(open_block_device(source, DeviceUse::Owning));
  const Result<Ext2Super*> super = start_on(*device, mode);
  if (super) return *super;
  close_block_device(*device, DeviceUse::Owning);
  return std::unexpected(super.error());
}

void unmount_ext2(SuperBlock* super) {
  auto* ext2 = static_cast<Ext2Super*>(super);
  BlockDevice& device = ext2->device();
  ext2->stop();
  end(ext2);
  close_block_device(device, DeviceUse::Owning);
}

constinit const FileSystemType kExt2{.name = "ext2", .mount = mount_ext2, .unmount = unmount_ext2};

}  // namespace

FILE_SYSTEM(ext2) = &kExt2;

}  // namespace paean
