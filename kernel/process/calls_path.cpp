// Calls about names.
#include <algorithm>

#include "kernel/process/calls.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kRemoveDirectory = 0x200;

/// The path that two registers name, for what works on it.
template <typename Use>
Answer with_path(i32 directory, u32 path, Use use) {
  UserPath name;
  if (const Answer answer = name.read(directory, path); answer != 0) return answer;
  return name.is_empty() ? err::kNoEntry : use(name.view());
}

template <typename Use>
Answer with_two_paths(i32 first_directory, u32 first, i32 second_directory, u32 second, Use use) {
  return with_path(first_directory, first, [&](std::string_view from) {
    return with_path(second_directory, second, [&](std::string_view to) { return use(from, to); });
  });
}

Answer open_at(i32 directory, u32 path, u32 flags, u32 permissions) {
  constexpr u32 kPathOnly = 010000000;
  if ((flags & kOpenAccessMask) == kOpenAccessMask || (flags & kPathOnly) != 0) return err::kInvalid;
  return with_path(directory, path, [&](std::string_view name) -> Answer {
    const u16 mode = static_cast<u16>(permissions & 07777 & ~current_process().mask);
    FileRef file = CALL_TRY(open_disk_file(name, flags, mode));
    const CloseOnExec on_exec = (flags & kOpenCloseOnExec) != 0 ? CloseOnExec::Yes : CloseOnExec::No;
    return current_process().files.add(std::move(file), on_exec);
  });
}

Answer read_link(i32 directory, u32 path, u32 to, u32 bytes) {
  if (static_cast<i32>(bytes) <= 0) return err::kInvalid;
  return with_path(directory, path, [&](std::string_view name) -> Answer {
    std::string_view target;
    void* const room = CALL_TRY(kmalloc(kPageSize, AllocFlags::Kernel));
    Result<u32> length = std::unexpected(Error::NotFound);
    if (name == "/proc/self/exe" && current_process().program != nullptr) {
      target = current_process().program;
      length = static_cast<u32>(target.size());
    } else {
      length = read_symlink(name, {static_cast<char*>(room), kPageSize});
      if (length) target = {static_cast<char*>(room), *length};
    }
    Answer answer = length ? 0 : answer_of(length.error());
    const u32 count = std::min<u32>(bytes, target.size());
    if (answer == 0) answer = answer_of(copy_to_user(VirtAddr{to}, target.data(), count));
    kfree(room);
    return answer == 0 ? static_cast<Answer>(count) : answer;
  });
}

Answer check_access(i32 directory, u32 path) {
  return with_path(directory, path, [](std::string_view name) {
    const Result<FileStatus> status = status_of(name);
    return status ? 0 : answer_of(status.error());
  });
}

Answer make_folder(i32 directory, u32 path, u32 permissions) {
  return with_path(directory, path, [&](std::string_view name) {
    return answer_of(make_directory(name, static_cast<u16>(permissions & 07777 & ~current_process().mask)));
  });
}

Answer remove(i32 directory, u32 path, u32 flags) {
  if ((flags & ~kRemoveDirectory) != 0) return err::kInvalid;
  return with_path(directory, path, [&](std::string_view name) {
    return answer_of(flags != 0 ? remove_directory(name) : remove_file(name));
  });
}

/// A path without `.`, `..` and double slashes; the file exists under both names when there is no link in it.
u32 tidy(char* text, u32 length) {
  u32 out = 0;
  for (u32 at = 0; at < length;) {
    u32 end = at;
    while (end < length && text[end] != '/') ++end;
    const std::string_view name{text + at, end - at};
    if (name == "..") {
      while (out > 0) {
        --out;
        if (text[out] == '/') break;
      }
    } else if (!name.empty() && name != ".") {
      text[out++] = '/';
      for (u32 i = 0; i < name.size(); ++i) text[out++] = text[at + i];
    }
    at = end + 1;
  }
  if (out == 0) text[out++] = '/';
  text[out] = '\0';
  return out;
}

struct Listing {
  u8* to;
  u32 room, used;
  u64 index;
  bool full;
};

/// struct linux_dirent64.
bool list_entry(void* context, const DirectoryEntry& entry) {
  constexpr u32 kNameAt = 19;
  static constexpr u8 kTypes[] = {0, 8, 4, 2, 6, 1, 12, 10};
  Listing& listing = *static_cast<Listing*>(context);
  const u32 bytes = (kNameAt + static_cast<u32>(entry.name.size()) + 1 + 7) & ~7u;
  if (listing.room - listing.used < bytes) {
    listing.full = true;
    return false;
  }
  u8* const at = listing.to + listing.used;
  __builtin_memset(at, 0, bytes);
  const u64 inode = entry.inode, next = ++listing.index;
  const u16 length = static_cast<u16>(bytes);
  __builtin_memcpy(at, &inode, 8);
  __builtin_memcpy(at + 8, &next, 8);
  __builtin_memcpy(at + 16, &length, 2);
  at[18] = kTypes[static_cast<u32>(entry.type)];
  __builtin_memcpy(at + kNameAt, entry.name.data(), entry.name.size());
  listing.used += bytes;
  return true;
}

constexpr i32 folder_of(u32 descriptor) { return static_cast<i32>(descriptor); }

}  // namespace

