#include "test_disk.hpp"

#include <algorithm>
#include <utility>

#include "interrupts.hpp"
#include "kernel/block/dma_pieces.hpp"
#include "mm/highmem.hpp"
#include "mm/vmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

// One disk at a time finishes in interrupts, on the CPU of its thread.
constinit TestDisk* finishing = nullptr;
constinit BlockCommand* finished = nullptr;
constinit Result<> finished_with{};

void finish_in_interrupt(arch::IrqsOff) { finish(*finishing, *finished, finished_with); }

}  // namespace

TestDisk::TestDisk(BlockLimits limits, u32 sectors) {
  std::ranges::copy(std::string_view{"test"}, name_);
  sectors_ = sectors;
  limits_ = limits;
}

bool TestDisk::connect() {
  const Result<void*> memory = vzalloc(static_cast<u32>(sectors_) * kSectorBytes);
  if (!memory) return false;
  contents_ = static_cast<u8*>(*memory);
  if (fill != nullptr) fill(contents_);
  const Result<Thread*> thread = thread_create("testdisk", serve, this);
  if (!thread) return false;
  thread_ = *thread;
  const u32 held = held_, silent = mute;
  const Sector bad = bad_first, last = bad_last;
  held_ = mute = 0;
  bad_first = table_is_bad ? 0 : ~Sector{0};
  bad_last = table_is_bad ? 0 : bad_last;
  connected_ = register_block_device(*this).has_value();  // which looks for partitions
  commands = 0;
  bad_first = bad;
  bad_last = last;
  mute = silent;
  store(held_, held);
  return connected_;
}

TestDisk::~TestDisk() {
  if (connected_) ASSERT(unregister_block_device(*this).has_value());
  if (thread_ != nullptr) {
    store(leaving_, 1);
    work_.wake_all();
    thread_join(thread_);
  }
  vfree(contents_);
}

void TestDisk::let_go() {
  store(held_, 0);
  work_.wake_all();
}

void TestDisk::start(BlockCommand& command) {
  look_at(command);
  if (clock == Clock::FromThread) command.clock.hold();
  const SpinGuard<NoIrq> guard{lock_};
  waiting_[last_++ % 256] = &command;
  work_.wake_one();
}

void TestDisk::look_at(const BlockCommand& command) {
  u32 bytes = 0, wrong = 0;
  for (const DmaPiece& piece : command.pieces) {
    const PhysAddr last = piece.start + (piece.bytes - 1);
    bytes += piece.bytes;
    wrong += last > limits_.highest || piece.bytes > limits_.max_segment_bytes ? 1 : 0;
    wrong += limits_.boundary != 0 && piece.start.align_down(limits_.boundary) != last.align_down(limits_.boundary);
  }
  wrong += command.pieces.size() > limits_.max_segments || command.sectors > limits_.max_sectors ? 1 : 0;
  wrong += bytes != command.sectors * kSectorBytes || command.sector + command.sectors > sectors_ ? 1 : 0;
  violations += wrong;
  most_sectors = std::max(most_sectors, command.sectors);
  if (commands < std::size(order)) order[commands] = command.sector;
  ++commands;
}

bool TestDisk::wait_for_work() {
  work_.wait([this] {
    if (load(leaving_) != 0) return true;
    const SpinGuard<IrqSave> guard{lock_};
    return load(held_) == 0 && first_ != last_;
  });
  return load(leaving_) == 0;
}

BlockCommand* TestDisk::take() {
  const SpinGuard<IrqSave> guard{lock_};
  return first_ == last_ ? nullptr : std::exchange(waiting_[first_++ % 256], nullptr);
}

void TestDisk::serve(void* argument) {
  auto& disk = *static_cast<TestDisk*>(argument);
  while (disk.wait_for_work()) {
    BlockCommand* command = disk.take();
    if (command == nullptr) continue;
    if (disk.clock == Clock::FromThread) command->clock.restart();
    if (disk.mute != 0) {
      --disk.mute;
      continue;
    }
    disk.answer(*command, disk.carry_out(*command));
  }
}

Result<> TestDisk::carry_out(const BlockCommand& command) {
  if (command.op == BlockOp::Flush) ++flushes;
  if (command.sector <= bad_last && bad_first < command.sector + command.sectors) return std::unexpected(Error::Io);
  u8* at = contents_ + command.sector * kSectorBytes;
  for (const DmaPiece& piece : command.pieces) {
    for (u32 done = 0; done != piece.bytes;) {
      const PhysAddr from = piece.start + done;
      const u32 bytes = std::min(piece.bytes - done, kPageSize - from.page_offset());
      Page* page = pfn_to_page(to_pfn(from));
      if (command.op == BlockOp::Write)
        copy_from_page({at, bytes}, page, from.page_offset());
      else
        copy_to_page(page, from.page_offset(), {at, bytes});
      done += bytes;
      at += bytes;
    }
  }
  return {};
}

void TestDisk::answer(BlockCommand& command, Result<> result) {
  if (finish == Finish::InThread || !arch::using_apic()) return paean::finish(*this, command, result);
  const PreemptGuard stays_on_this_cpu;
  finishing = this;
  finished = &command;
  finished_with = result;
  call_as_interrupt(finish_in_interrupt);
}

void TestDisk::abort(BlockCommand& command) {
  ++aborts;
  {
    const SpinGuard<IrqSave> guard{lock_};
    for (BlockCommand*& waiting : waiting_) waiting = waiting == &command ? nullptr : waiting;
  }
  if (on_abort == Abort::AnswersFirst) paean::finish(*this, command, carry_out(command));
}

}  // namespace paean
