// Looking at files: ls, stat, df, mount, umount, sync.
#include <algorithm>

#include "kernel/commands/fs_tools.hpp"
#include "kernel/fs/file_time.hpp"

namespace paean {

namespace {

constexpr u32 kMaxPath = 4095;

char type_letter(FileType type) {
  constexpr std::string_view kLetters = "?-dcbpsl";
  return kLetters[static_cast<u32>(type)];
}

std::string_view type_name(FileType type) {
  constexpr std::string_view kNames[] = {"unknown",      "regular file", "directory", "character device",
                                         "block device", "fifo",         "socket",    "symbolic link"};
  return kNames[static_cast<u32>(type)];
}

void write_mode(Sink& out, const FileStatus& status) {
  char text[11] = "?rwxrwxrwx";
  text[0] = type_letter(status.type);
  for (u32 i = 0; i < 9; ++i) {
    if ((status.permissions >> (8 - i) & 1) == 0) text[i + 1] = '-';
  }
  out.write({text, 10});
}

/// Names of one directory, to be sorted.
class NameList {
 public:
  NameList() = default;
  ~NameList() {
    kfree(bytes_);
    kfree(offsets_);
  }
  NameList(const NameList&) = delete;
  NameList& operator=(const NameList&) = delete;

  static bool add(void* context, const DirectoryEntry& entry) {
    auto& list = *static_cast<NameList*>(context);
    if (entry.name == "." || entry.name == "..") return true;
    list.complete_ = list.append(entry.name).has_value();
    return list.complete_;
  }
  bool complete() const { return complete_; }
  void sort() {
    std::sort(offsets_, offsets_ + count_, [this](u32 a, u32 b) { return name_at(a) < name_at(b); });
  }
  u32 count() const { return count_; }
  std::string_view name(u32 index) const { return name_at(offsets_[index]); }

 private:
  static constexpr u32 kFirstNames = 64, kFirstBytes = 1024;

  std::string_view name_at(u32 offset) const { return {bytes_ + offset}; }
  Result<> append(std::string_view name) {
    if (count_ == room_) {
      const u32 room = room_ == 0 ? kFirstNames : room_ * 2;
      offsets_ =
          static_cast<u32*>(TRY(krealloc(offsets_, room * sizeof(u32), AllocFlags::Kernel | AllocFlags::NoWarn)));
      room_ = room;
    }
    if (size_ - used_ < name.size() + 1) {
      const u32 size = size_ == 0 ? kFirstBytes : size_ * 2;
      bytes_ = static_cast<char*>(TRY(krealloc(bytes_, size, AllocFlags::Kernel | AllocFlags::NoWarn)));
      size_ = size;
    }
    offsets_[count_++] = used_;
    *std::copy(name.begin(), name.end(), bytes_ + used_) = '\0';
    used_ += static_cast<u32>(name.size()) + 1;
    return {};
  }