Answer call_open(const CallArguments& arguments, arch::TrapFrame&) {
  return open_at(kCurrentFolder, arguments.a, arguments.b, arguments.c);
}
Answer call_openat(const CallArguments& arguments, arch::TrapFrame&) {
  return open_at(folder_of(arguments.a), arguments.b, arguments.c, arguments.d);
}
Answer call_creat(const CallArguments& arguments, arch::TrapFrame&) {
  return open_at(kCurrentFolder, arguments.a, kOpenCreate | kOpenWriteOnly | kOpenTruncate, arguments.b);
}
Answer call_readlink(const CallArguments& arguments, arch::TrapFrame&) {
  return read_link(kCurrentFolder, arguments.a, arguments.b, arguments.c);
}
Answer call_readlinkat(const CallArguments& arguments, arch::TrapFrame&) {
  return read_link(folder_of(arguments.a), arguments.b, arguments.c, arguments.d);
}
Answer call_access(const CallArguments& arguments, arch::TrapFrame&) {
  return check_access(kCurrentFolder, arguments.a);
}
Answer call_faccessat(const CallArguments& arguments, arch::TrapFrame&) {
  return check_access(folder_of(arguments.a), arguments.b);
}
Answer call_mkdir(const CallArguments& arguments, arch::TrapFrame&) {
  return make_folder(kCurrentFolder, arguments.a, arguments.b);
}
Answer call_mkdirat(const CallArguments& arguments, arch::TrapFrame&) {
  return make_folder(folder_of(arguments.a), arguments.b, arguments.c);
}
Answer call_unlink(const CallArguments& arguments, arch::TrapFrame&) { return remove(kCurrentFolder, arguments.a, 0); }
Answer call_rmdir(const CallArguments& arguments, arch::TrapFrame&) {
  return remove(kCurrentFolder, arguments.a, kRemoveDirectory);
}
Answer call_unlinkat(const CallArguments& arguments, arch::TrapFrame&) {
  return remove(folder_of(arguments.a), arguments.b, arguments.c);
}
Answer call_rename(const CallArguments& arguments, arch::TrapFrame&) {
  return with_two_paths(kCurrentFolder, arguments.a, kCurrentFolder, arguments.b,
                        [](auto from, auto to) { return answer_of(rename_file(from, to)); });
}
Answer call_renameat(const CallArguments& arguments, arch::TrapFrame&) {
  return with_two_paths(folder_of(arguments.a), arguments.b, folder_of(arguments.c), arguments.d,
                        [](auto from, auto to) { return answer_of(rename_file(from, to)); });
}
Answer call_link(const CallArguments& arguments, arch::TrapFrame&) {
  return with_two_paths(kCurrentFolder, arguments.a, kCurrentFolder, arguments.b,
                        [](auto from, auto to) { return answer_of(link_file(from, to)); });
}

Answer call_symlink(const CallArguments& arguments, arch::TrapFrame&) {
  auto* const target = static_cast<char*>(CALL_TRY(kmalloc(kPageSize, AllocFlags::Kernel)));
  const Result<u32> length = copy_string_from_user({target, kPageSize}, VirtAddr{arguments.a});
  const Answer answer =
      length ? with_path(kCurrentFolder, arguments.b,
                         [&](std::string_view name) { return answer_of(make_symlink({target, *length}, name)); })
             : answer_of(length.error());
  kfree(target);
  return answer;
}

Answer call_truncate64(const CallArguments& arguments, arch::TrapFrame&) {
  const u64 size = arguments.b | u64{arguments.c} << 32;
  if (static_cast<i64>(size) < 0) return err::kInvalid;
  return with_path(kCurrentFolder, arguments.a,
                   [size](std::string_view name) { return answer_of(truncate_path(name, size)); });
}

Answer call_chdir(const CallArguments& arguments, arch::TrapFrame&) {
  return with_path(kCurrentFolder, arguments.a, [](std::string_view name) -> Answer {
    const FileStatus status = CALL_TRY(status_of(name));
    if (status.type != FileType::Directory) return err::kNotDirectory;
    auto* const text = static_cast<char*>(CALL_TRY(kmalloc(static_cast<u32>(name.size()) + 2, AllocFlags::Kernel)));
    __builtin_memcpy(text, name.data(), name.size());
    (void)tidy(text, static_cast<u32>(name.size()));
    char* old;
    {
      const SpinGuard<IrqSave> guard{process_lock};
      old = std::exchange(current_process().folder, text);
    }
    kfree(old);
    return 0;
  });
}

Answer call_getcwd(const CallArguments& arguments, arch::TrapFrame&) {
  char* const folder = CALL_TRY(copy_folder(current_process()));
  const u32 bytes = static_cast<u32>(__builtin_strlen(folder)) + 1;
  Answer answer = arguments.b < bytes ? err::kRange : static_cast<Answer>(bytes);
  if (answer > 0 && !copy_to_user(VirtAddr{arguments.a}, folder, bytes)) answer = err::kFault;
  kfree(folder);
  return answer;
}

Answer call_getdents64(const CallArguments& arguments, arch::TrapFrame&) {
  const FileRef file = current_process().files.get(arguments.a);
  if (!file) return err::kBadFile;
  if (file->path().empty()) return err::kNotDirectory;
  const u32 room = std::min(arguments.c, kPageSize);
  auto* const memory = static_cast<u8*>(CALL_TRY(kmalloc(kPageSize, AllocFlags::Kernel)));
  Listing listing{memory, room, 0, 0, false};
  Answer answer = file->list(list_entry, &listing);
  if (answer == 0 && listing.used == 0 && listing.full) answer = err::kInvalid;
  if (answer == 0) {
    answer =
        copy_to_user(VirtAddr{arguments.b}, memory, listing.used) ? static_cast<Answer>(listing.used) : err::kFault;
  }
  kfree(memory);
  return answer;
}

}  // namespace paean
