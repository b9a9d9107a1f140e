#include "arch/irq_lines.hpp"

#include <atomic>
#include <utility>

#include "arch/lock.hpp"
#include "arch/traps.hpp"
#include "lib/assert.hpp"
#include "lib/log.hpp"

namespace paean::arch {

namespace {

constexpr u32 kLines = 16;

struct Share {
  std::atomic<PciHandler> handler{nullptr};  // written last, taken away first
  void* owner = nullptr;
};

struct Line {
  Share shares[kIrqLineShares];
  std::atomic<u32> users{0};
  std::atomic<u32> running{0};    // CPUs that are walking through the shares
  std::atomic<u32> unclaimed{0};  // in a row
  std::atomic<bool> off{false};
  bool taken = false;  // its dispatcher is installed; stays so, a masked line raises nothing
  IrqTrigger trigger = IrqTrigger::Isa;
};

constinit Line lines[kLines]{};
constinit LeafLock change_lock{LockRank::IrqLines};  // who shares what; the controllers' lock may be taken inside

/// True if the line has been nobody's for too long, and is off now. Under the lock, so that a request that comes
/// meanwhile finds it either on or known to be off.
bool turn_off_storm(u32 number, Line& line) {
  const LeafGuard guard{change_lock};
  if (line.users == 0 || line.unclaimed < kIrqStormLimit) return false;  // a request or another CPU was first
  line.unclaimed = 0;
  line.off = true;
  disable_irq_line(number);
  return true;
}

void note_unclaimed(u32 number, Line& line) {
  if (line.users == 0 || line.unclaimed.fetch_add(1, std::memory_order_relaxed) + 1 < kIrqStormLimit) return;
  if (turn_off_storm(number, line))
    log_warning("interrupt {}: nobody claimed it {} times in a row, turned off", number, kIrqStormLimit);
}

void dispatch(u32 number) {
  Line& line = lines[number];
  // Sequentially consistent, as in leave_irq_line(): either that sees this CPU, or this CPU sees the handler gone.
  line.running.fetch_add(1);
  bool claimed = false;
  for (Share& share : line.shares) {
    const PciHandler handler = share.handler;
    if (handler != nullptr && handler(share.owner)) claimed = true;
  }
  line.running.fetch_sub(1);
  if (!claimed) return note_unclaimed(number, line);
  line.unclaimed.store(0, std::memory_order_relaxed);
}

template <u32 Number>
void on_line(IrqsOff) {
  dispatch(Number);
}

template <u32... Numbers>
IrqHandler dispatcher_of(u32 number, std::integer_sequence<u32, Numbers...>) {
  static constexpr IrqHandler kDispatchers[] = {on_line<Numbers>...};
  return kDispatchers[number];
}

}  // namespace

Result<> share_irq_line(u32 number, IrqTrigger trigger, PciHandler handler, void* owner) {
  if (number >= kLines || handler == nullptr) return std::unexpected(Error::InvalidArgument);
  const LeafGuard guard{change_lock};
  Line& line = lines[number];
  const bool first = line.users == 0;
  if (!line.taken && has_irq_handler(number)) return std::unexpected(Error::Busy);
  if (!first && line.trigger != trigger) return std::unexpected(Error::Busy);
  Share* room = nullptr;
  for (Share& share : line.shares) {
    if (room == nullptr && share.handler == nullptr && share.owner == nullptr) room = &share;
  }
  if (room == nullptr) return std::unexpected(Error::TooLarge);
  room->owner = owner;
  room->handler = handler;
  ++line.users;
  line.trigger = trigger;
  if (!first && !line.off) return {};
  line.unclaimed = 0;
  line.off = false;
  line.taken = true;
  set_irq_handler(number, dispatcher_of(number, std::make_integer_sequence<u32, kLines>{}), trigger);
  return {};
}

void leave_irq_line(u32 number, const void* owner) {
  ASSERT(number < kLines && irqs_enabled());  // waits for handlers, this CPU's own among them
  Line& line = lines[number];
  {
    const LeafGuard guard{change_lock};
    for (Share& share : line.shares) {
      if (share.owner != owner || share.handler == nullptr) continue;
      share.handler = nullptr;
      if (--line.users == 0) disable_irq_line(number);
    }
  }
  while (line.running != 0) cpu_relax();
  const LeafGuard guard{change_lock};
  for (Share& share : line.shares) {
    if (share.owner == owner && share.handler == nullptr) share.owner = nullptr;
  }
}

u32 irq_line_shares(u32 line) { return line < kLines ? lines[line].users.load() : 0; }
bool irq_line_is_off(u32 line) { return line < kLines && lines[line].off; }

Result<> request_isa_irq(u32 line, PciHandler handler, void* owner) {
  return share_irq_line(line, IrqTrigger::Isa, handler, owner);
}
void release_isa_irq(u32 line, void* owner) { leave_irq_line(line, owner); }

}  // namespace paean::arch
