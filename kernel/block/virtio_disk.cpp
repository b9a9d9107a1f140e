// A virtio disk at work: commands, interrupts, resets.
#include "kernel/block/virtio_disk.hpp"

#include "kernel/thread.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

constexpr u32 kTypeRead = 0, kTypeWrite = 1, kTypeFlush = 4, kTypeIdentity = 8;
constexpr u8 kStatusOk = 0, kStatusNone = 0xff;
constexpr u64 kFeatureFlush = 1u << 9;
constexpr u32 kWireHeaderBytes = 16, kIdentityOffset = 16, kIdentityBytes = 20, kStatusOffset = 36;

}  // namespace

void VirtioDisk::start(BlockCommand& command) {
  const SpinGuard<IrqSave> guard{lock_};
  DASSERT(command.tag < kMostCommands && slots_[command.tag].state == State::Free);
  slots_[command.tag] = Slot{&command, State::Pending};
  command.clock.hold();
  pending_[(pending_first_ + pending_count_++) % kMostCommands] = static_cast<u8>(command.tag);
}

void VirtioDisk::end_of_starts() {
  const SpinGuard<IrqSave> guard{lock_};
  if (broken_) return fail_call_.raise();
  pump();
}

u32 VirtioDisk::type_of(const BlockCommand& command) const {
  if (command.op == BlockOp::Read) return kTypeRead;
  if (command.op == BlockOp::Write) return kTypeWrite;
  return (features_ & kFeatureFlush) != 0 ? kTypeFlush : kTypeIdentity;  // without a cache it still has to answer
}

/// Gives the device what waits, in order, as far as there are descriptors.
void VirtioDisk::pump() {
  if (resetting_ || broken_) return;
  bool added = false;
  while (pending_count_ != 0) {
    const u32 tag = pending_[pending_first_];
    const bool alone = slots_[tag].alone;
    if ((alone || last_is_alone_) && ring_.in_flight() != 0) break;
    if (!send(tag)) break;
    pending_first_ = (pending_first_ + 1) % kMostCommands;
    --pending_count_;
    last_is_alone_ = alone;
    added = true;
  }
  if (added && ring_.publish()) transport_.notify();
}

bool VirtioDisk::send(u32 tag) {
  using By = VirtioPiece::By;
  constexpr u32 kBeside = 3;  // header, identity, status
  BlockCommand& command = *slots_[tag].command;
  if (command.pieces.size() + kBeside > ring_.free_descriptors()) return false;
  const PhysAddr at = to_phys(page_to_pfn(wire_page_)) + u64{tag} * sizeof(Wire);
  Wire& wire = wires_[tag];
  wire.type = type_of(command);
  wire.reserved = 0;
  wire.sector = command.op == BlockOp::Flush ? 0 : command.sector;
  __atomic_store_n(&wire.status, kStatusNone, __ATOMIC_RELAXED);

  const By by = command.op == BlockOp::Read ? By::Device : By::Driver;
  ring_.put({at, kWireHeaderBytes, By::Driver});
  for (const DmaPiece& piece : command.pieces) ring_.put({piece.start, piece.bytes, by});
  if (wire.type == kTypeIdentity) ring_.put({at + kIdentityOffset, kIdentityBytes, By::Device});
  ring_.put({at + kStatusOffset, 1, By::Device});
  ring_.commit(tag);
  slots_[tag].state = State::InFlight;
  command.clock.restart();
  return true;
}

Result<> VirtioDisk::result_of(const BlockCommand& command, u32 written) const {
  const u8 status = __atomic_load_n(&wires_[command.tag].status, __ATOMIC_RELAXED);
  if (status != kStatusOk) return std::unexpected(Error::Io);
  // A device of version 1.0 says how much of a read it wrote, and the status behind it.
  if (transport_.is_modern() && command.op == BlockOp::Read && written < command.sectors * kSectorBytes + 1)
    return std::unexpected(Error::Io);
  return {};
}

/// False when there is nothing more.
bool VirtioDisk::collect(DoneList& done) {
  while (!resetting_ && !broken_ && done.count < kMostCommands) {
    const Result<std::optional<VirtioRing::Used>> used = ring_.take();
    if (!used) {
      give_up(done, "answers what it was not asked");
      return true;
    }
    if (!*used) break;
    Slot& slot = slots_[(*used)->tag];
    const Result<> result = result_of(*slot.command, (*used)->bytes);
    if (!result && !slot.alone) {
      repeat_alone((*used)->tag);
      continue;
    }
    done.add(*slot.command, result);
    slot = Slot{};
  }
  return done.count != 0;
}

/// In front of all others, so that it does not wait for them in vain.
void VirtioDisk::repeat_alone(u32 tag) {
  slots_[tag].state = State::Pending;
  slots_[tag].alone = true;
  slots_[tag].command->clock.hold();
  pending_first_ = (pending_first_ + kMostCommands - 1) % kMostCommands;
  pending_[pending_first_] = static_cast<u8>(tag);
  ++pending_count_;
}

