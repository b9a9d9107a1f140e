// Finding virtio disks, agreeing on features, giving them their queue.
#include <new>

#include "kernel/block/virtio_disk.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u16 kVendor = 0x1af4, kTransitionalDisk = 0x1001, kModernDisk = 0x1042;
constexpr u64 kFeatureSizeMax = 1u << 1, kFeatureSegMax = 1u << 2, kFeatureReadOnly = 1u << 5,
              kFeatureBlockSize = 1u << 6, kFeatureFlush = 1u << 9;
constexpr u64 kWanted =
    virtio::kVersion1 | kFeatureSizeMax | kFeatureSegMax | kFeatureReadOnly | kFeatureBlockSize | kFeatureFlush;
constexpr u32 kConfigCapacity = 0, kConfigSizeMax = 8, kConfigSegMax = 12, kConfigBlockSize = 20;
constexpr u32 kMostBytes = kMiB;  // of one command: enough to hide what a command costs, little enough to be fair
constexpr u32 kLegacyPieceBytes = 64 * kKiB;

Order order_for(u32 bytes) {
  u32 order = 0;
  while ((kPageSize << order) < bytes) ++order;
  return Order{order};
}

/// Smallest whole number of sectors, at least one.
constexpr u32 sectors_in(u32 bytes) { return bytes < kSectorBytes ? kSectorBytes : bytes & ~(kSectorBytes - 1); }

}  // namespace

Result<> VirtioDisk::allocate(u32 size) {
  if (ring_memory_ != nullptr) return {};
  ring_order_ = order_for(VirtioRing::bytes_for(size));
  ring_page_ = TRY(alloc_pages(AllocFlags::Kernel, ring_order_));
  ring_memory_ = to_low(page_to_pfn(ring_page_))->pointer();
  wire_page_ = TRY(alloc_page(AllocFlags::Kernel | AllocFlags::Zero));
  wires_ = static_cast<Wire*>(to_low(page_to_pfn(wire_page_))->pointer());
  static_assert(kMostCommands * sizeof(Wire) <= kPageSize);
  void* records = TRY(kmalloc(size * sizeof(VirtioRing::Record), AllocFlags::Kernel));
  records_ = {static_cast<VirtioRing::Record*>(records), size};
  return {};
}

void VirtioDisk::release() {
  if (!reset()) transport_.forbid_dma();
  while (finishing_ != 0) thread_sleep_ms(1);
  if (ring_page_ != nullptr) free_pages(ring_page_, ring_order_);
  if (wire_page_ != nullptr) free_page(wire_page_);
  if (!records_.empty()) kfree(records_.data());
}

/// From a reset to the first command; the same again after one that was not answered.
Result<> VirtioDisk::set_up() {
  TRY(reset());
  transport_.set_status(virtio::kAcknowledge);
  transport_.set_status(virtio::kAcknowledge | virtio::kDriver);
  features_ = transport_.device_features() & kWanted;
  u8 status = virtio::kAcknowledge | virtio::kDriver;
  if (transport_.is_modern()) {
    if ((features_ & virtio::kVersion1) == 0) return std::unexpected(Error::NotSupported);
    transport_.accept_features(features_);
    status |= virtio::kFeaturesOk;
    transport_.set_status(status);
    if ((transport_.status() & virtio::kFeaturesOk) == 0) return std::unexpected(Error::NotSupported);
  } else {
    transport_.accept_features(features_);
  }
  u32 size = transport_.queue_size();
  if (transport_.is_modern() && size > kMostDescriptors) size = kMostDescriptors;
  if (!VirtioRing::is_size(size) || size < 4) return std::unexpected(Error::NotSupported);
  if (!records_.empty() && records_.size() != size) return std::unexpected(Error::Corrupt);
  TRY(allocate(size));
  ring_.init(ring_memory_, records_);
  const PhysAddr at = to_phys(page_to_pfn(ring_page_));
  transport_.set_queue(
      size, VirtioQueuePlace{at, at + VirtioRing::available_offset(size), at + VirtioRing::used_offset(size)});
  transport_.set_status(status | virtio::kDriverOk);
  return {};
}

