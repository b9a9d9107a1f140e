// What is known of files, in the three shapes that programs ask for.
#include "kernel/process/calls.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kNoFollow = 0x100, kEmptyPath = 0x1000;
constexpr u32 kBlockBytes = 4096;

struct [[gnu::packed]] Stat64 {
  u64 device;
  u8 pad0[4];
  u32 inode_low, mode, links, uid, gid;
  u64 special_device;
  u8 pad3[4];
  i64 size;
  u32 block_bytes;
  u64 blocks;
  u32 accessed, accessed_ns, modified, modified_ns, changed, changed_ns;
  u64 inode;
};
static_assert(sizeof(Stat64) == 96);

struct StatxTime {
  i64 seconds;
  u32 nanoseconds, unused;
};
struct Statx {
  u32 mask, block_bytes;
  u64 attributes;
  u32 links, uid, gid;
  u16 mode, unused;
  u64 inode, size, blocks, attributes_mask;
  StatxTime accessed, created, changed, modified;
  u32 special_major, special_minor, major, minor;
  u64 spare[14];
};
static_assert(sizeof(Statx) == 256);

u32 mode_of(const FileStatus& status) {
  static constexpr u32 kTypes[] = {0, 0100000, 0040000, 0020000, 0060000, 0010000, 0140000, 0120000};
  return kTypes[static_cast<u32>(status.type)] | status.permissions;
}

Stat64 stat64_of(const FileStatus& status) {
  Stat64 shown{};
  shown.device = 1;
  shown.inode_low = status.inode;
  shown.inode = status.inode;
  shown.mode = mode_of(status);
  shown.links = status.links;
  shown.uid = status.uid, shown.gid = status.gid;
  shown.special_device = status.device;
  shown.size = static_cast<i64>(status.size);
  shown.block_bytes = kBlockBytes;
  shown.blocks = status.blocks_512;
  shown.accessed = status.accessed, shown.modified = status.modified, shown.changed = status.changed;
  return shown;
}

Statx statx_of(const FileStatus& status) {
  constexpr u32 kBasic = 0x7ff;
  Statx shown{};
  shown.mask = kBasic;
  shown.block_bytes = kBlockBytes;
  shown.links = status.links;
  shown.uid = status.uid, shown.gid = status.gid;
  shown.mode = static_cast<u16>(mode_of(status));
  shown.inode = status.inode;
  shown.size = status.size;
  shown.blocks = status.blocks_512;
  shown.accessed.seconds = status.accessed;
  shown.changed.seconds = status.changed;
  shown.modified.seconds = status.modified;
  shown.special_major = status.device >> 8, shown.special_minor = status.device & 255;
  shown.minor = 1;
  return shown;
}

/// `use(status)` for the file that the call names.
template <typename Use>
Answer with_status(i32 directory, u32 path, u32 flags, Use use) {
  UserPath name;
  if (const Answer answer = name.read(directory, path); answer != 0) return answer;
  if (!name.is_empty())
    return use(CALL_TRY(status_of(name.view(), (flags & kNoFollow) != 0 ? Links::DoNotFollow : Links::Follow)));
  if ((flags & kEmptyPath) == 0) return err::kNoEntry;
  if (directory == kCurrentFolder) return use(CALL_TRY(status_of(name.view())));
  const FileRef file = current_process().files.get(static_cast<u32>(directory));
  return file ? use(file->status()) : err::kBadFile;
}

Answer stat64(i32 directory, u32 path, u32 flags, u32 to) {
  return with_status(directory, path, flags,
                     [to](const FileStatus& status) { return answer_of(put_user(VirtAddr{to}, stat64_of(status))); });
}

}  // namespace

Answer call_stat64(const CallArguments& arguments, arch::TrapFrame&) {
  return stat64(kCurrentFolder, arguments.a, 0, arguments.b);
}
Answer call_lstat64(const CallArguments& arguments, arch::TrapFrame&) {
  return stat64(kCurrentFolder, arguments.a, kNoFollow, arguments.b);
}
Answer call_fstat64(const CallArguments& arguments, arch::TrapFrame&) {
  const FileRef file = current_process().files.get(arguments.a);
  return file ? answer_of(put_user(VirtAddr{arguments.b}, stat64_of(file->status()))) : err::kBadFile;
}
Answer call_fstatat64(const CallArguments& arguments, arch::TrapFrame&) {
  return stat64(static_cast<i32>(arguments.a), arguments.b, arguments.d, arguments.c);
}
Answer call_statx(const CallArguments& arguments, arch::TrapFrame&) {
  return with_status(static_cast<i32>(arguments.a), arguments.b, arguments.c, [&](const FileStatus& status) {
    return answer_of(put_user(VirtAddr{arguments.e}, statx_of(status)));
  });
}

}  // namespace paean
