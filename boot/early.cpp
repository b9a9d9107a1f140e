// Before paging: what must happen while the kernel runs at physical addresses.
//
// 1. a serial port that works, 2. A20, 3. a CPU that can do the job, 4. memory under the image, 5. .bss zeroed,
// 6. the loader's information copied, 7. page tables that are W^X from the first moment.
//
// Linked at its physical address (linker.ld), so it may not call anything of the kernel proper, and touches the
// kernel's variables only through physical(). Everything here is static or always_inline: the build checks that the
// object has no weak symbol, because the linker could keep a copy of those that lies in the kernel's window.
#include <multiboot/multiboot.h>

#include <initializer_list>

#include "arch/boot_info.hpp"
#include "arch/cpu.hpp"
#include "arch/layout.hpp"
#include "arch/pte.hpp"
#include "arch/uart.hpp"

namespace paean::arch {
// Defined in arch/x86/boot_tables.cpp; zeroed with .bss.
extern Pdpt kernel_pdpt;
extern PageDirectory kernel_directories[3];
extern PageTable image_tables[4];
extern PageTable fixmap_tables[4];
extern PageTable identity_table;
extern PageDirectory identity_directory;
}  // namespace paean::arch

extern "C" {
extern char __boot_text_start[], __boot_data_start[], __text_start[], __text_end[], __rodata_end[], __data_end[];
extern char __bss_start[], __bss_end[], __image_end[];
}

namespace paean::arch {
namespace {

constexpr Uart kSerial{Uart::kCom1};

/// Where a variable of the kernel's window lies physically.
template <typename T>
T* physical(T* linked) {
  return reinterpret_cast<T*>(reinterpret_cast<u32>(linked) - kImageOffset);
}

u32 physical_of(const void* linked) { return reinterpret_cast<u32>(linked) - kImageOffset; }

void vga_write(const char* text) {
  auto* cell = reinterpret_cast<volatile u16*>(0xb8000);
  for (u32 i = 0; text[i] != '\0'; ++i) *cell++ = static_cast<u16>(0x4f00 | static_cast<u8>(text[i]));  // white on red
}

void serial_write(const char* text) {
  for (; *text != '\0'; ++text) kSerial.put(static_cast<u8>(*text));
}

[[noreturn]] void refuse(const char* sentence) {
  serial_write(sentence);
  serial_write("\r\n");
  for (u32 i = 0; i < 80 * 25; ++i) reinterpret_cast<volatile u16*>(0xb8000)[i] = 0x0720;
  vga_write(sentence);
  out8(0xf4, static_cast<u8>(ExitCode::Fail));
  halt_forever();
}

bool a20_is_open() {
  // Two words a megabyte apart are one word while the gate is closed. Below 1 MiB: the BIOS data area's boot flag.
  auto* low = reinterpret_cast<volatile u32*>(0x00000600);
  auto* high = reinterpret_cast<volatile u32*>(0x00100600);
  const u32 saved_low = *low, saved_high = *high;
  *low = 0x13579bdf;
  *high = 0x2468ace0;
  const bool open = *low == 0x13579bdf;
  *high = saved_high;
  *low = saved_low;
  return open;
}

void keyboard_controller_wait() {
  for (u32 tries = 0; tries < 100000 && (in8(0x64) & 2) != 0; ++tries) io_delay();
}

void open_a20() {
  if (a20_is_open()) return;
  out8(0x92, static_cast<u8>((in8(0x92) | 2) & ~1));  // the fast gate; bit 0 would reset the machine
  if (a20_is_open()) return;
  keyboard_controller_wait();
  out8(0x64, 0xd1);  // write the controller's output port
  keyboard_controller_wait();
  out8(0x60, 0xdf);  // A20 on, CPU not in reset
  keyboard_controller_wait();
  for (u32 tries = 0; tries < 100000; ++tries) {
    if (a20_is_open()) return;
  }
  refuse("Paean cannot boot: the A20 gate stays closed, every odd megabyte of memory is hidden.");
}

bool has_cpuid() {
  u32 before, after;
  asm volatile("pushfl; popl %0; movl %0, %1; xorl $0x200000, %1; pushl %1; popfl; pushfl; popl %1; pushl %0; popfl"
               : "=&r"(before), "=&r"(after)::"cc");
  return ((before ^ after) & 0x200000) != 0;
}

struct EarlyCpu {
  bool nx;
  bool pge;
  bool tsc;
};

EarlyCpu check_cpu() {
  constexpr const char* kNoPae = "Paean cannot boot: this CPU has no PAE, so it cannot reach memory above 4 GB.";
  if (!has_cpuid()) refuse(kNoPae);
  const u32 max_leaf = cpuid(0).eax;
  if (max_leaf < 1) refuse(kNoPae);
  const CpuidResult one = cpuid(1);
  if ((one.edx & (1u << 6)) == 0) refuse(kNoPae);
  if ((one.edx & (1u << 8)) == 0)
    refuse("Paean cannot boot: this CPU has no CMPXCHG8B, needed for 64-bit page-table entries.");
  const bool intel = cpuid(0).ebx == 0x756e6547;  // "Genu"
  const u32 family = (one.eax >> 8) & 15, model = ((one.eax >> 4) & 15) | ((one.eax >> 12) & 0xf0);
  if (intel && ((family == 6 && model >= 0x0d) || family == 15)) {
    // Firmware may hide NX behind this bit; with it set, an entry with NX is a reserved-bit fault.
    u32 low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(kMsrMiscEnable));
    if ((high & kMiscEnableXdDisableHigh) != 0) {
      asm volatile("wrmsr" ::"c"(kMsrMiscEnable), "a"(low), "d"(high & ~kMiscEnableXdDisableHigh));
    }
  }
  EarlyCpu cpu{};
  cpu.tsc = (one.edx & (1u << 4)) != 0;
  cpu.pge = (one.edx & (1u << 13)) != 0;
  if (cpuid(0x80000000).eax >= 0x80000001 && (cpuid(0x80000001).edx & (1u << 20)) != 0) {
    u32 low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(kMsrEfer));
    asm volatile("wrmsr" ::"c"(kMsrEfer), "a"(low | kEferNxe), "d"(high));
    cpu.nx = true;
  }
  return cpu;
}

