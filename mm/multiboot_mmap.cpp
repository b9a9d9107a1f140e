#include "mm/multiboot_mmap.hpp"

namespace paean {

namespace {

constexpr usize kSizeField = 4;
constexpr u32 kLeastEntry = 20;  // base, length, type

/// Little-endian, at any alignment. The caller has checked that the bytes are there.
u64 read_bytes(std::span<const std::byte> blob, usize offset, u32 count) {
  u64 value = 0;
  for (u32 i = 0; i < count; ++i) value |= u64{std::to_integer<u8>(blob[offset + i])} << (8 * i);
  return value;
}

}  // namespace

Result<E820Entry> take_multiboot_entry(std::span<const std::byte>& blob) {
  if (blob.empty()) return std::unexpected(Error::NotFound);
  if (blob.size() < kSizeField + kLeastEntry) return std::unexpected(Error::Corrupt);
  const u32 size = static_cast<u32>(read_bytes(blob, 0, 4));
  if (size < kLeastEntry || size > blob.size() - kSizeField) return std::unexpected(Error::Corrupt);
  const E820Entry entry{read_bytes(blob, 4, 8), read_bytes(blob, 12, 8), static_cast<u32>(read_bytes(blob, 20, 4))};
  blob = blob.subspan(kSizeField + size);
  return entry;
}

}  // namespace paean
