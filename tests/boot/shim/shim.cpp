// A boot loader that boots from a boot loader: prepares memory and machine as the blob says and starts the kernel.
//
// Whatever is wrong with the blob or the kernel file is said on COM1 and ends QEMU with status 39, so that a mistake of
// the tests is never taken for a verdict on the kernel.
#include <elf.h>
#include <multiboot/multiboot.h>

#include "blob.hpp"

extern "C" {
extern char shim_start[], shim_end[];
extern uint32_t launch_registers[8], launch_eflags, launch_esp, launch_entry, launch_a20;
extern uint32_t launch_cr0, launch_cr3, launch_cr4;
struct [[gnu::packed]] TableRegister {
  uint16_t limit;
  uint32_t base;
};
extern TableRegister launch_gdtr;
void shim_main(uint32_t magic, uint32_t info);
}

namespace shim {
namespace {

constexpr uint16_t kCom1 = 0x3f8;
constexpr uint16_t kExitPort = 0xf4;
constexpr uint8_t kShimRefused = 0x13;  // QEMU status 39
constexpr uint8_t kBssGarbage = 0xa5;
constexpr uint32_t kMegabyte = 1u << 20;
constexpr uint32_t kAliasLimit = 0x90000;  // above lie the EBDA, the screen and the ROMs

struct Span {
  uint32_t begin;
  uint32_t end;  // exclusive
};

Span kernel_file, blob_file, all_modules;

template <typename T>
T* at(uint32_t address) {
  return reinterpret_cast<T*>(address);
}

void out(uint16_t port, uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
uint8_t in(uint16_t port) {
  uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

void copy(uint32_t target, uint32_t source, uint32_t length) {
  asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(length) : : "memory");
}

void fill(uint32_t target, uint8_t value, uint32_t length) {
  asm volatile("rep stosb" : "+D"(target), "+c"(length) : "a"(value) : "memory");
}

[[noreturn]] void refuse(const char* why) {
  out(kCom1 + 3, 0x80);
  out(kCom1 + 0, 1);
  out(kCom1 + 1, 0);
  out(kCom1 + 3, 0x03);
  out(kCom1 + 4, 0x03);
  const char* const parts[] = {"shim: ", why, "\n"};
  for (const char* text : parts) {
    for (; *text != '\0'; ++text) {
      while ((in(kCom1 + 5) & 0x20) == 0) {}
      out(kCom1, static_cast<uint8_t>(*text));
    }
  }
  out(kExitPort, kShimRefused);
  for (;;) asm volatile("cli; hlt");
}

bool overlap(Span a, Span b) { return a.begin < b.end && b.begin < a.end; }

/// Where bytes go must leave the shim, its modules and itself alone.
void check_target(uint32_t target, uint32_t length) {
  if (length == 0) return;
  if (target + length < target) refuse("a target wraps at 4 GiB");
  const Span span{target, target + length};
  const Span self{static_cast<uint32_t>(reinterpret_cast<uintptr_t>(shim_start)),
                  static_cast<uint32_t>(reinterpret_cast<uintptr_t>(shim_end))};
  if (overlap(span, self)) refuse("a target lies in the shim");
  if (overlap(span, all_modules)) refuse("a target lies in the shim's modules");
}

/// Copies what the aliases of [begin, end) would show while A20 is off, as far as that is RAM.
void copy_alias(uint32_t begin, uint32_t end) {
  while (begin < end) {
    const uint32_t next = (begin & ~(kMegabyte - 1)) + kMegabyte;
    const uint32_t stop = end < next ? end : next;
    if ((begin & kMegabyte) != 0) {
      const uint32_t target = begin & ~kMegabyte;
      uint32_t target_end = target + (stop - begin);
      if (target < kMegabyte && target_end > kAliasLimit) target_end = kAliasLimit;
      if (target < target_end) copy(target, begin, target_end - target);
    }
    begin = stop;
  }
}

/// Copies the kernel's segments to their physical addresses; returns its entry point.
uint32_t load_kernel(uint32_t flags) {
  const auto* elf = at<const Elf32_Ehdr>(kernel_file.begin);
  if (kernel_file.end - kernel_file.begin < sizeof *elf || elf->e_ident[0] != 0x7f || elf->e_ident[1] != 'E' ||
      elf->e_ident[4] != ELFCLASS32 || elf->e_machine != EM_386 || elf->e_phentsize != sizeof(Elf32_Phdr)) {
    refuse("the first module is not an ELF file for i386");
  }
  const auto* headers = at<const Elf32_Phdr>(kernel_file.begin + elf->e_phoff);
  for (uint32_t i = 0; i < elf->e_phnum; ++i) {
    const Elf32_Phdr& header = headers[i];
    if (header.p_type != PT_LOAD) continue;
    check_target(header.p_paddr, header.p_memsz);
    copy(header.p_paddr, kernel_file.begin + header.p_offset, header.p_filesz);
    fill(header.p_paddr + header.p_filesz, (flags & kZeroBss) != 0 ? 0 : kBssGarbage, header.p_memsz - header.p_filesz);
  }
  return elf->e_entry;
}

/// The first megabyte of the image alone: the code that opens the gate lies there, and the alias of a later odd
/// megabyte is an even one that the image itself may fill.
void copy_kernel_aliases() {
  constexpr uint32_t kEnd = 2 * kMegabyte;
  const auto* elf = at<const Elf32_Ehdr>(kernel_file.begin);
  const auto* headers = at<const Elf32_Phdr>(kernel_file.begin + elf->e_phoff);
  for (uint32_t i = 0; i < elf->e_phnum; ++i) {
    if (headers[i].p_type != PT_LOAD || headers[i].p_paddr >= kEnd) continue;
    const uint32_t end = headers[i].p_paddr + headers[i].p_memsz;
    copy_alias(headers[i].p_paddr, end < kEnd ? end : kEnd);
  }
}

/// Carries out the records. With A20 off the kernel reads them through their aliases too.
void obey_records(const BlobHeader& header) {
  uint32_t position = blob_file.begin + sizeof header;
  for (uint32_t i = 0; i < header.record_count; ++i) {
    if (position + sizeof(BlobRecord) > blob_file.end) refuse("the blob ends in a record");
    const BlobRecord record = *at<const BlobRecord>(position);
    position += sizeof record;
    check_target(record.target, record.length);
    if (record.kind == RecordKind::Copy) {
      if (record.length > blob_file.end - position) refuse("the blob ends in a record's bytes");
      copy(record.target, position, record.length);
      position += (record.length + 3) & ~3u;
    } else if (record.kind == RecordKind::Fill) {
      fill(record.target, static_cast<uint8_t>(record.value), record.length);
    } else {
      refuse("unknown record");
    }
    if ((header.flags & kA20Off) != 0) copy_alias(record.target, record.target + record.length);
  }
}

void touch_uart(const UartState& uart) {
  out(kCom1 + 3, 0x80);
  out(kCom1 + 0, uart.divisor_low);
  out(kCom1 + 1, uart.divisor_high);
  out(kCom1 + 3, 0x00);
  out(kCom1 + 1, uart.interrupts);
  out(kCom1 + 2, uart.fifo);
  out(kCom1 + 4, uart.modem);
  out(kCom1 + 3, uart.line);
}

}  // namespace
}  // namespace shim

void shim_main(uint32_t magic, uint32_t info_address) {
  using namespace shim;
  const auto& info = *at<const multiboot_info>(info_address);
  if (magic != MULTIBOOT_BOOTLOADER_MAGIC) refuse("not started by a Multiboot loader");
  if ((info.flags & MULTIBOOT_INFO_MODS) == 0 || info.mods_count != 2) refuse("needs two modules: kernel and blob");
  const auto* modules = at<const multiboot_module_t>(info.mods_addr);
  kernel_file = {modules[0].mod_start, modules[0].mod_end};
  blob_file = {modules[1].mod_start, modules[1].mod_end};
  all_modules = {kernel_file.begin < blob_file.begin ? kernel_file.begin : blob_file.begin,
                 kernel_file.end > blob_file.end ? kernel_file.end : blob_file.end};

  const BlobHeader header = *at<const BlobHeader>(blob_file.begin);
  if (header.magic != kBlobMagic || header.version != kBlobVersion) refuse("the second module is not a blob");
  if (header.size != blob_file.end - blob_file.begin) refuse("the blob is cut short");

  launch_entry = load_kernel(header.flags);
  if ((header.flags & kA20Off) != 0) copy_kernel_aliases();
  obey_records(header);
  const uint32_t registers[8] = {header.edi, header.esi, header.ebp, 0, header.ebx, header.edx, header.ecx, header.eax};
  for (uint32_t i = 0; i < 8; ++i) launch_registers[i] = registers[i];
  launch_eflags = header.eflags;
  launch_esp = header.esp;
  launch_a20 = header.flags & kA20Off;
  launch_cr0 = header.cr0_set;
  launch_cr3 = header.cr3;
  launch_cr4 = header.cr4_set;
  if ((header.flags & kLoseGdt) != 0) launch_gdtr = {0, 0xa5a5a5a5};
  if ((header.flags & kUartTouch) != 0) touch_uart(header.uart);
}
