// Boot modules that are cpio archives: unpacked into `/`, before a disk may be mounted over it.
//
// Pages of a module are read one at a time through KmapLocal: loaders put it anywhere below 4 GB. Hard links become
// copies. Devices and what else is no file, directory or symbolic link are left out, and counted.
#include <algorithm>
#include <memory>

#include "arch/boot_info.hpp"
#include "kernel/fs/cpio.hpp"
#include "kernel/fs/file.hpp"
#include "kernel/fs/root.hpp"
#include "kernel/log_lines.hpp"
#include "lib/log.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

class ModuleSource final : public CpioSource {
 public:
  explicit ModuleSource(const arch::BootModule& module) : start_(PhysAddr{module.start}) {}

  Result<> read(u32 offset, void* into, u32 bytes) override {
    for (u32 done = 0; done < bytes;) {
      const PhysAddr at = start_ + (offset + done);
      if (!pfn_valid(to_pfn(at))) return std::unexpected(Error::Io);  // the loader has named what is no memory
      const u32 within = at.page_offset(), count = std::min(bytes - done, kPageSize - within);
      const KmapLocal map{pfn_to_page(to_pfn(at))};
      copy_bytes(static_cast<u8*>(into) + done, map.as<u8>() + within, count);
      done += count;
    }
    return {};
  }

 private:
  PhysAddr start_;
};

/// One archive on its way into the file system; in kmalloc memory, for its buffers.
class Unpacking {
 public:
  explicit Unpacking(const arch::BootModule& module)
      : source_(module), size_(module.end - module.start), archive_(source_, size_) {}

  Result<> run() {
    while (TRY(archive_.next(entry_))) TRY(unpack());
    return {};
  }
  u32 position() const { return archive_.position(); }
  u32 made() const { return made_; }
  u32 left_out() const { return left_out_; }

 private:
  Result<> unpack() {
    const auto path = CpioArchive::path_of(entry_.name());
    if (!path || entry_.type == CpioEntry::Type::Other) {
      left_out_ += entry_.name() != "." ? 1 : 0;
      return {};
    }
    switch (entry_.type) {
      case CpioEntry::Type::Directory: TRY(unpack_directory(*path)); break;
      case CpioEntry::Type::Symlink: TRY(unpack_symlink(*path)); break;
      default: TRY(unpack_file(*path)); break;
    }
    ++made_;
    return change_file(
        *path, {.permissions = entry_.permissions, .uid = entry_.uid, .gid = entry_.gid, .modified = entry_.modified},
        Links::DoNotFollow);
  }

  static Result<> unpack_directory(std::string_view path) {
    const Result<> made = make_directory(path);
    if (!made && made.error() != Error::Exists) return made;
    return {};
  }

  Result<> unpack_symlink(std::string_view path) {
    if (entry_.bytes == 0 || entry_.bytes > sizeof target_) return std::unexpected(Error::Corrupt);
    TRY(source_.read(entry_.contents, target_, entry_.bytes));
    return make_symlink({target_, entry_.bytes}, path);
  }

  Result<> unpack_file(std::string_view path) {
    find_contents();
    OpenFile* const file = TRY(open_file(path, OpenMode::Write | OpenMode::Create | OpenMode::Truncate));
    const Result<> done = copy_contents(*file);
    close_file(file);
    return done;
  }

  Result<> copy_contents(OpenFile& file) {
    for (u32 done = 0; done < entry_.bytes;) {
      const std::span<u8> part{buffer_, std::min<u32>(sizeof buffer_, entry_.bytes - done)};
      TRY(source_.read(entry_.contents + done, part.data(), part.size()));
      done += TRY(write_file(file, part));
    }
    return {};
  }

  /// Of several names of one file, the last one in the archive alone has the contents.
  void find_contents() {
    if (entry_.links < 2 || entry_.bytes != 0) return;
    CpioArchive rest = archive_;
    for (Result<bool> more = rest.next(other_); more && *more; more = rest.next(other_)) {
      if (other_.inode != entry_.inode || other_.bytes == 0) continue;
      entry_.contents = other_.contents;
      entry_.bytes = other_.bytes;
      return;
    }
  }

  ModuleSource source_;
  u32 size_;
  CpioArchive archive_;
  CpioEntry entry_{}, other_{};
  u32 made_ = 0, left_out_ = 0;
  u8 buffer_[kPageSize];
  char target_[1024];
};

void unpack_module(u32 index, const arch::BootModule& module) {
  const Result<void*> place = kmalloc(sizeof(Unpacking), AllocFlags::Kernel);
  if (!place) return log_warning("module {}: no memory to unpack it", index);
  auto* const unpacking = new (*place) Unpacking{module};
  const Result<> done = unpacking->run();
  LogLines line{done ? LogLevel::Info : LogLevel::Error};
  format_to(line, "module {}: {} files unpacked into /", index, unpacking->made());
  if (unpacking->left_out() != 0) format_to(line, ", {} left out", unpacking->left_out());
  if (!done) format_to(line, "; at byte {}: {}", unpacking->position(), error_name(done.error()));
  format_to(line, "\n");
  std::destroy_at(unpacking);
  kfree(unpacking);
}

bool is_archive(const arch::BootModule& module) {
  char first[CpioArchive::kMagicBytes];
  if (module.start >= module.end || module.end - module.start < sizeof first) return false;
  return ModuleSource{module}.read(0, first, sizeof first) && CpioArchive::is_archive({first, sizeof first});
}

}  // namespace

void unpack_boot_modules() {
  for (u32 i = 0; i < arch::boot_info.module_count; ++i) {
    if (is_archive(arch::boot_info.modules[i])) unpack_module(i, arch::boot_info.modules[i]);
  }
}

}  // namespace paean
