// What the commands that work on files share.
#pragma once

#include "kernel/console/interpreter.hpp"
#include "kernel/fs/file.hpp"
#include "lib/bytes.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

/// One line: `cat: /x: not found`.
CommandStatus complain(const Args& args, Sink& out, std::string_view path, Error error);

/// An open file that closes itself.
class FileScope {
 public:
  FileScope(std::string_view path, OpenMode mode, u16 permissions = 0644) : file_(open_file(path, mode, permissions)) {}
  ~FileScope() {
    if (file_) close_file(*file_);
  }
  FileScope(const FileScope&) = delete;
  FileScope& operator=(const FileScope&) = delete;
  explicit operator bool() const { return file_.has_value(); }
  Error error() const { return file_.error(); }
  OpenFile& operator*() const { return **file_; }

 private:
  Result<OpenFile*> file_;
};

/// Memory for one command, gone at its end. Check it before use.
class Scratch {
 public:
  explicit Scratch(u32 bytes = 16 * kKiB) {
    if (const Result<void*> place = kmalloc(bytes, AllocFlags::Kernel); place)
      bytes_ = {static_cast<u8*>(*place), bytes};
  }
  ~Scratch() { kfree(bytes_.data()); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  explicit operator bool() const { return !bytes_.empty(); }
  std::span<u8> bytes() const { return bytes_; }
  std::span<char> text() const { return {chars_at(bytes_.data()), bytes_.size()}; }

 private:
  std::span<u8> bytes_{};
};

/// Where a file goes that is moved or copied `to`: there, or under its own name into that directory.
std::string_view place_in(std::string_view from, std::string_view to, Scratch& scratch);

/// TAB for paths.
void complete_path(CommandInterpreter& interpreter, std::string_view line, Candidates& candidates);

}  // namespace paean
