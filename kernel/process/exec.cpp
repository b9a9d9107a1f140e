// Programs: from a file to a new address space.
#include <algorithm>

#include "arch/cpu.hpp"
#include "kernel/fs/map_file.hpp"
#include "kernel/process/arguments.hpp"
#include "kernel/process/calls.hpp"
#include "kernel/process/elf.hpp"
#include "kernel/process/process.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

constexpr u32 kFirstStackBytes = 128 * kKiB;  // beside the arguments; it grows

/// Memory for a scope.
class Buffer {
 public:
  explicit Buffer(u32 bytes) : memory_(kmalloc(bytes, AllocFlags::Kernel)), bytes_(bytes) {}
  ~Buffer() {
    if (memory_) kfree(*memory_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  explicit operator bool() const { return memory_.has_value(); }
  std::span<u8> bytes() const { return {static_cast<u8*>(*memory_), bytes_}; }

 private:
  Result<void*> memory_;
  u32 bytes_;
};

UserAccess access_of(const ElfSegment& segment) {
  UserAccess access = UserAccess::Read;
  if (segment.writable) access = access | UserAccess::Write;
  if (segment.executable) access = access | UserAccess::Execute;
  return access;
}

Result<> map_segment(UserSpace& space, const ElfSegment& segment, MappedFile& file) {
  const VirtAddr first = segment.first_page();
  VirtAddr file_end = first;
  if (segment.file_bytes != 0) {
    file_end = (segment.address + segment.file_bytes).align_up(kPageSize);
    (void)TRY(space.map({.at = first,
                         .bytes = file_end - first,
                         .access = access_of(segment),
                         .flags = MapFlag::Fixed,
                         .file = &file,
                         .first_page = segment.file_offset / kPageSize}));
  }
  if (segment.end_page() > file_end) {
    (void)TRY(space.map({.at = file_end,
                         .bytes = segment.end_page() - file_end,
                         .access = access_of(segment),
                         .flags = MapFlag::Fixed}));
  }
  const VirtAddr zeros = segment.address + segment.file_bytes;
  if (segment.writable && segment.memory_bytes > segment.file_bytes && zeros < file_end)
    TRY(clear_user(zeros, std::min(file_end, segment.address + segment.memory_bytes) - zeros));
  return {};
}

/// The stack that the ABI wants: from argc upwards. Its address.
Result<VirtAddr> build_stack(UserSpace& space, const ElfImage& image, const ArgumentPages& arguments) {
  constexpr u32 kRandomBytes = 16;
  static constexpr char kPlatform[] = "i686";
  const VirtAddr top = user_end();
  const u32 bytes = static_cast<u32>(pages_for(arguments.bytes() + u64{kFirstStackBytes}).bytes());
  const UserAccess access =
      UserAccess::Read | UserAccess::Write | (image.executable_stack ? UserAccess::Execute : UserAccess::None);
  (void)TRY(
      space.map({.at = top - bytes, .bytes = bytes, .access = access, .flags = MapFlag::Fixed | MapFlag::GrowsDown}));
  const VirtAddr strings = (top - arguments.bytes()).align_down(16);
  const VirtAddr random = strings - kRandomBytes, platform = random - 16;
  u8 noise[kRandomBytes];
  fill_random(noise);
  TRY(copy_to_user(random, noise, kRandomBytes));
  TRY(copy_to_user(platform, kPlatform, sizeof kPlatform));
  const u32 auxiliary[][2] = {{3, image.headers.raw()},
                              {4, kElfProgramHeaderBytes},
                              {5, image.header_count},
                              {6, kPageSize},
                              {7, 0},
                              {8, 0},
                              {9, image.entry.raw()},
                              {11, 0},
                              {12, 0},
                              {13, 0},
                              {14, 0},
                              {15, platform.raw()},
                              {16, arch::cpuid(1).edx},
                              {17, 100},
                              {23, 0},
                              {25, random.raw()},
                              {31, strings.raw()},
                              {0, 0}};
  const u32 lists = 4 * (1 + arguments.arguments() + 1 + arguments.environment() + 1);
  const VirtAddr stack = (platform - lists - sizeof auxiliary).align_down(16);
  const VirtAddr argv = stack + 4, envp = argv + 4 * (arguments.arguments() + 1);
  TRY(put_user(stack, arguments.arguments()));
  TRY(arguments.copy_out(strings, argv, envp));
  TRY(copy_to_user(envp + 4 * (arguments.environment() + 1), auxiliary, sizeof auxiliary));
  return stack;
}

Result<> map_segments(UserSpace& space, const ElfImage& image, OpenFile& open) {
  MappedFile* const file = TRY(map_file(open));
  for (const ElfSegment& segment : image.loaded()) {
    const Result<> mapped = map_segment(space, segment, *file);
    if (mapped) continue;
    file->put();
    return mapped;
  }
  file->put();
  return {};
}

/// The program in the current space, which is empty. Its stack pointer.
Result<VirtAddr> load(UserSpace& space, const ElfImage& image, OpenFile& open, const ArgumentPages& arguments) {
  TRY(map_segments(space, image, open));
  space.place_break(image.end());
  return build_stack(space, image, arguments);
}

Answer read_image(OpenFile& open, ElfImage& image) {
  const FileStatus status = status_of(open);
  if (status.type != FileType::Regular || (status.permissions & 0111) == 0) return err::kAccess;
  const Buffer head{kElfHeadBytes};
  if (!head) return err::kNoMemory;
  const u32 got = CALL_TRY(read_file_at(open, 0, head.bytes()));
  const Result<ElfImage> parsed = parse_elf(head.bytes().first(got), status.size, user_end());
  if (!parsed) return err::kNoExec;
  image = *parsed;
  return 0;
}

char* copy_text(std::string_view text) {
  const Result<void*> place = kmalloc(static_cast<u32>(text.size()) + 1, AllocFlags::Kernel);
  if (!place) return nullptr;
  auto* const copy = static_cast<char*>(*place);
  __builtin_memcpy(copy, text.data(), text.size());
  copy[text.size()] = '\0';
  return copy;
}

/// What a new program does not inherit.
void forget_program(Task& task, std::string_view path) {
  Process& process = *task.process;
  process.files.close_for_exec();
  char* program = copy_text(path);
  {
    const SpinGuard<IrqSave> guard{process_lock};
    std::swap(process.program, program);
    process.executed = true;
    for (SignalAction& action : process.actions.of) {
      if (action.handler != 1) action = SignalAction{};
    }
  }
  kfree(program);
  task.alternate_bytes = 0;
  task.clear_at_end = VirtAddr{};
  const arch::IrqsOffGuard off;
  arch::clear_context(task.context);
  arch::load_fpu(task.context);
  arch::load_user_context(task.context, thread_stack_top(current_thread()));
}

}  // namespace

Answer execute(std::string_view path, const ArgumentPages& arguments, arch::TrapFrame& frame) {
  const FileRef file = CALL_TRY(open_disk_file(path, 0, 0));
  ElfImage image;
  if (const Answer answer = read_image(*file->open_file(), image); answer != 0) return answer;
  if (const Answer answer = end_other_tasks(); answer != 0) return answer;
  UserSpace* const space = CALL_TRY(UserSpace::create());
  UserSpace* const old = UserSpace::current();
  if (old != nullptr) old->get();
  UserSpace::switch_to(space);
  space->put();
  const Result<VirtAddr> stack = load(*space, image, *file->open_file(), arguments);
  if (!stack) UserSpace::switch_to(old);
  if (old != nullptr) old->put();
  if (!stack) return answer_of(stack.error());
  Task& me = current_task();
  forget_program(me, path);
  if (Completion* released = std::exchange(me.released, nullptr)) released->complete();
  arch::fill_user_frame(frame, image.entry, *stack);
  return 0;
}

std::expected<Process*, Answer> ProgramRun::start(std::string_view path, const ArgumentPages& arguments) {
  if (!arch::cpu_runs_users()) return std::unexpected(err::kNoExec);
  const Result<Process*> process = make_process(nullptr);
  if (!process) return std::unexpected(answer_of(process.error()));
  (*process)->watched = true;
  ProgramStart start{path, arguments};
  Answer answer = 0;
  for (u32 i = 0; i < 3 && answer >= 0; ++i) {
    Result<FileRef> console = open_console();
    answer = console ? (*process)->files.add(std::move(*console), CloseOnExec::No) : err::kNoMemory;
  }
  Result<Task*> task = std::unexpected(Error::OutOfMemory);
  if (answer >= 0) task = make_task();
  if (task) {
    (*task)->id = (*process)->id;
    (*task)->program = &start;
    const Result<> started = start_task(**process, *task, path);
    if (!started) free_task(*task);
    answer = answer_of(started);
  } else {
    answer = err::kNoMemory;
  }
  if (answer != 0) {
    drop_process(*process);
    return std::unexpected(answer);
  }
  start.done.wait();
  if (start.answer == 0) return *process;
  (void)wait(*process, nullptr, nullptr);
  return std::unexpected(start.answer);
}

}  // namespace paean
