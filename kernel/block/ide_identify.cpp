#include "kernel/block/ide_identify.hpp"

namespace paean {

namespace {

constexpr u32 kGeneral = 0, kModel = 27, kModelWords = 20, kCapabilities = 49, kSectors28 = 60, kCommandSets = 83;
constexpr u32 kSectors48 = 100, kSectorSize = 106, kWordsPerSector = 117;
constexpr u16 kPacket = 1u << 15, kDma = 1u << 8, kLba = 1u << 9;
constexpr u16 kHasLba48 = 1u << 10, kHasFlush = 1u << 12, kHasFlushExt = 1u << 13, kLargeSectors = 1u << 12;

/// Words 83 and 106 mean something only with bit 14 set and bit 15 clear.
bool is_valid(u16 word) { return (word & 0xc000) == 0x4000; }

void copy_model(std::span<const u16, kIdentityWords> words, char (&model)[41]) {
  u32 length = 0;
  for (u32 i = 0; i < 2 * kModelWords; ++i) {
    const u16 word = words[kModel + i / 2];
    const u8 byte = static_cast<u8>(i % 2 == 0 ? word >> 8 : word);  // the first character is the upper byte
    model[i] = byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '?';
    if (byte != ' ' && byte != 0) length = i + 1;
  }
  model[length] = '\0';
}

}  // namespace

IdeIdentity parse_identity(std::span<const u16, kIdentityWords> words) {
  IdeIdentity result;
  copy_model(words, result.model);
  const u16 general = words[kGeneral], capabilities = words[kCapabilities];
  if ((general & kPacket) != 0 || (capabilities & kLba) == 0) return result;
  const u16 sets = is_valid(words[kCommandSets]) ? words[kCommandSets] : u16{0};
  const u64 low = words[kSectors28] | u32{words[kSectors28 + 1]} << 16;
  u64 high = 0;
  for (u32 i = 4; i-- > 0;) high = high << 16 | words[kSectors48 + i];
  result.disk = true;
  result.dma = (capabilities & kDma) != 0;
  result.lba48 = (sets & kHasLba48) != 0 && high != 0 && high <= kLba48Sectors;
  result.flush = (sets & (result.lba48 ? kHasFlushExt : kHasFlush)) != 0;
  result.sectors = result.lba48 ? high : low < kLba28Sectors ? low : kLba28Sectors;
  if (is_valid(words[kSectorSize]) && (words[kSectorSize] & kLargeSectors) != 0)
    result.sector_bytes = 2 * (words[kWordsPerSector] | u32{words[kWordsPerSector + 1]} << 16);
  return result;
}

}  // namespace paean
