// One channel at work: commands, interrupts, resets.
#include "kernel/block/ide.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

constexpr u16 kLastEntry = 0x8000;
constexpr u32 kMostErrorsTold = 10;  // a failing disk must not fill the log
constexpr u32 kReadyTries = 1000;    // microseconds; a disk that is idle answers at once

/// DMA goes no further than 4 GiB, see IdeDisk::describe().
u32 bus_address(PhysAddr address) {
  DASSERT(address < PhysAddr{4 * kGiB});
  return static_cast<u32>(address.raw());
}

const char* name_of(BlockOp op) { return op == BlockOp::Read ? "read" : op == BlockOp::Write ? "write" : "flush"; }

}  // namespace

Result<> IdeChannel::init() {
  table_page_ = TRY(alloc_page(AllocFlags::Kernel | AllocFlags::Zero));  // a page does not cross 64 KiB
  const Pfn frame = page_to_pfn(table_page_);
  table_ = static_cast<Entry*>(to_low(frame)->pointer());
  table_address_ = to_phys(frame);
  return {};
}

void IdeChannel::release() {
  if (table_page_ != nullptr) free_page(table_page_);
}

void IdeChannel::allow_interrupts() {
  (void)ports_.status();
  ports_.clear_master_status();
  ports_.write_control(0);
}

void IdeChannel::forbid_interrupts() { ports_.write_control(ide::kNoInterrupt); }

void IdeChannel::fill_table(std::span<const DmaPiece> pieces) {
  u32 count = 0;
  for (const DmaPiece& piece : pieces) {
    table_[count++] = Entry{bus_address(piece.start), static_cast<u16>(piece.bytes), 0};
  }
  table_[count - 1].flags = kLastEntry;
}

void IdeChannel::write_task(const IdeDisk& disk, const BlockCommand& command) {
  const u8 device = static_cast<u8>(ide::kByBlockNumber | (disk.unit() != 0 ? ide::kSlave : 0));
  const bool read = command.op == BlockOp::Read;
  // The short form where it does: fewer port accesses, which are what a command costs.
  if (command.sector + command.sectors <= kLba28Sectors && command.sectors <= 256) {
    const u32 block = static_cast<u32>(command.sector);
    ports_.write_device(static_cast<u8>(device | (block >> 24)));
    ports_.write_task(static_cast<u8>(command.sectors), block);  // 256 is written as 0
    return ports_.write_command(read ? ide::kReadDma : ide::kWriteDma);
  }
  ports_.write_task(static_cast<u8>(command.sectors >> 8), static_cast<u32>(command.sector >> 24));
  ports_.write_task(static_cast<u8>(command.sectors), static_cast<u32>(command.sector & 0xffffff));
  ports_.write_command(read ? ide::kReadDmaExt : ide::kWriteDmaExt);
}

void IdeChannel::begin(IdeDisk& disk, BlockCommand& command) {
  command.clock.restart();
  active_disk_ = &disk;
  active_ = &command;
  given_ = false;
  last_unit_ = disk.unit();
  ports_.write_device(static_cast<u8>(ide::kByBlockNumber | (disk.unit() != 0 ? ide::kSlave : 0)));
  ports_.settle();
  for (u32 i = 0; (ports_.quiet_status() & (ide::kBusy | ide::kDataRequest)) != 0; ++i) {
    if (i == kReadyTries) return;  // not given to the disk; the time-out will reset the channel
    arch::delay_microseconds(1);
  }
  ports_.clear_master_status();
  given_ = true;
  if (command.op == BlockOp::Flush) {
    // A disk without a cache still has to interrupt.
    return ports_.write_command(!disk.flush_ ? ide::kCheckPower : disk.lba48_ ? ide::kFlushCacheExt : ide::kFlushCache);
  }
  fill_table(command.pieces);
  const u8 direction = command.op == BlockOp::Read ? ide::kMasterToMemory : u8{0};
  ports_.write_table(bus_address(table_address_));
  ports_.write_master(direction);
  write_task(disk, command);
  ports_.write_master(direction | ide::kMasterStart);
}

/// The disks take turns.
void IdeChannel::begin_next() {
  if (active_ != nullptr || resetting_ || dead_) return;
  for (u32 i = 1; i <= 2; ++i) {
    IdeDisk& disk = disks_[(last_unit_ + i) % 2];
    if (disk.waiting_ == nullptr) continue;
    BlockCommand& command = *disk.waiting_;
    disk.waiting_ = nullptr;
    return begin(disk, command);
  }
}

void IdeChannel::hand_over(IdeDisk& disk, BlockCommand& command) {
  const SpinGuard<IrqSave> guard{lock_};
  DASSERT(disk.waiting_ == nullptr);
  disk.waiting_ = &command;
  command.clock.hold();  // while the other disk has the channel: that one's time-out ends the wait
  if (dead_) return fail_call_.raise();
  begin_next();
}

