// Calls about the address space.
#include "kernel/fs/map_file.hpp"
#include "kernel/process/calls.hpp"
#include "mm/shared_memory.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kShared = 1, kTypeMask = 0xf, kFixed = 0x10, kAnonymous = 0x20, kGrowsDown = 0x100;
constexpr u32 kFixedNoReplace = 0x100000, kSharedValidate = 3, kPrivate = 2;

struct MapCall {
  u32 at, bytes, protection, flags;
  i32 descriptor;
  u32 first_page;
};

Answer answer_of(const Result<VirtAddr>& at) {
  return at ? static_cast<Answer>(at->raw()) : paean::answer_of(at.error());
}

/// What is to be mapped, with a reference of the caller's; nullptr for private anonymous memory.
std::expected<MappedFile*, Answer> file_for(const MapCall& call) {
  const bool shared = (call.flags & kTypeMask) != kPrivate;
  if ((call.flags & kAnonymous) != 0) {
    if (!shared) return nullptr;
    const Result<MappedFile*> memory = make_shared_memory(call.bytes);
    if (!memory) return std::unexpected(paean::answer_of(memory.error()));
    return *memory;
  }
  const FileRef file = current_process().files.get(static_cast<u32>(call.descriptor));
  if (!file) return std::unexpected(err::kBadFile);
  OpenFile* const open = file->open_file();
  if (open == nullptr || file->status().type != FileType::Regular) return std::unexpected(err::kNoDevice);
  const u32 access = file->flags() & kOpenAccessMask;
  if (access == kOpenWriteOnly) return std::unexpected(err::kAccess);
  constexpr u32 kWrite = 2;
  if (shared && (call.protection & kWrite) != 0 && access != kOpenReadWrite) return std::unexpected(err::kAccess);
  const Result<MappedFile*> mapped = map_file(*open);
  if (!mapped) return std::unexpected(paean::answer_of(mapped.error()));
  return *mapped;
}

Answer map(const MapCall& call) {
  const u32 type = call.flags & kTypeMask;
  if (type != kShared && type != kPrivate && type != kSharedValidate) return err::kInvalid;
  if (call.bytes == 0) return err::kInvalid;
  const auto file = file_for(call);
  if (!file) return file.error();
  MapFlag flags = type == kPrivate ? MapFlag::None : MapFlag::Shared;
  if ((call.flags & (kFixed | kFixedNoReplace)) != 0) flags = flags | MapFlag::Fixed;
  if ((call.flags & kFixedNoReplace) != 0) flags = flags | MapFlag::NoReplace;
  if ((call.flags & kGrowsDown) != 0) flags = flags | MapFlag::GrowsDown;
  const bool anonymous = (call.flags & kAnonymous) != 0;
  const Result<VirtAddr> at = UserSpace::current()->map({.at = VirtAddr{call.at},
                                                         .bytes = call.bytes,
                                                         .access = static_cast<UserAccess>(call.protection & 7),
                                                         .flags = flags,
                                                         .file = *file,
                                                         .first_page = anonymous ? 0 : call.first_page});
  if (*file != nullptr) (*file)->put();
  return answer_of(at);
}

}  // namespace

Answer call_mmap2(const CallArguments& arguments, arch::TrapFrame&) {
  return map({arguments.a, arguments.b, arguments.c, arguments.d, static_cast<i32>(arguments.e), arguments.f});
}

Answer call_old_mmap(const CallArguments& arguments, arch::TrapFrame&) {
  struct Words {
    u32 of[6];
  };
  const Words words = CALL_TRY(get_user<Words>(VirtAddr{arguments.a}));
  if (words.of[5] % kPageSize != 0) return err::kInvalid;
  return map(
      {words.of[0], words.of[1], words.of[2], words.of[3], static_cast<i32>(words.of[4]), words.of[5] / kPageSize});
}

Answer call_munmap(const CallArguments& arguments, arch::TrapFrame&) {
  return paean::answer_of(UserSpace::current()->unmap(VirtAddr{arguments.a}, arguments.b));
}

Answer call_mprotect(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kKnown = 7;
  if ((arguments.c & ~kKnown) != 0) return err::kInvalid;
  return paean::answer_of(
      UserSpace::current()->protect(VirtAddr{arguments.a}, arguments.b, static_cast<UserAccess>(arguments.c)));
}

Answer call_mremap(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kMayMove = 1, kFixedTarget = 2;
  if ((arguments.d & ~(kMayMove | kFixedTarget)) != 0 || arguments.d == kFixedTarget) return err::kInvalid;
  UserSpace::Remap how = UserSpace::Remap::InPlace;
  if ((arguments.d & kMayMove) != 0) how = UserSpace::Remap::MayMove;
  if ((arguments.d & kFixedTarget) != 0) how = UserSpace::Remap::Fixed;
  return answer_of(
      UserSpace::current()->remap(VirtAddr{arguments.a}, arguments.b, arguments.c, how, VirtAddr{arguments.e}));
}

Answer call_msync(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kAsync = 1, kInvalidate = 2, kSync = 4;
  const bool both = (arguments.c & (kAsync | kSync)) == (kAsync | kSync);
  if ((arguments.c & ~(kAsync | kInvalidate | kSync)) != 0 || both) return err::kInvalid;
  const UserSpace::Sync how = (arguments.c & kSync) != 0 ? UserSpace::Sync::Wait : UserSpace::Sync::Start;
  return paean::answer_of(UserSpace::current()->sync(VirtAddr{arguments.a}, arguments.b, how));
}

/// Hints are taken and not followed; what would change contents is refused.
Answer call_madvise(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kLastHarmless = 3, kHugePage = 14, kNoHugePage = 15, kNoDump = 16, kDump = 17;
  if (arguments.a % kPageSize != 0) return err::kInvalid;
  const u32 advice = arguments.c;
  const bool hint = advice <= kLastHarmless || (advice >= kHugePage && advice <= kDump);
  static_assert(kNoHugePage < kNoDump);
  return hint ? 0 : err::kInvalid;
}

Answer call_brk(const CallArguments& arguments, arch::TrapFrame&) {
  return static_cast<Answer>(UserSpace::current()->set_break(VirtAddr{arguments.a}).raw());
}

}  // namespace paean
