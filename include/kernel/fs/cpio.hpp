// Archives of `cpio -o -H newc`: entry after entry, from the front.
//
//   header: 110 bytes of text | name, with a zero | padding to 4 | contents | padding to 4 | the next header ...
//   ... until the name TRAILER!!!
//
// Pure: bytes come from a source, so the archive need not lie in memory at once. Whatever the bytes are, nothing
// outside [0, size) is asked for, and each entry begins behind the one before.
// Names are as archives have them; path_of() makes one that stays inside the folder that is unpacked into.
// Errors: Corrupt; what the source says.
// Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
#pragma once

#include <optional>
#include <string_view>

#include "lib/result.hpp"
#include "lib/types.hpp"

namespace paean {

class CpioSource {
 public:
  /// All of them; inside the size that the archive was made with.
  virtual Result<> read(u32 offset, void* into, u32 bytes) = 0;

 protected:
  ~CpioSource() = default;
};

struct CpioEntry {
  enum class Type : u8 { Regular, Directory, Symlink, Other };
  static constexpr u32 kMostName = 1024;  // with its zero

  Type type = Type::Other;
  u16 permissions = 0;
  u32 inode = 0, uid = 0, gid = 0, links = 0, modified = 0;
  u32 contents = 0, bytes = 0;  // where, in the archive
  u32 name_bytes = 0;
  char name_text[kMostName];
  std::string_view name() const { return {name_text, name_bytes}; }
};

class CpioArchive {
 public:
  CpioArchive(CpioSource& source, u32 size) : source_(source), size_(size) {}

  /// False behind the last one: at the trailer.
  Result<bool> next(CpioEntry& entry);
  /// Where the next header is, for messages.
  u32 position() const { return at_; }

  /// `name` without `/` and `./` in front, as a path from the root; nothing for the root itself, or if `..` is in it.
  static std::optional<std::string_view> path_of(std::string_view name);
  static constexpr u32 kMagicBytes = 6;
  static bool is_archive(std::string_view first_bytes);

 private:
  CpioSource& source_;
  u32 size_, at_ = 0;
};

}  // namespace paean