bool IdeChannel::take_finished(Finished& finished) {
  const u8 master = ports_.master_status();
  if ((master & ide::kMasterInterrupt) == 0) return false;
  if ((ports_.quiet_status() & ide::kBusy) != 0) return false;
  const u8 status = ports_.status();
  if (active_ != nullptr && active_->op != BlockOp::Flush) ports_.write_master(0);
  ports_.clear_master_status();
  if (active_ == nullptr || !given_) return true;  // nobody waits for what ended here
  finished.disk = active_disk_;
  finished.command = active_;
  finished.status = status;
  const u8 wrong = ide::kError | ide::kDeviceFault | ide::kDataRequest;
  // Still active: the disk has moved less than the table describes.
  const u8 master_wrong = active_->op == BlockOp::Flush ? u8{0} : u8{ide::kMasterError | ide::kMasterActive};
  if ((status & wrong) != 0 || (master & master_wrong) != 0) {
    finished.result = std::unexpected(Error::Io);
    finished.error = ports_.error();
  }
  active_ = nullptr;
  active_disk_ = nullptr;
  return true;
}

bool IdeChannel::on_interrupt(void* owner) {
  IdeChannel& channel = *static_cast<IdeChannel*>(owner);
  Finished finished;
  {
    const SpinGuard<NoIrq> guard{channel.lock_};
    if (!channel.take_finished(finished)) return false;
    channel.begin_next();  // the other disk's, before this one's queue brings its next
    ++channel.finishing_;
  }
  if (finished.command != nullptr) tell(finished);
  --channel.finishing_;
  return true;
}

void IdeChannel::tell(Finished& finished) {
  IdeDisk& disk = *finished.disk;
  if (!finished.result && disk.errors_told_ < kMostErrorsTold) {
    ++disk.errors_told_;
    log_warning("{}: {} of {} sectors at {} failed, status {:02x}, error {:02x}", disk.name(),
                name_of(finished.command->op), finished.command->sectors, finished.command->sector, finished.status,
                finished.error);
  }
  finish(disk, *finished.command, finished.result);
}

bool IdeChannel::wait_not_busy(u32 milliseconds) {
  for (u32 i = 0; i < 1000; ++i) {
    if ((ports_.quiet_status() & ide::kBusy) == 0) return true;
    arch::delay_microseconds(1);
  }
  for (u32 waited = 0; waited < milliseconds; waited += 10) {
    thread_sleep_ms(10);
    if ((ports_.quiet_status() & ide::kBusy) == 0) return true;
  }
  return false;
}

/// Nobody begins a command meanwhile. False if the channel stays busy.
bool IdeChannel::reset() {
  constexpr u32 kResetPatience = 5000;  // a disk that spins up may take 31 s; none of those is reset at work
  ports_.write_master(0);
  ports_.write_control(ide::kSoftReset | ide::kNoInterrupt);
  arch::delay_microseconds(5);
  ports_.write_control(ide::kNoInterrupt);
  thread_sleep_ms(2);  // the disks may look at each other before they show that they are busy
  const bool idle = wait_not_busy(kResetPatience);
  allow_interrupts();
  return idle;
}

/// False if there is nothing to be stopped.
bool IdeChannel::take_back(IdeDisk& disk, const BlockCommand& command) {
  const SpinGuard<IrqSave> guard{lock_};
  if (disk.waiting_ == &command) disk.waiting_ = nullptr;
  if (active_ != &command) return false;
  active_ = nullptr;
  active_disk_ = nullptr;
  resetting_ = true;
  return true;
}

/// Does what an interrupt does that was lost.
void IdeChannel::look_for_answer() {
  const arch::IrqsOffGuard off;
  (void)on_interrupt(this);
}

void IdeChannel::abort(IdeDisk& disk, BlockCommand& command) {
  look_for_answer();
  if (!take_back(disk, command)) {
    log_warning("{}: a {} of {} sectors at {} was answered too late, or its interrupt was lost", disk.name(),
                name_of(command.op), command.sectors, command.sector);
    while (finishing_ != 0) thread_sleep_ms(1);  // who finishes it may wait for this CPU
    return;
  }
  log_warning("{}: no answer to a {} of {} sectors at {}, channel is reset", disk.name(), name_of(command.op),
              command.sectors, command.sector);
  const bool idle = reset();
  const SpinGuard<IrqSave> guard{lock_};
  resetting_ = false;
  if (idle) return begin_next();
  log_warning("{}: the channel stays busy and is given up", disk.name());
  dead_ = true;
  fail_call_.raise();
}

void IdeChannel::fail_waiting(void* owner) {
  IdeChannel& channel = *static_cast<IdeChannel*>(owner);
  for (IdeDisk& disk : channel.disks_) {
    BlockCommand* command;
    {
      const SpinGuard<IrqSave> guard{channel.lock_};
      command = disk.waiting_;
      disk.waiting_ = nullptr;
      ++channel.finishing_;
    }
    if (command != nullptr) finish(disk, *command, std::unexpected(Error::Io));
    --channel.finishing_;
  }
}

void IdeDisk::start(BlockCommand& command) { channel_.hand_over(*this, command); }
void IdeDisk::abort(BlockCommand& command) { channel_.abort(*this, command); }

}  // namespace paean