/// NotSupported if it does not hold still.
Result<u64> VirtioDisk::read_capacity() {
  constexpr u32 kTries = 10;
  for (u32 i = 0; i < kTries; ++i) {
    const u32 high = transport_.config(kConfigCapacity + 4), low = transport_.config(kConfigCapacity);
    // The device may change it between the halves.
    if (high == transport_.config(kConfigCapacity + 4)) return u64{high} << 32 | low;
  }
  return std::unexpected(Error::NotSupported);
}

Result<> VirtioDisk::read_limits() {
  sectors_ = TRY(read_capacity());
  read_only_ = (features_ & kFeatureReadOnly) != 0;
  const u32 descriptors = static_cast<u32>(records_.size());
  u32 pieces = descriptors - 3 < kMostPieces ? descriptors - 3 : kMostPieces;
  if ((features_ & kFeatureSegMax) != 0) {
    const u32 most = transport_.config(kConfigSegMax);
    if (most != 0 && most < pieces) pieces = most;
  }
  u32 piece_bytes = transport_.is_modern() ? kMostBytes : kLegacyPieceBytes;
  if ((features_ & kFeatureSizeMax) != 0) {
    const u32 most = transport_.config(kConfigSizeMax);
    if (most != 0 && most < piece_bytes) piece_bytes = sectors_in(most);
  }
  limits_.max_segments = pieces;
  limits_.max_segment_bytes = piece_bytes;
  limits_.max_sectors = kMostBytes / kSectorBytes;
  limits_.queue_depth = kMostCommands;
  return {};
}

Result<> VirtioDisk::init(char letter, u32 timeout_ms) {
  name_[0] = 'v', name_[1] = 'd', name_[2] = letter;
  limits_.timeout_ms = timeout_ms;
  TRY(set_up());
  TRY(read_limits());
  if ((features_ & kFeatureBlockSize) != 0) {
    const u32 bytes = transport_.config(kConfigBlockSize);
    if (bytes != kSectorBytes) {
      log_warning("{}: blocks of {} bytes are not supported", name(), bytes);
      return std::unexpected(Error::NotSupported);
    }
  }
  if (sectors_ == 0) return std::unexpected(Error::NotSupported);
  return start_deferred_calls();
}

namespace {

Result<VirtioTransport*> find_transport(const arch::PciDevice& device) {
  const Result<VirtioTransport*> modern = find_modern_virtio(device);
  if (modern || device.device() != kTransitionalDisk) return modern;
  return find_legacy_virtio(device);
}

Result<> enter(const arch::PciDevice& device, VirtioDisk& disk, char letter, const char* kind) {
  TRY(disk.init(letter));
  TRY(device.request_irq(VirtioDisk::on_interrupt, &disk));
  log_info("{}: {} MB virtio, {}{}", disk.name(), disk.sectors() >> 11, kind, disk.read_only() ? ", read-only" : "");
  return register_block_device(disk);
}

Result<> add_disk(const arch::PciDevice& device, VirtioTransport& transport, char letter) {
  void* memory = TRY(kmalloc(sizeof(VirtioDisk), AllocFlags::Kernel));
  auto* disk = new (memory) VirtioDisk{transport};
  const Result<> result = enter(device, *disk, letter, transport.is_modern() ? "64-bit" : "64-bit, legacy");
  if (result) return {};
  device.release_irq(disk);
  disk->release();
  kfree(memory);
  return result;
}

Result<> add_device(const arch::PciDevice& device, char letter) {
  device.enable(arch::PciUse::Io | arch::PciUse::Memory | arch::PciUse::Master);
  VirtioTransport* transport = TRY(find_transport(device));
  const Result<> result = add_disk(device, *transport, letter);
  if (!result) transport->destroy();
  return result;
}

void probe_virtio(const CommandLine&) {
  // Also without a disk, so that one that comes later needs no thread.
  if (const Result<> started = start_deferred_calls(); !started)
    return log_warning("virtio: {}", error_name(started.error()));
  char letter = 'a';
  for (const arch::PciDevice& device : arch::pci_devices()) {
    if (!device.is(kVendor, kTransitionalDisk) && !device.is(kVendor, kModernDisk)) continue;
    if (letter > 'z') return log_warning("virtio: no name is left behind vdz: other disks are not used");
    if (const Result<> result = add_device(device, letter); !result)
      log_warning("vd{}: {}, not used", letter, error_name(result.error()));
    ++letter;
  }
}

}  // namespace

BLOCK_DRIVER(virtio, probe_virtio);

}  // namespace paean
