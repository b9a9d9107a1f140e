#include "kernel/fs/cpio.hpp"

namespace paean {

namespace {

constexpr u32 kHeaderBytes = 110, kFields = 13, kDigits = 8;
constexpr std::string_view kMagic = "070701", kMagicWithSum = "070702", kTrailer = "TRAILER!!!";

/// In the order of the header.
enum Field : u32 {
  InodeNumber,
  Mode,
  Uid,
  Gid,
  Links,
  Modified,
  FileBytes,
  Major,
  Minor,
  RMajor,
  RMinor,
  NameBytes,
  Sum
};
static_assert(Sum + 1 == kFields && CpioArchive::kMagicBytes + kFields * kDigits == kHeaderBytes);

std::optional<u32> hexadecimal(std::string_view text) {
  u32 value = 0;
  for (const char c : text) {
    u32 digit;
    if (c >= '0' && c <= '9')
      digit = static_cast<u32>(c - '0');
    else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
      digit = static_cast<u32>((c | 0x20) - 'a') + 10;
    else
      return std::nullopt;
    value = value << 4 | digit;
  }
  return value;
}

CpioEntry::Type type_of(u32 mode) {
  switch (mode >> 12) {
    case 8: return CpioEntry::Type::Regular;
    case 4: return CpioEntry::Type::Directory;
    case 10: return CpioEntry::Type::Symlink;
    default: return CpioEntry::Type::Other;
  }
}

constexpr u64 padded(u64 at) { return (at + 3) & ~u64{3}; }

}  // namespace

bool CpioArchive::is_archive(std::string_view first_bytes) {
  return first_bytes.starts_with(kMagic) || first_bytes.starts_with(kMagicWithSum);
}

Result<bool> CpioArchive::next(CpioEntry& entry) {
  const auto corrupt = std::unexpected(Error::Corrupt);
  char bytes[kHeaderBytes];
  const std::string_view header{bytes, kHeaderBytes};
  if (size_ - at_ < kHeaderBytes) return corrupt;
  TRY(source_.read(at_, bytes, kHeaderBytes));
  if (!is_archive(header)) return corrupt;
  u32 fields[kFields];
  for (u32 i = 0; i < kFields; ++i) {
    const auto value = hexadecimal(header.substr(kMagicBytes + i * kDigits, kDigits));
    if (!value) return corrupt;
    fields[i] = *value;
  }
  const u32 name_bytes = fields[NameBytes];
  if (name_bytes == 0 || name_bytes > CpioEntry::kMostName) return corrupt;
  const u64 contents = padded(u64{at_} + kHeaderBytes + name_bytes), end = contents + fields[FileBytes];
  if (u64{at_} + kHeaderBytes + name_bytes > size_) return corrupt;
  TRY(source_.read(at_ + kHeaderBytes, entry.name_text, name_bytes));
  entry.name_bytes = 0;
  while (entry.name_bytes < name_bytes && entry.name_text[entry.name_bytes] != '\0') ++entry.name_bytes;
  if (entry.name_bytes != name_bytes - 1) return corrupt;
  if (entry.name() == kTrailer) return false;
  if (end > size_) return corrupt;
  entry.type = type_of(fields[Mode]);
  entry.permissions = static_cast<u16>(fields[Mode] & 07777);
  entry.inode = fields[InodeNumber];
  entry.uid = fields[Uid];
  entry.gid = fields[Gid];
  entry.links = fields[Links];
  entry.modified = fields[Modified];
  entry.contents = static_cast<u32>(contents);
  entry.bytes = fields[FileBytes];
  at_ = padded(end) < size_ ? static_cast<u32>(padded(end)) : size_;
  return true;
}

std::optional<std::string_view> CpioArchive::path_of(std::string_view name) {
  for (;;) {
    if (name.starts_with('/'))
      name.remove_prefix(1);
    else if (name == "." || name.starts_with("./"))
      name.remove_prefix(name.size() == 1 ? 1 : 2);
    else
      break;
  }
  if (name.empty()) return std::nullopt;
  for (std::string_view rest = name; !rest.empty();) {
    const std::size_t end = rest.find('/') == std::string_view::npos ? rest.size() : rest.find('/');
    if (rest.substr(0, end) == "..") return std::nullopt;
    rest.remove_prefix(end == rest.size() ? end : end + 1);
  }
  return name;
}

}  // namespace paean
