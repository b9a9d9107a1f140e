// Calls about descriptors.
#include <algorithm>

#include "kernel/process/calls.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kMostVectors = 1024;

/// Between the user's memory and what is no regular file: short transfers go over the stack, others over a page or two.
class Bounce {
 public:
  explicit Bounce(u32 wanted) {
    if (wanted <= sizeof small_) return;
    if (const Result<void*> place = kmalloc(std::min(wanted, kLarge), AllocFlags::Kernel)) {
      large_ = static_cast<u8*>(*place);
      bytes_ = std::min(wanted, kLarge);
    }
  }
  ~Bounce() { kfree(large_); }
  Bounce(const Bounce&) = delete;
  Bounce& operator=(const Bounce&) = delete;
  std::span<u8> first(u32 wanted) {
    return {large_ != nullptr ? large_ : small_, std::min(wanted, large_ != nullptr ? bytes_ : u32{sizeof small_})};
  }

 private:
  static constexpr u32 kLarge = 2 * kPageSize;
  u8 small_[128];
  u8* large_ = nullptr;
  u32 bytes_ = 0;
};

struct Place {
  bool given;  // else the file's own
  u64 offset;
};

constexpr u32 kMostBytes = 0x7ffff000;

Answer read_into(FileObject& file, VirtAddr to, u32 bytes, Place place) {
  bytes = std::min(bytes, kMostBytes);
  if (bytes != 0 && !is_user_range(to, bytes)) return err::kFault;
  const CopyTarget whole = CopyTarget::of_program(to, bytes);
  if (place.given) return file.read_at(place.offset, whole);
  if (file.is_regular()) return file.read(whole);
  Bounce bounce{bytes};
  const Answer got = file.read(bounce.first(bytes));  // once: another time would only wait
  if (got <= 0) return got;
  const u32 copied = copy_to_user_part(to, bounce.first(bytes).data(), static_cast<u32>(got));
  return copied != 0 ? static_cast<Answer>(copied) : err::kFault;
}

/// As far as the program's pages can be had at once.
Answer write_held(FileObject& file, VirtAddr from, u32 bytes, Place place) {
  u32 done = 0;
  do {
    const HeldPages pages{from + done, bytes - done};
    const CopySource part = pages.bytes();
    if (part.empty() && bytes != 0) return done != 0 ? static_cast<Answer>(done) : err::kFault;
    const Answer put = place.given ? file.write_at(place.offset + done, part) : file.write(part);
    if (put < 0) return done != 0 ? static_cast<Answer>(done) : put;
    done += static_cast<u32>(put);
    if (static_cast<u32>(put) < part.size()) break;
  } while (done < bytes);
  return static_cast<Answer>(done);
}

Answer write_from(FileObject& file, VirtAddr from, u32 bytes, Place place) {
  bytes = std::min(bytes, kMostBytes);
  if (bytes != 0 && !is_user_range(from, bytes)) return err::kFault;
  if (place.given || file.is_regular()) return write_held(file, from, bytes, place);
  Bounce bounce{bytes};
  u32 done = 0;
  do {
    const std::span<u8> part = bounce.first(bytes - done);
    const u32 copied = copy_from_user_part(part.data(), from + done, part.size());
    if (copied == 0 && !part.empty()) return done != 0 ? static_cast<Answer>(done) : err::kFault;
    const Answer put = file.write(part.first(copied));
    if (put == err::kPipe) send_signal_to_task(current_task(), kSigPipe);
    if (put < 0) return done != 0 ? static_cast<Answer>(done) : put;
    done += static_cast<u32>(put);
    if (static_cast<u32>(put) < part.size()) break;
  } while (done < bytes);
  return static_cast<Answer>(done);
}

bool may_read(const FileObject& file) { return (file.flags() & kOpenAccessMask) != kOpenWriteOnly; }
bool may_write(const FileObject& file) { return (file.flags() & kOpenAccessMask) != 0; }

enum class Direction : u8 { Read, Write };

Answer transfer(const CallArguments& arguments, Direction direction, Place place) {
  const FileRef file = current_process().files.get(arguments.a);
  if (!file || !(direction == Direction::Read ? may_read(*file) : may_write(*file))) return err::kBadFile;
  return direction == Direction::Read ? read_into(*file, VirtAddr{arguments.b}, arguments.c, place)
                                      : write_from(*file, VirtAddr{arguments.b}, arguments.c, place);
}