/// Ends all that it had, in flight or not.
void VirtioDisk::give_up(DoneList& done, const char* why) {
  broken_ = true;
  transport_.set_status(0);
  transport_.forbid_dma();
  for (Slot& slot : slots_) {
    if (slot.state != State::Free) done.add(*slot.command, std::unexpected(Error::Io));
    slot = Slot{};
  }
  pending_count_ = 0;
  log_warning("{}: the device {} and is given up", name(), why);
}

void VirtioDisk::tell(const BlockCommand& command) {
  constexpr u32 kMostErrorsTold = 10;  // a failing disk must not fill the log
  if (errors_told_.fetch_add(1) >= kMostErrorsTold) return;
  log_warning("{}: {} of {} sectors at {} failed", name(),
              command.op == BlockOp::Read    ? "read"
              : command.op == BlockOp::Write ? "write"
                                             : "flush",
              command.sectors, command.sector);
}

void VirtioDisk::hand_back(const DoneList& done) {
  for (u32 i = 0; i < done.count; ++i) {
    const Done& entry = done.entries[i];
    if (!entry.result) tell(*entry.command);
    finish(*this, *entry.command, entry.result);
  }
  --finishing_;
}

void VirtioDisk::complete() {
  for (bool more = true; more;) {
    DoneList done;
    {
      const SpinGuard<IrqSave> guard{lock_};
      more = collect(done);
      pump();
      ++finishing_;
    }
    hand_back(done);
  }
}

void VirtioDisk::note_config_change() {
  if ((transport_.status() & virtio::kNeedsReset) == 0) return log_info("{}: configuration has changed", name());
  DoneList done;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (!broken_ && !resetting_) give_up(done, "asks for a reset");
    ++finishing_;
  }
  hand_back(done);
}

bool VirtioDisk::on_interrupt(void* owner) {
  VirtioDisk& disk = *static_cast<VirtioDisk*>(owner);
  const u8 reason = disk.transport_.interrupt_reason();
  if (reason == 0) return false;
  if ((reason & virtio::kConfigInterrupt) != 0) disk.note_config_change();
  if ((reason & virtio::kQueueInterrupt) != 0) disk.complete();
  return true;
}

/// False if the device does not have it. Otherwise everything that it has waits again, and nothing is sent.
bool VirtioDisk::take_back(const BlockCommand& command) {
  const SpinGuard<IrqSave> guard{lock_};
  Slot& aborted = slots_[command.tag];
  if (aborted.command != &command) return false;
  const bool in_flight = aborted.state == State::InFlight;
  aborted = Slot{};
  resetting_ = in_flight;
  pending_count_ = 0;  // the order is lost, and none was promised
  for (u32 tag = 0; tag < kMostCommands; ++tag) {
    Slot& slot = slots_[tag];
    if (slot.state == State::Free || (!in_flight && slot.state == State::InFlight)) continue;
    slot.state = State::Pending;
    slot.command->clock.hold();
    pending_[(pending_first_ + pending_count_++) % kMostCommands] = static_cast<u8>(tag);
  }
  return in_flight;
}

void VirtioDisk::abort(BlockCommand& command) {
  complete();  // its interrupt may be lost
  if (!take_back(command)) {
    log_warning("{}: a command of {} sectors at {} was answered too late, or its interrupt was lost", name(),
                command.sectors, command.sector);
    while (finishing_ != 0) thread_sleep_ms(1);  // who finishes it may wait for this CPU
    return;
  }
  log_warning("{}: no answer to a command of {} sectors at {}, device is reset", name(), command.sectors,
              command.sector);
  const Result<> result = set_up();
  DoneList done;
  {
    const SpinGuard<IrqSave> guard{lock_};
    resetting_ = false;
    if (!result) give_up(done, "does not come back from a reset");
    pump();
    ++finishing_;
  }
  hand_back(done);
}

void VirtioDisk::fail_all(void* owner) {
  VirtioDisk& disk = *static_cast<VirtioDisk*>(owner);
  DoneList done;
  {
    const SpinGuard<IrqSave> guard{disk.lock_};
    for (Slot& slot : disk.slots_) {
      if (slot.state != State::Free) done.add(*slot.command, std::unexpected(Error::Io));
      slot = Slot{};
    }
    disk.pending_count_ = 0;
    ++disk.finishing_;
  }
  disk.hand_back(done);
}

Result<> VirtioDisk::reset() {
  transport_.set_status(0);
  for (u32 waited = 0; transport_.status() != 0; waited += 10) {
    if (waited >= limits_.timeout_ms / 2) return std::unexpected(Error::TimedOut);
    thread_sleep_ms(10);
  }
  return {};
}

}  // namespace paean