/// The image's last word must be memory, else everything later writes into nothing.
void check_memory_under_image() {
  auto* last = reinterpret_cast<volatile u32*>(physical_of(__image_end) - 4);
  for (u32 pattern : {0x5aa5c33cu, 0xa55a3cc3u}) {
    *last = pattern;
    asm volatile("" ::: "memory");
    if (*last != pattern) refuse("Paean cannot boot: too little memory, the kernel image itself does not fit.");
  }
}

void zero_bss() {
  void* at = reinterpret_cast<void*>(physical_of(__bss_start));
  u32 count = static_cast<u32>(__bss_end - __bss_start) / 4;
  asm volatile("rep stosl" : "+D"(at), "+c"(count) : "a"(0) : "memory");
}

void copy_bytes(void* to, u32 from, u32 count) {
  const void* source = reinterpret_cast<const void*>(from);
  asm volatile("rep movsb" : "+D"(to), "+S"(source), "+c"(count)::"memory");
}

void copy_command_line(BootInfo* info, u32 address) {
  info->cmdline_given = 1;
  const char* text = reinterpret_cast<const char*>(address);
  u32 length = 0;
  while (length < kMaxCommandLine && text[length] != '\0') {
    info->cmdline[length] = text[length];
    ++length;
  }
  info->cmdline_length = length;
  info->cmdline_cut = length == kMaxCommandLine ? 1 : 0;
}