struct Vector {
  u32 base, bytes;
};

Answer transfer_vectors(const CallArguments& arguments, Direction direction) {
  if (arguments.c > kMostVectors) return err::kInvalid;
  Answer sum = 0;
  for (u32 i = 0; i < arguments.c; ++i) {
    const Result<Vector> vector = get_user<Vector>(VirtAddr{arguments.b} + i * u32{sizeof(Vector)});
    const Answer answer =
        vector ? transfer({arguments.a, vector->base, vector->bytes, 0, 0, 0}, direction, {}) : err::kFault;
    if (answer < 0) return sum != 0 ? sum : answer;
    sum += answer;
    if (static_cast<u32>(answer) < vector->bytes) break;
  }
  return sum;
}

u64 offset_of(u32 low, u32 high) { return low | u64{high} << 32; }

Answer duplicate(u32 from, u32 to, CloseOnExec on_exec) {
  FileTable& files = current_process().files;
  FileRef file = files.get(from);
  return file ? files.set(to, std::move(file), on_exec) : err::kBadFile;
}

Answer add_pipe(u32 at, u32 flags) {
  if ((flags & ~(kOpenNonBlock | kOpenCloseOnExec)) != 0) return err::kInvalid;
  PipeEnds ends = CALL_TRY(make_pipe(flags));
  const CloseOnExec on_exec = (flags & kOpenCloseOnExec) != 0 ? CloseOnExec::Yes : CloseOnExec::No;
  FileTable& files = current_process().files;
  const Answer reader = files.add(std::move(ends.reader), on_exec);
  if (reader < 0) return reader;
  const Answer writer = files.add(std::move(ends.writer), on_exec);
  const Answer pair[2] = {reader, writer};
  const Answer answer = writer < 0 ? writer : answer_of(put_user(VirtAddr{at}, pair));
  if (answer == 0) return 0;
  (void)files.close(static_cast<u32>(reader));
  if (writer >= 0) (void)files.close(static_cast<u32>(writer));
  return answer;
}

Answer seek(u32 descriptor, i64 distance, u32 whence, u64& position) {
  const FileRef file = current_process().files.get(descriptor);
  if (!file) return err::kBadFile;
  if (whence > 2) return err::kInvalid;
  return file->seek(distance, static_cast<SeekFrom>(whence), position);
}

}  // namespace

Answer call_read(const CallArguments& arguments, arch::TrapFrame&) { return transfer(arguments, Direction::Read, {}); }
Answer call_write(const CallArguments& arguments, arch::TrapFrame&) {
  return transfer(arguments, Direction::Write, {});
}
Answer call_pread64(const CallArguments& arguments, arch::TrapFrame&) {
  const u64 offset = offset_of(arguments.d, arguments.e);
  return static_cast<i64>(offset) < 0 ? err::kInvalid : transfer(arguments, Direction::Read, {true, offset});
}
Answer call_pwrite64(const CallArguments& arguments, arch::TrapFrame&) {
  const u64 offset = offset_of(arguments.d, arguments.e);
  return static_cast<i64>(offset) < 0 ? err::kInvalid : transfer(arguments, Direction::Write, {true, offset});
}
Answer call_readv(const CallArguments& arguments, arch::TrapFrame&) {
  return transfer_vectors(arguments, Direction::Read);
}
Answer call_writev(const CallArguments& arguments, arch::TrapFrame&) {
  return transfer_vectors(arguments, Direction::Write);
}

Answer call_close(const CallArguments& arguments, arch::TrapFrame&) {
  return current_process().files.close(arguments.a);
}

Answer call_lseek(const CallArguments& arguments, arch::TrapFrame&) {
  u64 position = 0;
  const Answer answer = seek(arguments.a, static_cast<i32>(arguments.b), arguments.c, position);
  if (answer != 0) return answer;
  constexpr Answer kOverflow = -75;
  return position > 0x7fffffff ? kOverflow : static_cast<Answer>(position);
}