  char* bytes_ = nullptr;
  u32* offsets_ = nullptr;
  u32 used_ = 0, size_ = 0, count_ = 0, room_ = 0;
  bool complete_ = true;
};

enum class Style : u8 { Short, Long };

CommandStatus list_one(const Args& args, Sink& out, std::string_view path, std::string_view shown, Style style) {
  if (style == Style::Long) {
    const Result<FileStatus> status = status_of(path, Links::DoNotFollow);
    if (!status) return complain(args, out, path, status.error());
    write_mode(out, *status);
    format_to(out, " {:>3} {:>4} {:>4} {:>10} ", status->links, status->uid, status->gid, status->size);
    write_time(out, status->modified);
    out.write(" ");
    write_escaped(out, shown, kMaxPath);
    const Scratch target{kMaxPath};
    if (status->type == FileType::Symlink && target) {
      const Result<u32> length = read_symlink(path, target.text());
      out.write(" -> ");
      if (length) write_escaped(out, {target.text().data(), *length}, kMaxPath);
    }
  } else {
    write_escaped(out, shown, kMaxPath);
  }
  out.write("\n");
  return CommandStatus::Ok;
}

CommandStatus list_directory(const Args& args, Sink& out, std::string_view path, Style style) {
  NameList names;
  const Scratch scratch{kMaxPath + 257};
  {
    const FileScope directory{path, OpenMode::Read | OpenMode::Directory};
    if (!directory) return complain(args, out, path, directory.error());
    if (const Result<> read = read_directory(*directory, NameList::add, &names); !read) {
      return complain(args, out, path, read.error());
    }
  }
  if (!names.complete() || !scratch) return complain(args, out, path, Error::OutOfMemory);
  names.sort();
  CommandStatus worst = CommandStatus::Ok;
  for (u32 i = 0; i < names.count() && !args.interpreter().stop_requested(); ++i) {
    BufferSink full{scratch.text()};
    format_to(full, "{}/{}", path, names.name(i));
    worst = std::max(worst, list_one(args, out, full.view(), names.name(i), style));
  }
  return worst;
}

CommandStatus do_ls(Args& args, Sink& out) {
  Style style = Style::Short;
  std::optional<std::string_view> path = args.next();
  if (path && *path == "-l") {
    style = Style::Long;
    path = args.next();
  }
  if (!args.end()) return CommandStatus::Usage;
  const std::string_view where = path.value_or("/");
  const Result<FileStatus> status = status_of(where);
  if (status && status->type == FileType::Directory) return list_directory(args, out, where, style);
  if (!status && !status_of(where, Links::DoNotFollow)) return complain(args, out, where, status.error());
  return list_one(args, out, where, where, style);
}

CommandStatus do_stat(Args& args, Sink& out) {
  const auto path = args.word("PATH");
  if (!path || !args.end()) return CommandStatus::Usage;
  const Result<FileStatus> status = status_of(*path, Links::DoNotFollow);
  if (!status) return complain(args, out, *path, status.error());
  out.write("  File: ");
  write_escaped(out, *path, kMaxPath);
  format_to(out, "\n  Size: {:<12} Blocks: {:<10} {}\n Inode: {:<12} Links: {}\nAccess: (", status->size,
            status->blocks_512, type_name(status->type), status->inode, status->links);
  for (u32 shift = 12; shift != 0; shift -= 3) format_to(out, "{}", status->permissions >> (shift - 3) & 7);
  out.write("/");
  write_mode(out, *status);
  format_to(out, ")  Uid: {}  Gid: {}\nModify: ", status->uid, status->gid);
  write_time(out, status->modified);
  out.write("\nChange: ");
  write_time(out, status->changed);
  out.write("\n");
  return CommandStatus::Ok;
}

void df_line(void* context, const MountInfo& mount) {
  Sink& out = *static_cast<Sink*>(context);
  const Result<FsStatistics> found = mount.super.statistics();
  if (!found) {
    format_to(out, "{:<12} {}\n", mount.source, error_name(found.error()));
    return;
  }
  const u64 kib = found->block_bytes / kKiB;
  const u64 used = found->blocks - found->free_blocks;
  const u64 percent = found->blocks == 0 ? 0 : (used * 100 + found->blocks - 1) / found->blocks;
  format_to(out, "{:<12} {:>12} {:>12} {:>12} {:>3}% {}\n", mount.source, found->blocks * kib, used * kib,
            found->free_blocks * kib, percent, mount.path);
}

CommandStatus do_df(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  format_to(out, "{:<12} {:>12} {:>12} {:>12} Use% Mounted on\n", "Filesystem", "1K-blocks", "Used", "Available");
  for_each_mount(df_line, &out);
  return CommandStatus::Ok;
}

void mount_line(void* context, const MountInfo& mount) {
  format_to(*static_cast<Sink*>(context), "{} {} {} {} 0 0\n", mount.source, mount.path, mount.type,
            mount.super.read_only() ? "ro" : "rw");
}

CommandStatus do_mount(Args& args, Sink& out) {
  const auto device = args.next();
  if (!device) {
    for_each_mount(mount_line, &out);
    return CommandStatus::Ok;
  }
  const auto path = args.word("PATH");
  if (!path) return CommandStatus::Usage;
  std::string_view type;
  MountMode mode = MountMode::ReadWrite;
  while (const auto word = args.next()) {
    if (*word == "ro")
      mode = MountMode::ReadOnly;
    else if (*word == "rw")
      mode = MountMode::ReadWrite;
    else if (type.empty())
      type = *word;
    else
      return CommandStatus::Usage;
  }
  if (const Result<> mounted = mount(*device, *path, type, mode); !mounted) {
    return complain(args, out, *device, mounted.error());
  }
  return CommandStatus::Ok;
}

CommandStatus do_umount(Args& args, Sink& out) {
  auto path = args.word("PATH");
  const UnmountMode mode = path && *path == "-f" ? UnmountMode::Forced : UnmountMode::Clean;
  if (mode == UnmountMode::Forced) path = args.word("PATH");
  if (!path || !args.end()) return CommandStatus::Usage;
  if (const Result<> unmounted = unmount(*path, mode); !unmounted) return complain(args, out, *path, unmounted.error());
  return CommandStatus::Ok;
}

Result<> sync_path(std::string_view path) {
  const FileScope file{path, OpenMode::Read};
  return file ? sync_file(*file) : std::unexpected(file.error());
}

CommandStatus do_sync(Args& args, Sink& out) {
  CommandStatus worst = CommandStatus::Ok;
  auto path = args.next();
  const bool all = !path;
  for (; path; path = args.next()) {
    if (const Result<> synced = sync_path(*path); !synced) worst = complain(args, out, *path, synced.error());
  }
  if (!all) return worst;
  if (const Result<> synced = sync_file_systems(); !synced) {
    format_to(out, "sync: {}\n", error_name(synced.error()));
    return CommandStatus::Failed;
  }
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(ls, "[-l] [PATH]", "names in a directory", do_ls, .complete = complete_path)
KCOMMAND(stat, "PATH", "what is known of a file", do_stat, .complete = complete_path)
KCOMMAND(df, "", "how full the file systems are", do_df)
KCOMMAND(mount, "[DEV PATH [TYPE] [ro]]", "mount a file system, or list what is mounted", do_mount,
         .complete = complete_path)
KCOMMAND(umount, "[-f] PATH", "unmount a file system; with -f also when its disk takes nothing any more", do_umount,
         .complete = complete_path)
KCOMMAND(sync, "[FILE...]", "write everything to the disks, or these files", do_sync, .complete = complete_path)

}  // namespace paean
