// A tmpfs of a test's own at /t, gone at its end.
#pragma once

#include "kernel/fs/file.hpp"
#include "kernel/fs/tmpfs.hpp"
#include "kernel/test/ktest.hpp"
#include "lib/bytes.hpp"
#include "results.hpp"

namespace paean {

class TmpfsSpace {
 public:
  explicit TmpfsSpace(std::string_view path = "/t") : path_(path) {
    if (make_directory(path_)) ready_ = mount({}, path_, "tmpfs", MountMode::ReadWrite).has_value();
  }
  ~TmpfsSpace() {
    ASSERT(unmount(path_));
    ASSERT(remove_directory(path_));
  }
  TmpfsSpace(const TmpfsSpace&) = delete;
  TmpfsSpace& operator=(const TmpfsSpace&) = delete;
  bool ready() const { return ready_; }

 private:
  std::string_view path_;
  bool ready_ = false;
};

inline Error error_of(const Result<>& result) { return result.error(); }
template <typename T>
Error error_of(const Result<T>& result) {
  return result.error();
}
inline std::span<const u8> bytes_of(std::string_view text) { return {bytes_at(text.data()), text.size()}; }

/// A file with these contents.
inline Result<> write_text(std::string_view path, std::string_view text) {
  OpenFile* file = TRY(open_file(path, OpenMode::Write | OpenMode::Create | OpenMode::Truncate));
  const Result<u32> written = text.empty() ? Result<u32>{0} : write_file(*file, bytes_of(text));
  close_file(file);
  if (!written) return std::unexpected(written.error());
  return {};
}

/// Files 0, 1, 2 and so on of a folder, each with this text.
inline bool make_files(std::string_view folder, u32 count, std::string_view text) {
  char name[32];
  BufferSink path{name};
  for (u32 i = 0; i < count; ++i) {
    path.clear();
    format_to(path, "{}/{}", folder, i);
    if (!write_text(path.view(), text)) return false;
  }
  return true;
}

inline bool holds_text(std::string_view path, std::string_view text) {
  const Result<OpenFile*> file = open_file(path, OpenMode::Read);
  if (!file) return false;
  u8 bytes[64]{};
  const Result<u32> got = read_file(**file, bytes);
  close_file(*file);
  return got && std::string_view{chars_at(bytes), *got} == text;
}

}  // namespace paean
