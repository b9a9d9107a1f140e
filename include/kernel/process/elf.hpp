// What an ELF file says about the program in it: static i386 executables.
//
//   file    | ELF header | program headers | ... segment ... | ... segment ... |
//                                             file_offset, file_bytes
//   memory            | file's bytes ............ | zeros |
//                     address                              address + memory_bytes
//
// Pure: looks at the first bytes of the file alone and believes nothing. What comes out can be mapped: segments lie in
// rising order below `limit`, do not share pages, do not touch the first page, their bytes are in the file, and
// address and file offset agree within a page.
// Errors: NotSupported for good files of another kind (64 bits, dynamic, another machine), Corrupt for all else.
// Source: System V ABI, chapters 4 and 5, and its i386 supplement.
#pragma once

#include <array>
#include <span>

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

struct ElfSegment {
  VirtAddr address{};
  u32 memory_bytes = 0;  // not 0
  u32 file_offset = 0, file_bytes = 0;
  bool writable = false, executable = false;

  VirtAddr first_page() const { return address.align_down(kPageSize); }
  /// Behind the last page.
  VirtAddr end_page() const { return (address + memory_bytes).align_up(kPageSize); }
};

struct ElfImage {
  static constexpr u32 kMostSegments = 16;

  std::array<ElfSegment, kMostSegments> segments{};
  u32 segment_count = 0;  // at least 1
  VirtAddr entry{};
  VirtAddr headers{};  // of the program headers in memory; 0 if no segment holds them
  u32 header_count = 0;
  bool executable_stack = false;

  std::span<const ElfSegment> loaded() const { return {segments.data(), segment_count}; }
  /// Where the heap may begin.
  VirtAddr end() const { return segments[segment_count - 1].end_page(); }
};

/// So many bytes of the file are enough: what is not in them is not looked at.
inline constexpr u32 kElfHeadBytes = 4096;
inline constexpr u32 kElfProgramHeaderBytes = 32;

/// `head` is the file's beginning, kElfHeadBytes or what there is; user space ends at `limit`.
Result<ElfImage> parse_elf(std::span<const u8> head, u64 file_bytes, VirtAddr limit);

}  // namespace paean
