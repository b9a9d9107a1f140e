#include "kernel/process/elf.hpp"

namespace paean {

namespace {

constexpr u32 kHeaderBytes = 52;
constexpr u32 kTypeLoad = 1, kTypeDynamic = 2, kTypeInterpreter = 3, kTypeGnuStack = 0x6474e551;
constexpr u32 kFlagExecute = 1, kFlagWrite = 2;
constexpr u16 kExecutable = 2, kShared = 3, kMachine386 = 3;

u32 word_at(std::span<const u8> bytes, u32 at, u32 size) {
  u32 value = 0;
  for (u32 i = 0; i < size; ++i) value |= u32{bytes[at + i]} << 8 * i;
  return value;
}

struct ProgramHeader {
  u32 type, offset, address, file_bytes, memory_bytes, flags;
};

ProgramHeader header_at(std::span<const u8> head, u32 at) {
  return {word_at(head, at, 4),      word_at(head, at + 4, 4),  word_at(head, at + 8, 4),
          word_at(head, at + 16, 4), word_at(head, at + 20, 4), word_at(head, at + 24, 4)};
}

Result<> check_kind(std::span<const u8> head) {
  static constexpr u8 kMagic[] = {0x7f, 'E', 'L', 'F'};
  if (head.size() < kHeaderBytes) return std::unexpected(Error::Corrupt);
  for (u32 i = 0; i < sizeof kMagic; ++i) {
    if (head[i] != kMagic[i]) return std::unexpected(Error::Corrupt);
  }
  const bool class_32 = head[4] == 1, little_endian = head[5] == 1;
  const u32 type = word_at(head, 16, 2), machine = word_at(head, 18, 2);
  if (!class_32 || !little_endian || machine != kMachine386 || type == kShared)
    return std::unexpected(Error::NotSupported);
  const bool version_1 = head[6] == 1 && word_at(head, 20, 4) == 1;
  if (!version_1 || type != kExecutable) return std::unexpected(Error::Corrupt);
  return {};
}

Result<ElfSegment> check_segment(const ProgramHeader& header, u64 file_bytes, VirtAddr limit) {
  const u64 memory_end = u64{header.address} + header.memory_bytes;
  const bool in_file = u64{header.offset} + header.file_bytes <= file_bytes;
  const bool congruent = (header.address - header.offset) % kPageSize == 0;
  if (!in_file || !congruent || header.file_bytes > header.memory_bytes) return std::unexpected(Error::Corrupt);
  // The end is rounded up to a page, which must not wrap either.
  if (header.address < kPageSize || memory_end > limit.align_down(kPageSize).raw())
    return std::unexpected(Error::Corrupt);
  return ElfSegment{VirtAddr{header.address},
                    header.memory_bytes,
                    header.offset,
                    header.file_bytes,
                    (header.flags & kFlagWrite) != 0,
                    (header.flags & kFlagExecute) != 0};
}

Result<> add_segment(ElfImage& image, const ElfSegment& segment) {
  if (image.segment_count == ElfImage::kMostSegments) return std::unexpected(Error::Corrupt);
  if (image.segment_count != 0 && segment.first_page() < image.end()) return std::unexpected(Error::Corrupt);
  image.segments[image.segment_count++] = segment;
  return {};
}

/// Where a segment shows the program headers.
VirtAddr headers_in_memory(const ElfImage& image, u32 offset, u32 bytes) {
  for (const ElfSegment& segment : image.loaded()) {
    if (offset < segment.file_offset) continue;
    const u32 distance = offset - segment.file_offset;
    if (u64{distance} + bytes <= segment.file_bytes) return segment.address + distance;
  }
  return VirtAddr{};
}

}  // namespace

Result<ElfImage> parse_elf(std::span<const u8> head, u64 file_bytes, VirtAddr limit) {
  TRY(check_kind(head));
  ElfImage image;
  image.entry = VirtAddr{word_at(head, 24, 4)};
  image.header_count = word_at(head, 44, 2);
  const u32 at = word_at(head, 28, 4), entry_bytes = word_at(head, 42, 2);
  const u32 headers_bytes = image.header_count * kElfProgramHeaderBytes;
  if (entry_bytes != kElfProgramHeaderBytes || u64{at} + headers_bytes > head.size() || image.entry >= limit)
    return std::unexpected(Error::Corrupt);
  for (u32 i = 0; i < image.header_count; ++i) {
    const ProgramHeader header = header_at(head, at + i * kElfProgramHeaderBytes);
    if (header.type == kTypeInterpreter || header.type == kTypeDynamic) return std::unexpected(Error::NotSupported);
    if (header.type == kTypeGnuStack) image.executable_stack = (header.flags & kFlagExecute) != 0;
    if (header.type != kTypeLoad || header.memory_bytes == 0) continue;
    const ElfSegment segment = TRY(check_segment(header, file_bytes, limit));
    TRY(add_segment(image, segment));
  }
  if (image.segment_count == 0) return std::unexpected(Error::Corrupt);
  image.headers = headers_in_memory(image, at, headers_bytes);
  return image;
}

}  // namespace paean
