// The blob: what the shim is told to do. tests/boot/shim.py writes it, shim.cpp obeys it.
//
// The boot tests start QEMU with this program as the kernel and two Multiboot modules: the real kernel's ELF file and a
// blob. The shim copies the kernel's segments to their physical addresses, carries out the blob's records, sets the
// machine up as the header says and jumps to the kernel. So a test can hand the kernel any Multiboot information, well
// formed or garbage, at any address below 4 GiB, on a machine in any state that Multiboot leaves open.
//
// All numbers are little-endian and 32 bits wide. A blob is a BlobHeader followed by `record_count` records. Each is a
// BlobRecord followed by its bytes (for Copy) padded to a multiple of 4. Records are carried out in order after the
// kernel has been copied, so a later one may overwrite an earlier one or the kernel. None may touch the shim or its
// modules.
#pragma once

#include <stdint.h>

namespace shim {

constexpr uint32_t kBlobMagic = 0x4d485350;  // "PSHM"
constexpr uint32_t kBlobVersion = 1;

enum class RecordKind : uint32_t {
  Copy = 1,  // `length` bytes follow and go to `target`
  Fill = 2,  // `length` bytes at `target` become `value`; nothing follows
};

struct BlobRecord {
  RecordKind kind;
  uint32_t target;
  uint32_t length;
  uint32_t value;
};

enum BlobFlag : uint32_t {
  kA20Off = 1u << 0,     // gate A20 as the last thing; the kernel's odd megabytes are copied to their aliases before
  kZeroBss = 1u << 1,    // zero .bss as a tidy loader does; otherwise it is filled with 0xA5
  kUartTouch = 1u << 2,  // set the UART's registers from `uart`
  kLoseGdt = 1u << 3,    // leave the GDTR pointing nowhere: only the hidden parts of the segment registers are valid
};

// Values for COM1, in the order in which they are written.
struct UartState {
  uint8_t divisor_low;
  uint8_t divisor_high;
  uint8_t interrupts;  // IER
  uint8_t fifo;        // FCR
  uint8_t modem;       // MCR; bit 4 is loop-back: nothing comes out of the machine
  uint8_t line;        // LCR, written last; bit 7 leaves the divisor latch open
  uint8_t reserved[2];
};
static_assert(sizeof(UartState) == 8);

struct BlobHeader {
  uint32_t magic;
  uint32_t version;
  uint32_t size;  // of the whole blob in bytes
  uint32_t record_count;
  uint32_t flags;     // BlobFlag
  uint32_t eax, ebx;  // what the kernel gets: Multiboot's magic and the information block
  uint32_t ecx, edx, esi, edi, ebp, esp;
  uint32_t eflags;
  uint32_t cr0_set;  // bits to set in CR0; PE stays set, PG clear
  uint32_t cr3;
  uint32_t cr4_set;
  UartState uart;
};
static_assert(sizeof(BlobHeader) == 76);

}  // namespace shim