Answer call_llseek(const CallArguments& arguments, arch::TrapFrame&) {
  u64 position = 0;
  const i64 distance = static_cast<i64>(offset_of(arguments.c, arguments.b));
  const Answer answer = seek(arguments.a, distance, arguments.e, position);
  return answer != 0 ? answer : answer_of(put_user(VirtAddr{arguments.d}, position));
}

Answer call_dup(const CallArguments& arguments, arch::TrapFrame&) {
  FileTable& files = current_process().files;
  FileRef file = files.get(arguments.a);
  return file ? files.add(std::move(file), CloseOnExec::No) : err::kBadFile;
}

Answer call_dup2(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.a == arguments.b)
    return current_process().files.get(arguments.a) ? static_cast<Answer>(arguments.b) : err::kBadFile;
  return duplicate(arguments.a, arguments.b, CloseOnExec::No);
}

Answer call_dup3(const CallArguments& arguments, arch::TrapFrame&) {
  if (arguments.a == arguments.b || (arguments.c & ~kOpenCloseOnExec) != 0) return err::kInvalid;
  return duplicate(arguments.a, arguments.b, arguments.c != 0 ? CloseOnExec::Yes : CloseOnExec::No);
}

Answer call_pipe(const CallArguments& arguments, arch::TrapFrame&) { return add_pipe(arguments.a, 0); }
Answer call_pipe2(const CallArguments& arguments, arch::TrapFrame&) { return add_pipe(arguments.a, arguments.b); }

Answer call_fcntl64(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kDup = 0, kGetFd = 1, kSetFd = 2, kGetFlags = 3, kSetFlags = 4, kDupOnExec = 1030;
  FileTable& files = current_process().files;
  FileRef file = files.get(arguments.a);
  if (!file) return err::kBadFile;
  switch (arguments.b) {
    case kDup:
    case kDupOnExec:
      if (arguments.c >= FileTable::kMost) return err::kInvalid;
      return files.add(std::move(file), arguments.b == kDup ? CloseOnExec::No : CloseOnExec::Yes, arguments.c);
    case kGetFd: return files.close_on_exec(arguments.a);
    case kSetFd:
      return files.set_close_on_exec(arguments.a, (arguments.c & 1) != 0 ? CloseOnExec::Yes : CloseOnExec::No);
    case kGetFlags: return static_cast<Answer>(file->flags());
    case kSetFlags: file->set_flags((file->flags() & ~kOpenNonBlock) | (arguments.c & kOpenNonBlock)); return 0;
    default: return err::kInvalid;
  }
}

/// Terminals say no more than that they are one: their settings cannot be changed.
Answer call_ioctl(const CallArguments& arguments, arch::TrapFrame&) {
  constexpr u32 kGetSettings = 0x5401, kGetWindow = 0x5413;
  const FileRef file = current_process().files.get(arguments.a);
  if (!file) return err::kBadFile;
  if (!file->is_terminal()) return err::kNotTerminal;
  if (arguments.b == kGetSettings) {
    // iflag ICRNL, oflag OPOST|ONLCR, cflag B115200|CS8|CREAD, lflag ISIG|ICANON|ECHO; no special characters.
    const u32 settings[9] = {0400, 5, 0010002 | 060 | 0200, 013};
    return answer_of(put_user(VirtAddr{arguments.c}, settings));
  }
  if (arguments.b == kGetWindow) {
    const u16 window[4] = {24, 80, 0, 0};
    return answer_of(put_user(VirtAddr{arguments.c}, window));
  }
  return err::kNotTerminal;
}

Answer call_fsync(const CallArguments& arguments, arch::TrapFrame&) {
  const FileRef file = current_process().files.get(arguments.a);
  if (!file) return err::kBadFile;
  return file->open_file() == nullptr ? err::kInvalid : answer_of(sync_file(*file->open_file()));
}

Answer call_sync(const CallArguments&, arch::TrapFrame&) {
  (void)sync_file_systems();
  return 0;
}

Answer call_ftruncate64(const CallArguments& arguments, arch::TrapFrame&) {
  const FileRef file = current_process().files.get(arguments.a);
  if (!file) return err::kBadFile;
  const u64 size = offset_of(arguments.b, arguments.c);
  if (file->open_file() == nullptr || !may_write(*file) || static_cast<i64>(size) < 0) return err::kInvalid;
  return answer_of(truncate_file(*file->open_file(), size));
}

}  // namespace paean
