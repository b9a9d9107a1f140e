// A thread on another CPU that reads, when it is told to, and then spins: nothing flushes its TLB behind our back.
#pragma once

#include "arch/traps.hpp"
#include "threads.hpp"

namespace paean {

/// What it finds is the word at the address, or kFault. NeedsSmp: it takes its CPU for itself.
class RemoteReader {
 public:
  static constexpr u32 kFault = 0xfa017;

  RemoteReader() : ready_(crew_.add("reader", run, this, elsewhere())) {}
  ~RemoteReader() {
    if (ready_) (void)ask(VirtAddr{0}, Order::Stop);
  }
  RemoteReader(const RemoteReader&) = delete;
  RemoteReader& operator=(const RemoteReader&) = delete;

  bool ready() const { return ready_; }
  u32 read(VirtAddr va) { return ask(va, Order::Read); }

 private:
  enum class Order : u8 { Read, Stop };

  u32 ask(VirtAddr va, Order order) {
    va_ = va;
    order_ = order;
    const u32 number = asked_ + 1;
    store(asked_, number);
    while (load(answered_) != number) arch::cpu_relax();
    return answer_;
  }
  static void run(void* argument) {
    auto& me = *static_cast<RemoteReader*>(argument);
    for (u32 done = 0;;) {
      while (load(me.asked_) == done) arch::cpu_relax();
      const bool stop = me.order_ == Order::Stop;
      if (!stop) me.answer_ = arch::probe_read(me.va_).value_or(kFault);
      store(me.answered_, ++done);
      if (stop) return;
    }
  }

  VirtAddr va_{};
  Order order_ = Order::Read;
  u32 answer_ = 0, asked_ = 0, answered_ = 0;
  Crew<1> crew_;  // joined before the words above are gone
  bool ready_;
};

}  // namespace paean
