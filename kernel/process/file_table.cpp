#include "kernel/process/file.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kFirstSize = 16;

constexpr u32 bit_of(u32 descriptor) { return 1u << descriptor % 32; }

}  // namespace

FileRef FileTable::get(u32 descriptor) {
  const SpinGuard<IrqSave> guard{lock_};
  if (descriptor >= size_ || files_[descriptor] == nullptr) return {};
  files_[descriptor]->get();
  return FileRef{files_[descriptor]};
}

/// Room for at least `size` descriptors.
Result<> FileTable::grow(u32 size) {
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (size_ >= size) return {};
  }
  u32 wanted = kFirstSize;
  while (wanted < size) wanted *= 2;
  void* const place = TRY(kzalloc(wanted * sizeof(FileObject*), AllocFlags::Kernel));
  auto** const bigger = static_cast<FileObject**>(place);
  FileObject** old;
  {
    const SpinGuard<IrqSave> guard{lock_};
    old = bigger;
    if (size_ < wanted) {
      for (u32 i = 0; i < size_; ++i) bigger[i] = files_[i];
      old = std::exchange(files_, bigger);
      size_ = wanted;
    }
  }
  kfree(static_cast<void*>(old));
  return {};
}

Answer FileTable::add(FileRef file, CloseOnExec on_exec, u32 least) {
  for (;;) {
    u32 size;
    {
      const SpinGuard<IrqSave> guard{lock_};
      size = size_;
      u32 at = least;
      while (at < size && files_[at] != nullptr) ++at;
      if (at >= kMost) return err::kManyFiles;
      if (at < size) {
        files_[at] = file.release();
        u32& word = on_exec_[at / 32];
        word = on_exec == CloseOnExec::Yes ? word | bit_of(at) : word & ~bit_of(at);
        return static_cast<Answer>(at);
      }
    }
    if (!grow((size > least ? size : least) + 1)) return err::kNoMemory;
  }
}

Answer FileTable::set(u32 descriptor, FileRef file, CloseOnExec on_exec) {
  if (descriptor >= kMost) return err::kBadFile;
  if (!grow(descriptor + 1)) return err::kNoMemory;
  FileRef old;
  {
    const SpinGuard<IrqSave> guard{lock_};
    old = FileRef{std::exchange(files_[descriptor], file.release())};
    u32& word = on_exec_[descriptor / 32];
    word = on_exec == CloseOnExec::Yes ? word | bit_of(descriptor) : word & ~bit_of(descriptor);
  }
  return static_cast<Answer>(descriptor);
}

FileObject* FileTable::take(u32 descriptor) {
  const SpinGuard<IrqSave> guard{lock_};
  return descriptor < size_ ? std::exchange(files_[descriptor], nullptr) : nullptr;
}

Answer FileTable::close(u32 descriptor) {
  const FileRef file{take(descriptor)};
  return file ? 0 : err::kBadFile;
}

Answer FileTable::close_on_exec(u32 descriptor) {
  const SpinGuard<IrqSave> guard{lock_};
  if (descriptor >= size_ || files_[descriptor] == nullptr) return err::kBadFile;
  return (on_exec_[descriptor / 32] & bit_of(descriptor)) != 0 ? 1 : 0;
}

Answer FileTable::set_close_on_exec(u32 descriptor, CloseOnExec on_exec) {
  const SpinGuard<IrqSave> guard{lock_};
  if (descriptor >= size_ || files_[descriptor] == nullptr) return err::kBadFile;
  u32& word = on_exec_[descriptor / 32];
  word = on_exec == CloseOnExec::Yes ? word | bit_of(descriptor) : word & ~bit_of(descriptor);
  return 0;
}

Result<> FileTable::copy_from(FileTable& other) {
  u32 size;
  {
    const SpinGuard<IrqSave> guard{other.lock_};
    size = other.size_;
  }
  TRY(grow(size));
  for (u32 i = 0; i < size; ++i) {
    if (FileRef file = other.get(i)) {
      const bool on_exec = other.close_on_exec(i) == 1;
      (void)set(i, std::move(file), on_exec ? CloseOnExec::Yes : CloseOnExec::No);
    }
  }
  return {};
}

void FileTable::close_for_exec() {
  u32 size;
  {
    const SpinGuard<IrqSave> guard{lock_};
    size = size_;
  }
  for (u32 i = 0; i < size; ++i) {
    if (close_on_exec(i) == 1) (void)close(i);
  }
}

void FileTable::close_all() {
  FileObject** old;
  u32 size;
  {
    const SpinGuard<IrqSave> guard{lock_};
    old = std::exchange(files_, nullptr);
    size = std::exchange(size_, 0);
  }
  for (u32 i = 0; i < size; ++i) {
    if (old[i] != nullptr) old[i]->put();
  }
  kfree(static_cast<void*>(old));
}

}  // namespace paean
