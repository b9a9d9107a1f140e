// What the boot loader said, copied out of its memory before anything of ours can overwrite it.
//
// Everything here comes from outside and may be garbage: lengths are clipped to the arrays, nothing is interpreted.
// Filled once by boot/early.cpp, before paging; read-only afterwards.
#pragma once

#include "lib/types.hpp"

namespace paean::arch {

inline constexpr u32 kMaxCommandLine = 4096;
inline constexpr u32 kMaxMmapBytes = 256 * 68;  // 256 entries of up to 64 bytes and their size words
inline constexpr u32 kMaxModules = 16;

struct BootModule {
  u32 start;  // physical bytes, [start, end)
  u32 end;
};

struct BootInfo {
  u32 magic;           // what EAX held; kMultibootMagic if a Multiboot loader started us
  u32 flags;           // Multiboot flags as given
  u32 mem_lower_kib;   // if flags bit 0
  u32 mem_upper_kib;   // if flags bit 0
  u32 mmap_given;      // mmap_length as the loader said
  u32 mmap_bytes;      // how many bytes of it are in mmap[]
  u32 cmdline_given;   // 1 if there is a command line
  u32 cmdline_length;  // bytes in cmdline[], without a NUL
  u32 cmdline_cut;     // 1 if the loader's was longer than kMaxCommandLine
  u32 modules_given;   // as the loader said
  u32 module_count;    // in modules[]
  u32 info_physical;   // where the information block lies
  u64 tsc;             // the time-stamp counter at entry, 0 without one
  BootModule modules[kMaxModules];
  char cmdline[kMaxCommandLine];
  alignas(8) u8 mmap[kMaxMmapBytes];
};

inline constexpr u32 kMultibootMagic = 0x2badb002;

extern BootInfo boot_info;

}  // namespace paean::arch
