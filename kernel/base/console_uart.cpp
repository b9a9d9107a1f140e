// COM1 as the console: output by polling, input by interrupt into a ring.
#include "kernel/console_uart.hpp"

#include <atomic>

#include "arch/irq.hpp"
#include "arch/traps.hpp"
#include "arch/uart.hpp"
#include "kernel/wait.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

constexpr arch::Uart kSerial{arch::Uart::kCom1};
constexpr u32 kSerialIrq = 4;
constexpr u32 kRingBytes = 4096;  // a pasted screenful

class UartSink final : public Sink {
 public:
  void write(std::string_view text) override {
    for (const char c : text) {
      if (c == '\n') kSerial.put('\r');
      kSerial.put(static_cast<u8>(c));
    }
  }
};
constinit UartSink uart_sink;

// One producer, the interrupt, and one consumer: indices are enough.
constinit std::atomic<u32> ring_head = 0, ring_tail = 0;
constinit u8 ring[kRingBytes];
constinit WaitQueue reader;

void on_interrupt(arch::IrqsOff) {
  kSerial.acknowledge();
  while (kSerial.has_data()) {
    const u8 byte = kSerial.get();
    if (ring_head - ring_tail == kRingBytes) continue;  // full: the newest is lost
    ring[ring_head % kRingBytes] = byte;
    ring_head = ring_head + 1;
  }
  if (reader.waiting() != 0) (void)reader.wake_one();
}

}  // namespace

void init_console_output() { add_console_sink(uart_sink); }

void set_console_baud(u32 baud) { kSerial.init(static_cast<u16>(arch::Uart::kBaudClock / baud)); }

void init_console_input() {
  arch::set_irq_handler(kSerialIrq, on_interrupt);
  kSerial.enable_receive_interrupt();
  const arch::IrqsOffGuard off;
  on_interrupt(off.token());  // what arrived before the line was open
}

std::optional<u8> console_try_read() {
  if (ring_tail == ring_head) return std::nullopt;
  const u8 byte = ring[ring_tail % kRingBytes];
  ring_tail = ring_tail + 1;
  return byte;
}

void console_wait() {
  reader.wait([] { return ring_tail != ring_head; });
}

}  // namespace paean
