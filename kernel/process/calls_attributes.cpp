// Permissions, owners and times of files, and what there is to know of the file system that they lie in.
// Permissions are kept and not looked at, beyond the right to be executed: there is one user.
#include "kernel/fs/file_time.hpp"
#include "kernel/process/calls.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kNoFollow = 0x100;

/// By path; an empty one is the descriptor itself.
Answer change(i32 directory, u32 path, u32 flags, const FileChange& wanted) {
  UserPath name;
  if (const Answer answer = name.read(directory, path); answer != 0) return answer;
  if (name.is_empty()) return err::kNoEntry;
  return answer_of(change_file(name.view(), wanted, (flags & kNoFollow) != 0 ? Links::DoNotFollow : Links::Follow));
}

Answer change(u32 descriptor, const FileChange& wanted) {
  const FileRef file = current_process().files.get(descriptor);
  if (!file) return err::kBadFile;
  return file->open_file() == nullptr ? err::kInvalid : answer_of(change_file(*file->open_file(), wanted));
}

FileChange permissions(u32 mode) { return {.permissions = static_cast<u16>(mode & 07777)}; }

/// -1 keeps what is there.
FileChange owner(u32 uid, u32 gid) {
  FileChange change;
  if (uid != ~0u) change.uid = uid;
  if (gid != ~0u) change.gid = gid;
  return change;
}

struct Time32 {
  u32 seconds, nanoseconds;
};
struct Time64 {
  u64 seconds;
  u32 nanoseconds, unused;
};

/// False if it is no time. UTIME_NOW and UTIME_OMIT are.
template <typename Time>
bool read_time(const Time& given, std::optional<u32>& time) {
  constexpr u32 kNow = 0x3fffffff, kOmit = 0x3ffffffe, kSecond = 1'000'000'000;
  if (given.nanoseconds == kOmit) return true;
  if (given.nanoseconds != kNow && given.nanoseconds >= kSecond) return false;
  time = given.nanoseconds == kNow ? file_time_now() : static_cast<u32>(given.seconds);
  return true;
}

template <typename Time>
Answer set_times(const CallArguments& arguments) {
  struct Times {
    Time accessed, modified;
  };
  FileChange wanted{.accessed = file_time_now(), .modified = file_time_now()};
  if (arguments.c != 0) {
    const Times given = CALL_TRY(get_user<Times>(VirtAddr{arguments.c}));
    wanted = {};
    if (!read_time(given.accessed, wanted.accessed) || !read_time(given.modified, wanted.modified))
      return err::kInvalid;
  }
  if (arguments.b == 0) return change(arguments.a, wanted);
  return change(static_cast<i32>(arguments.a), arguments.b, arguments.d, wanted);
}

struct [[gnu::packed]] Statfs64 {
  u32 type, block_bytes;
  u64 blocks, free_blocks, available_blocks, files, free_files;
  u32 id[2], name_bytes, fragment_bytes, flags, spare[4];
};
static_assert(sizeof(Statfs64) == 84);

Answer show(const FsStatistics& statistics, u32 to) {
  constexpr u32 kExt2 = 0xef53;
  Statfs64 shown{};
  shown.type = kExt2;
  shown.block_bytes = shown.fragment_bytes = statistics.block_bytes;
  shown.blocks = statistics.blocks;
  shown.free_blocks = shown.available_blocks = statistics.free_blocks;
  shown.files = statistics.inodes;
  shown.free_files = statistics.free_inodes;
  shown.name_bytes = statistics.name_limit;
  return answer_of(put_user(VirtAddr{to}, shown));
}

}  // namespace

Answer call_chmod(const CallArguments& arguments, arch::TrapFrame&) {
  return change(kCurrentFolder, arguments.a, 0, permissions(arguments.b));
}
Answer call_fchmod(const CallArguments& arguments, arch::TrapFrame&) {
  return change(arguments.a, permissions(arguments.b));
}
Answer call_fchmodat(const CallArguments& arguments, arch::TrapFrame&) {
  return change(static_cast<i32>(arguments.a), arguments.b, 0, permissions(arguments.c));
}
Answer call_chown(const CallArguments& arguments, arch::TrapFrame&) {
  return change(kCurrentFolder, arguments.a, 0, owner(arguments.b, arguments.c));
}
Answer call_lchown(const CallArguments& arguments, arch::TrapFrame&) {
  return change(kCurrentFolder, arguments.a, kNoFollow, owner(arguments.b, arguments.c));
}
Answer call_fchown(const CallArguments& arguments, arch::TrapFrame&) {
  return change(arguments.a, owner(arguments.b, arguments.c));
}
Answer call_fchownat(const CallArguments& arguments, arch::TrapFrame&) {
  return change(static_cast<i32>(arguments.a), arguments.b, arguments.e, owner(arguments.c, arguments.d));
}
Answer call_utimensat(const CallArguments& arguments, arch::TrapFrame&) { return set_times<Time32>(arguments); }
Answer call_utimensat_time64(const CallArguments& arguments, arch::TrapFrame&) { return set_times<Time64>(arguments); }

Answer call_statfs64(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.b != sizeof(Statfs64)) return err::kInvalid;
  UserPath name;
  if (const Answer answer = name.read(kCurrentFolder, arguments.a); answer != 0) return answer;
  if (name.is_empty()) return err::kNoEntry;
  return show(CALL_TRY(statistics_of(name.view())), arguments.c);
}

}  // namespace paean
