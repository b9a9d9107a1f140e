// Descriptors of files and directories.
#include <memory>

#include "kernel/process/file.hpp"
#include "kernel/sync.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

class DiskFile final : public FileObject {
 public:
  DiskFile(OpenFile* file, u32 flags, char* path) : FileObject(flags), file_(file), path_(path) {}

  Answer read(CopyTarget into) override {
    const Turn turn{*this};
    return answer(read_file(*file_, into));
  }
  Answer write(CopySource from) override {
    const Turn turn{*this};
    return answer(write_file(*file_, from));
  }
  Answer read_at(u64 offset, CopyTarget into) override { return answer(read_file_at(*file_, offset, into)); }
  Answer write_at(u64 offset, CopySource from) override { return answer(write_file_at(*file_, offset, from)); }
  Answer seek(i64 distance, SeekFrom from, u64& position) override {
    const Turn turn{*this};
    const Result<u64> now = seek_file(*file_, distance, from);
    if (!now) return answer_of(now.error());
    position = *now;
    return 0;
  }
  Answer list(DirectoryVisitor visit, void* context) override {
    const Turn turn{*this};
    return answer_of(read_directory(*file_, visit, context));
  }
  bool is_regular() const override { return true; }
  FileStatus status() const override { return status_of(*file_); }
  OpenFile* open_file() const override { return file_; }
  std::string_view path() const override { return path_ != nullptr ? path_ : std::string_view{}; }

 private:
  /// An open file is for one thread at a time.
  class Turn {
   public:
    explicit Turn(DiskFile& file) : file_(file) { file_.turn_.down(); }
    ~Turn() { file_.turn_.up(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    DiskFile& file_;
  };

  static Answer answer(const Result<u32>& result) {
    return result ? static_cast<Answer>(*result) : answer_of(result.error());
  }
  void end() override {
    close_file(file_);
    kfree(path_);
    std::destroy_at(this);
    kfree(this);
  }

  OpenFile* file_;
  char* path_;
  Semaphore turn_{1};
};

OpenMode mode_of(u32 flags) {
  const u32 access = flags & kOpenAccessMask;
  OpenMode mode = access == kOpenWriteOnly ? OpenMode::Write : OpenMode::Read;
  if (access == kOpenReadWrite) mode = OpenMode::Read | OpenMode::Write;
  if ((flags & kOpenCreate) != 0) mode = mode | OpenMode::Create;
  if ((flags & kOpenCreate) != 0 && (flags & kOpenExclusive) != 0) mode = mode | OpenMode::Exclusive;
  if ((flags & kOpenTruncate) != 0 && access != 0) mode = mode | OpenMode::Truncate;
  if ((flags & kOpenAppend) != 0) mode = mode | OpenMode::Append;
  if ((flags & kOpenDirectory) != 0) mode = mode | OpenMode::Directory;
  return mode;
}

Result<char*> copy_path(std::string_view path) {
  auto* const text = static_cast<char*>(TRY(kmalloc(static_cast<u32>(path.size()) + 1, AllocFlags::Kernel)));
  __builtin_memcpy(text, path.data(), path.size());
  text[path.size()] = '\0';
  return text;
}

}  // namespace

Result<FileRef> open_disk_file(std::string_view path, u32 flags, u16 permissions) {
  OpenFile* const file = TRY(paean::open_file(path, mode_of(flags), permissions));
  Result<char*> text = nullptr;
  if (status_of(*file).type == FileType::Directory) text = copy_path(path);
  const Result<void*> place = kmalloc(sizeof(DiskFile), AllocFlags::Kernel);
  if (!place || !text) {
    close_file(file);
    if (text) kfree(*text);
    if (place) kfree(*place);
    return std::unexpected(Error::OutOfMemory);
  }
  constexpr u32 kKept = kOpenAccessMask | kOpenAppend | kOpenNonBlock | kOpenLargeFile | kOpenDirectory;
  return FileRef{new (*place) DiskFile{file, flags & kKept, *text}};
}

}  // namespace paean