void copy_boot_information(u32 magic, u32 address) {
  BootInfo* info = physical(&boot_info);
  info->magic = magic;
  info->info_physical = address;
  if (magic != kMultibootMagic || address == 0) return;
  const auto* given = reinterpret_cast<const multiboot_info_t*>(address);
  info->flags = given->flags;
  if ((given->flags & MULTIBOOT_INFO_MEMORY) != 0) {
    info->mem_lower_kib = given->mem_lower;
    info->mem_upper_kib = given->mem_upper;
  }
  if ((given->flags & MULTIBOOT_INFO_MEM_MAP) != 0) {
    info->mmap_given = given->mmap_length;
    info->mmap_bytes = given->mmap_length < kMaxMmapBytes ? given->mmap_length : kMaxMmapBytes;
    copy_bytes(info->mmap, given->mmap_addr, info->mmap_bytes);
  }
  if ((given->flags & MULTIBOOT_INFO_CMDLINE) != 0 && given->cmdline != 0) copy_command_line(info, given->cmdline);
  if ((given->flags & MULTIBOOT_INFO_MODS) != 0) {
    info->modules_given = given->mods_count;
    info->module_count = given->mods_count < kMaxModules ? given->mods_count : kMaxModules;
    for (u32 i = 0; i < info->module_count; ++i) {
      u32 module[4];
      copy_bytes(module, given->mods_addr + i * sizeof module, sizeof module);
      info->modules[i] = BootModule{module[0], module[1]};
    }
  }
}

/// Two 32-bit stores; nothing walks these tables yet.
void store_entry(Entry* table, u32 index, u32 address, u32 flags, u32 high_flags) {
  volatile u32* words = reinterpret_cast<volatile u32*>(table + index);
  words[1] = high_flags;
  words[0] = address | flags;
}

u32 build_page_tables(const EarlyCpu& cpu) {
  constexpr u32 kP = 1, kW = 2, kAD = 0x60;
  const u32 no_execute = cpu.nx ? 0x80000000u : 0;
  const u32 global = cpu.pge ? 0x100u : 0;  // takes effect when CR4.PGE is set
  // The code that turns paging on runs here and keeps running here for two instructions.
  for (u32 at = reinterpret_cast<u32>(__boot_text_start); at < reinterpret_cast<u32>(__boot_data_start);
       at += kPageSize) {
    store_entry(physical(&identity_table)->entries, at >> kPageShift, at, kP | kAD, 0);
  }
  store_entry(physical(&identity_directory)->entries, 0, physical_of(&identity_table), kP | kW | kAD, 0);

  for (u32 at = reinterpret_cast<u32>(__text_start); at < reinterpret_cast<u32>(__image_end); at += kPageSize) {
    u32 flags = kP | kAD | global, high = no_execute;
    if (at < reinterpret_cast<u32>(__text_end))
      high = 0;
    else if (at >= reinterpret_cast<u32>(__rodata_end))
      flags |= kW;
    const u32 page = (at - kImageStart.raw()) >> kPageShift;
    store_entry(physical(&image_tables[page / kEntriesPerTable])->entries, page % kEntriesPerTable, at - kImageOffset,
                flags, high);
  }
  PageDirectory* top = physical(&kernel_directories[2]);
  for (u32 i = 0; i < 4; ++i) {
    store_entry(top->entries, pd_index(kImageStart) + i, physical_of(&image_tables[i]), kP | kW | kAD, 0);
    store_entry(top->entries, pd_index(kFixmapStart) + i, physical_of(&fixmap_tables[i]), kP | kW | kAD, 0);
  }
  auto* slots = reinterpret_cast<volatile u32*>(physical(&kernel_pdpt));
  slots[0] = physical_of(&identity_directory) | kP;
  for (u32 i = 0; i < 3; ++i) slots[2 * (i + 1)] = physical_of(&kernel_directories[i]) | kP;
  return physical_of(&kernel_pdpt);
}

}  // namespace

extern "C" u32 early_main(u32 magic, u32 information) {
  kSerial.init(1);
  const EarlyCpu cpu = check_cpu();
  u64 entry_tsc = 0;
  if (cpu.tsc) asm volatile("rdtsc" : "=A"(entry_tsc));
  open_a20();
  check_memory_under_image();
  zero_bss();
  copy_boot_information(magic, information);
  physical(&boot_info)->tsc = entry_tsc;
  return build_page_tables(cpu);
}

}  // namespace paean::arch
