// COM1 as the console: output by polling, input by interrupt into a ring. Nothing that was sent is lost: while the ring
// is full the port is left alone, its FIFO fills, and the sender has to wait (RTS on a wire, QEMU by itself).
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
constinit std::atomic<bool> held = false;  // no interrupt comes until the reader has made room
constinit WaitQueue reader;

/// Half of the ring, so that not every byte of a flood is held up. Whoever sees first that there is room lets the port
/// go on; it interrupts again at once if there is something.
void go_on_if_there_is_room() {
  if (held && ring_head - ring_tail <= kRingBytes / 2 && held.exchange(false)) kSerial.start_receiving();
}

void on_interrupt(arch::IrqsOff) {
  kSerial.acknowledge();
  while (ring_head - ring_tail != kRingBytes && kSerial.has_data()) {
    ring[ring_head % kRingBytes] = kSerial.get();
    ring_head = ring_head + 1;
  }
  if (ring_head - ring_tail == kRingBytes) {
    kSerial.hold_receiving();
    held = true;
    go_on_if_there_is_room();  // the reader may have made some before it could see that it must say so
  }
  if (reader.waiting() != 0) (void)reader.wake_one();
}

}  // namespace

void init_console_output() { add_console_sink(uart_sink); }

void set_console_baud(u32 baud) { kSerial.init(static_cast<u16>(arch::Uart::kBaudClock / baud)); }

void init_console_input() {
  arch::set_irq_handler(kSerialIrq, on_interrupt);
  kSerial.start_receiving();
  const arch::IrqsOffGuard off;
  on_interrupt(off.token());  // what arrived before the line was open
}

std::optional<u8> console_try_read() {
  if (ring_tail == ring_head) return std::nullopt;
  const u8 byte = ring[ring_tail % kRingBytes];
  ring_tail = ring_tail + 1;
  go_on_if_there_is_room();
  return byte;
}

void console_wait() {
  reader.wait([] { return ring_tail != ring_head; });
}

}  // namespace paean
