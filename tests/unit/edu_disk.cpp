#include "edu_disk.hpp"

#include <algorithm>
#include <utility>

#include "access.hpp"
#include "kernel/thread.hpp"
#include "mm/page_alloc.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

namespace {

constexpr u16 kVendor = 0x1234, kDevice = 0x11e8;
constexpr u32 kIdentity = 0, kIrqStatus = 0x24, kIrqRaise = 0x60, kIrqAcknowledge = 0x64;
constexpr u32 kSource = 0x80, kTarget = 0x88, kCount = 0x90, kCommand = 0x98;
constexpr u32 kRun = 1, kToMemory = 2, kRaiseIrq = 4;
constexpr u32 kBuffer = 0x40000, kBufferBytes = 2048;  // QEMU takes a transfer that fills all 4 KiB for too long

}  // namespace

EduDisk::EduDisk(u32 bits, u32 timeout_ms) {
  std::ranges::copy(std::string_view{"edu"}, name_);
  sectors_ = u64{kPages} * (kPageSize / kSectorBytes);
  limits_.highest = PhysAddr{(u64{1} << bits) - 1};
  limits_.max_segments = 16;
  limits_.max_segment_bytes = 2 * kPageSize;  // more than the buffer, so that pieces are cut once more
  limits_.boundary = 64 * 1024;
  limits_.timeout_ms = timeout_ms;
}

Result<> EduDisk::connect() {
  for (arch::PciDevice& device : arch::pci_devices()) {
    if (device.is(kVendor, kDevice)) device_ = &device;
  }
  if (device_ == nullptr) return std::unexpected(Error::NotFound);
  while (taken_ < kPages) platter_[taken_++] = TRY(alloc_page(AllocFlags::Dma | AllocFlags::Zero, Owner::Test));
  registers_ = static_cast<volatile u32*>(TRY(ioremap(device_->bar(0).start, kPageSize)));
  device_->enable(arch::PciUse::Memory | arch::PciUse::Master);
  if ((read(kIdentity) & 0xff) != 0xed) return std::unexpected(Error::NotFound);
  TRY(device_->request_irq(on_interrupt, this));
  TRY(register_block_device(*this));
  registered_ = true;
  return {};
}

EduDisk::~EduDisk() {
  if (registered_) ASSERT(unregister_block_device(*this).has_value());
  if (device_ != nullptr) device_->release_irq(this);
  if (registers_ != nullptr) iounmap(const_cast<u32*>(registers_));
  while (taken_ != 0) free_page(platter_[--taken_]);
}

void EduDisk::start(BlockCommand& command) {
  const SpinGuard<NoIrq> guard{lock_};
  command_ = &command;
  piece_ = byte_ = 0;
  disk_byte_ = static_cast<u32>(command.sector << kSectorShift);
  in_buffer_ = false;
  if (command.pieces.empty()) return write(kIrqRaise, 1);  // a flush: there is no cache, but somebody waits
  begin_step();
}

void EduDisk::begin_step() {
  const DmaPiece& piece = command_->pieces[piece_];
  const PhysAddr memory = piece.start + byte_;
  const u32 offset = disk_byte_ % kPageSize;
  const PhysAddr platter = to_phys(page_to_pfn(platter_[disk_byte_ / kPageSize])) + offset;
  length_ = std::min({piece.bytes - byte_, kPageSize - offset, kBufferBytes});
  const bool from_memory = (command_->op == BlockOp::Write) != in_buffer_;
  const auto outside = static_cast<u32>(number(from_memory ? memory : platter));
  write(kSource, in_buffer_ ? kBuffer : outside);
  write(kTarget, in_buffer_ ? outside : kBuffer);
  write(kCount, length_);
  write(kCommand, kRun | kRaiseIrq | (in_buffer_ ? kToMemory : 0));
}

/// False if it has not interrupted.
bool EduDisk::acknowledge() {
  const u32 status = read(kIrqStatus);
  if (status != 0) write(kIrqAcknowledge, status);
  return status != 0;
}

bool EduDisk::on_interrupt(void* owner) {
  auto& disk = *static_cast<EduDisk*>(owner);
  BlockCommand* done = nullptr;
  {
    const SpinGuard<NoIrq> guard{disk.lock_};
    if (!disk.acknowledge()) return false;
    if (disk.command_ != nullptr && (disk.read(kCommand) & kRun) == 0) done = disk.end_step();
    __atomic_fetch_add(&disk.finishing_, 1, __ATOMIC_SEQ_CST);
  }
  __atomic_fetch_add(&disk.interrupts_, 1, __ATOMIC_RELAXED);
  if (done != nullptr) finish(disk, *done, {});
  __atomic_fetch_sub(&disk.finishing_, 1, __ATOMIC_SEQ_CST);
  return true;
}

/// The command, if that was all of it.
BlockCommand* EduDisk::end_step() {
  if (command_->pieces.empty()) return std::exchange(command_, nullptr);
  in_buffer_ = !in_buffer_;
  if (in_buffer_) {
    begin_step();
    return nullptr;
  }
  disk_byte_ += length_;
  byte_ += length_;
  if (byte_ == command_->pieces[piece_].bytes) {
    byte_ = 0;
    ++piece_;
  }
  if (piece_ == command_->pieces.size()) return std::exchange(command_, nullptr);
  begin_step();
  return nullptr;
}

/// No interrupt goes on with it.
void EduDisk::take_back(const BlockCommand& command) {
  const SpinGuard<IrqSave> guard{lock_};
  if (command_ == &command) command_ = nullptr;
}

/// The device cannot be stopped, but a transfer ends by itself.
void EduDisk::abort(BlockCommand& command) {
  take_back(command);
  while ((read(kCommand) & kRun) != 0 || __atomic_load_n(&finishing_, __ATOMIC_SEQ_CST) != 0) thread_sleep_ms(10);
  const SpinGuard<IrqSave> guard{lock_};
  (void)acknowledge();  // or the interrupt of that transfer would be taken for one of the next command
}

}  // namespace paean
