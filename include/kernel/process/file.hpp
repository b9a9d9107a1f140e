// What a file descriptor stands for, and the table of a process's descriptors.
//
//   descriptor 3 --+
//                  +--> FileObject (counted) --> open file | directory | console | end of a pipe
//   descriptor 7 --+        dup and fork share it, and so its position
//
// Reading and writing take kernel memory: user memory is copied by the calls, with no lock held, because a copy may
// sleep for a page. All may sleep.
#pragma once

#include <atomic>
#include <span>

#include "kernel/fs/file.hpp"
#include "kernel/process/errno.hpp"
#include "kernel/spinlock.hpp"
#include "kernel/wait.hpp"

namespace paean {

/// The locks of processes are taken one at a time, and wake threads while held.
inline constexpr LockRank kProcessRank = LockRank::Process;

/// The numbers of POLLIN, POLLOUT, POLLERR and POLLHUP.
inline constexpr u32 kReadyRead = 1, kReadyWrite = 4, kReadyError = 8, kReadyHangUp = 16;
/// What a pipe tells, so that who polls looks again.
extern WaitQueue pollers;
inline void tell_pollers() {
  if (pollers.waiting() != 0) (void)pollers.wake_all();
}

class FileObject {
 public:
  FileObject(const FileObject&) = delete;
  FileObject& operator=(const FileObject&) = delete;

  /// How many bytes; 0 at the end. May be fewer than asked for. The program's memory only where is_regular().
  virtual Answer read(CopyTarget into) = 0;
  virtual Answer write(CopySource from) = 0;
  /// True for what has contents that a read does not use up.
  virtual bool is_regular() const { return false; }
  virtual FileStatus status() const = 0;
  /// The open file, if it is one.
  virtual OpenFile* open_file() const { return nullptr; }
  /// Absolute, of directories.
  virtual std::string_view path() const { return {}; }
  virtual bool is_terminal() const { return false; }
  virtual Answer seek(i64, SeekFrom, u64&) { return err::kSeek; }
  virtual Answer read_at(u64, CopyTarget) { return err::kSeek; }
  virtual Answer write_at(u64, CopySource) { return err::kSeek; }

  /// What would not wait now: a set of kReady*. Who makes it more tells pollers.
  virtual u32 ready() { return kReadyRead | kReadyWrite; }

  virtual Answer list(DirectoryVisitor, void*) { return err::kNotDirectory; }

  u32 flags() const { return flags_.load(std::memory_order_relaxed); }  // O_*
  void set_flags(u32 flags) { flags_.store(flags, std::memory_order_relaxed); }

  void get() { references_.fetch_add(1, std::memory_order_relaxed); }
  void put() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) end();
  }

 protected:
  explicit FileObject(u32 flags) : flags_(flags) {}
  ~FileObject() = default;
  /// Closes it and frees the object.
  virtual void end() = 0;

 private:
  std::atomic<u32> references_{1};
  std::atomic<u32> flags_;
};

/// A reference for a scope.
class [[nodiscard]] FileRef {
 public:
  FileRef() = default;
  explicit FileRef(FileObject* counted) : file_(counted) {}
  FileRef(FileRef&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
  FileRef& operator=(FileRef&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~FileRef() {
    if (file_ != nullptr) file_->put();
  }
  explicit operator bool() const { return file_ != nullptr; }
  FileObject* operator->() const { return file_; }
  FileObject& operator*() const { return *file_; }
  FileObject* release() { return std::exchange(file_, nullptr); }

 private:
  FileObject* file_ = nullptr;
};

enum class CloseOnExec : u8 { No, Yes };

/// Descriptors of one process, shared by its threads.
class FileTable {
 public:
  static constexpr u32 kMost = 256;

  FileTable() = default;
  ~FileTable() { close_all(); }
  FileTable(const FileTable&) = delete;
  FileTable& operator=(const FileTable&) = delete;

  /// Nothing if there is no such descriptor.
  FileRef get(u32 descriptor);
  /// The lowest free descriptor from `least` on; takes the reference over. kManyFiles.
  Answer add(FileRef file, CloseOnExec on_exec, u32 least = 0);
  /// At that descriptor; what was there is closed. The descriptor.
  Answer set(u32 descriptor, FileRef file, CloseOnExec on_exec);
  Answer close(u32 descriptor);
  /// kBadFile if there is no such descriptor.
  Answer close_on_exec(u32 descriptor);
  Answer set_close_on_exec(u32 descriptor, CloseOnExec on_exec);
  /// All of the other's.
  Result<> copy_from(FileTable& other);
  void close_for_exec();
  void close_all();

 private:
  Result<> grow(u32 size);
  FileObject* take(u32 descriptor);

  SpinLock lock_{kProcessRank};
  FileObject** files_ GUARDED_BY(lock_) = nullptr;
  u32 size_ GUARDED_BY(lock_) = 0;
  u32 on_exec_[kMost / 32] GUARDED_BY(lock_){};
};

/// Linux's numbers.
inline constexpr u32 kOpenWriteOnly = 1, kOpenReadWrite = 2, kOpenAccessMask = 3, kOpenCreate = 0100;
inline constexpr u32 kOpenExclusive = 0200, kOpenTruncate = 01000, kOpenAppend = 02000, kOpenNonBlock = 04000;
inline constexpr u32 kOpenLargeFile = 0100000, kOpenDirectory = 0200000, kOpenCloseOnExec = 02000000;

/// `path` is absolute.
Result<FileRef> open_disk_file(std::string_view path, u32 flags, u16 permissions);
/// The serial console.
Result<FileRef> open_console();
struct PipeEnds {
  FileRef reader, writer;
};
Result<PipeEnds> make_pipe(u32 flags);

}  // namespace paean
