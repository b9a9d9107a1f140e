// poll and select: waiting until one of several descriptors would not wait.
//
// Who polls sleeps in one queue, which every change of a pipe wakes if there is anybody in it, and looks at all of its
// descriptors again. What is typed tells nobody: with a terminal among them one looks every tick.
#include <algorithm>

#include "kernel/process/calls.hpp"
#include "mm/kmalloc.hpp"
#include "mm/user_copy.hpp"

namespace paean {

constinit WaitQueue pollers;

namespace {

constexpr u32 kInvalidDescriptor = 32, kAlways = kReadyError | kReadyHangUp | kInvalidDescriptor;
constexpr u64 kMicrosecond = 1000, kMillisecond = 1'000'000, kSecond = 1'000'000'000;

struct PollEntry {
  i32 descriptor;
  u16 wanted, found;
};

/// What a look has found, and whether somebody has to look again without being told.
struct Look {
  u32 ready = 0;
  bool terminal = false;
};

/// A copy of the program's list, for the time of a call.
class PollList {
 public:
  static constexpr u32 kMost = FileTable::kMost;
  ~PollList() { kfree(entries_); }
  PollList() = default;
  PollList(const PollList&) = delete;
  PollList& operator=(const PollList&) = delete;

  Answer make(u32 count) {
    if (count > kMost) return err::kInvalid;
    void* const place = CALL_TRY(kzalloc(std::max(count, 1u) * sizeof(PollEntry), AllocFlags::Kernel));
    entries_ = static_cast<PollEntry*>(place);
    count_ = count;
    return 0;
  }
  std::span<PollEntry> entries() const { return {entries_, count_}; }

  Look look() const {
    Look look;
    for (PollEntry& entry : entries()) {
      entry.found = 0;
      if (entry.descriptor < 0) continue;
      const FileRef file = current_process().files.get(static_cast<u32>(entry.descriptor));
      const u32 state = file ? file->ready() : kInvalidDescriptor;
      look.terminal = look.terminal || (file && file->is_terminal());
      entry.found = static_cast<u16>(state & (entry.wanted | kAlways));
      if (entry.found != 0) ++look.ready;
    }
    return look;
  }

  /// How many are ready, 0 when the time is over (nullptr: never), or kRestartUnlessHandled.
  Answer wait(const u64* timeout_ns) const {
    constexpr u32 kLookMs = 10, kLongestMs = 1000;
    const Deadline deadline{timeout_ns};
    for (;;) {
      Look seen = look();
      if (seen.ready != 0) return static_cast<Answer>(seen.ready);
      if (interrupted()) {
        deadline.keep();
        return err::kRestartUnlessHandled;
      }
      if (deadline.over()) return 0;
      const u64 left = std::min(deadline.left(), u64{kLongestMs} * kMillisecond);
      const u32 ms = seen.terminal ? kLookMs : static_cast<u32>((left + kMillisecond - 1) / kMillisecond);
      (void)pollers.wait_for_ms(ms, [&] {
        seen = look();
        return seen.ready != 0 || interrupted();
      });
    }
  }

 private:
  PollEntry* entries_ = nullptr;
  u32 count_ = 0;
};

struct Time32 {
  u32 seconds, fraction;
};
struct Time64 {
  u64 seconds;
  u32 fraction, unused;
};

/// A time of the program's in nanoseconds; `unit_ns` is that of the fraction.
template <typename Time>
Answer read_time(u32 at, u64 unit_ns, u64& time) {
  const Time given = CALL_TRY(get_user<Time>(VirtAddr{at}));
  constexpr u64 kLongest = 1'000'000'000;  // seconds
  if (given.fraction >= kSecond / unit_ns || static_cast<i64>(given.seconds) < 0) return err::kInvalid;
  time = std::min<u64>(given.seconds, kLongest) * kSecond + given.fraction * unit_ns;
  return 0;
}

/// Other signals are blocked for the time of a call.
class CallMask {
 public:
  Answer begin(u32 set, u32 set_bytes) {
    if (set == 0) return 0;
    if (set_bytes != sizeof(SignalSet)) return err::kInvalid;
    const SignalSet wanted = CALL_TRY(get_user<SignalSet>(VirtAddr{set}));
    Task& me = current_task();
    me.blocked_before_suspend = me.blocked;
    me.restore_blocked = true;
    set_blocked(me, wanted);
    return 0;
  }
  /// The signal that has interrupted the call sees its mask; the old one comes back after that.
  static Answer end(Answer answer) {
    Task& me = current_task();
    if (answer != err::kRestartUnlessHandled && std::exchange(me.restore_blocked, false))
      set_blocked(me, me.blocked_before_suspend);
    return answer;
  }
};

Answer poll(u32 list, u32 count, const u64* timeout_ns) {
  PollList entries;
  if (const Answer answer = entries.make(count); answer != 0) return answer;
  const u32 bytes = count * u32{sizeof(PollEntry)};
  if (!copy_from_user(entries.entries().data(), VirtAddr{list}, bytes)) return err::kFault;
  const Answer answer = entries.wait(timeout_ns);
  if (answer >= 0 && !copy_to_user(VirtAddr{list}, entries.entries().data(), bytes)) return err::kFault;
  return answer;
}

/// The three sets of select: readable, writable, exceptions, of which there are none.
struct SelectSets {
  static constexpr u32 kWords = PollList::kMost / 32;
  static constexpr u32 kMeans[3] = {kReadyRead | kReadyHangUp | kReadyError, kReadyWrite | kReadyError, 0};
  static constexpr u32 kWanted[3] = {kReadyRead, kReadyWrite, 0};
  u32 at[3];
  u32 words[3][kWords]{};
  bool has(u32 set, u32 descriptor) const { return (words[set][descriptor / 32] >> descriptor % 32 & 1) != 0; }
};

Answer select_ready(u32 count, SelectSets& sets, const u64* timeout_ns) {
  PollList entries;
  if (const Answer answer = entries.make(count); answer != 0) return answer;
  for (u32 fd = 0; fd < count; ++fd) {
    PollEntry& entry = entries.entries()[fd];
    entry.descriptor = -1;
    for (u32 set = 0; set < 3; ++set) {
      if (!sets.has(set, fd)) continue;
      if (!current_process().files.get(fd)) return err::kBadFile;
      entry.descriptor = static_cast<i32>(fd);
      entry.wanted = static_cast<u16>(entry.wanted | SelectSets::kWanted[set]);
    }
  }
  if (const Answer answer = entries.wait(timeout_ns); answer < 0) return answer;
  Answer sum = 0;
  for (u32 fd = 0; fd < count; ++fd) {
    for (u32 set = 0; set < 3; ++set) {
      const bool ready = (entries.entries()[fd].found & SelectSets::kMeans[set]) != 0;
      if (sets.has(set, fd) && ready)
        ++sum;
      else
        sets.words[set][fd / 32] &= ~(1u << fd % 32);
    }
  }
  return sum;
}

Answer select(u32 given, u32 readable, u32 writable, u32 exceptions, const u64* timeout_ns) {
  if (static_cast<i32>(given) < 0) return err::kInvalid;
  const u32 count = std::min(given, PollList::kMost), bytes = (count + 31) / 32 * 4;
  SelectSets sets{{readable, writable, exceptions}};
  for (u32 set = 0; set < 3; ++set) {
    if (sets.at[set] != 0 && !copy_from_user(sets.words[set], VirtAddr{sets.at[set]}, bytes)) return err::kFault;
  }
  const Answer answer = select_ready(count, sets, timeout_ns);
  if (answer < 0) return answer;
  for (u32 set = 0; set < 3; ++set) {
    if (sets.at[set] != 0 && !copy_to_user(VirtAddr{sets.at[set]}, sets.words[set], bytes)) return err::kFault;
  }
  return answer;
}

template <typename Time>
Answer ppoll(const CallArguments& arguments) {
  u64 time = 0;
  if (arguments.c != 0) {
    if (const Answer answer = read_time<Time>(arguments.c, 1, time); answer != 0) return answer;
  }
  CallMask mask;
  if (const Answer answer = mask.begin(arguments.d, arguments.e); answer != 0) return answer;
  return CallMask::end(poll(arguments.a, arguments.b, arguments.c != 0 ? &time : nullptr));
}

template <typename Time>
Answer pselect(const CallArguments& arguments) {
  struct GivenMask {
    u32 set, bytes;
  };
  u64 time = 0;
  GivenMask given{};
  if (arguments.e != 0) {
    if (const Answer answer = read_time<Time>(arguments.e, 1, time); answer != 0) return answer;
  }
  if (arguments.f != 0) given = CALL_TRY(get_user<GivenMask>(VirtAddr{arguments.f}));
  CallMask mask;
  if (const Answer answer = mask.begin(given.set, given.bytes); answer != 0) return answer;
  return CallMask::end(select(arguments.a, arguments.b, arguments.c, arguments.d, arguments.e != 0 ? &time : nullptr));
}

}  // namespace

Answer call_poll(const CallArguments& arguments, arch::TrapFrame&) {
  const u64 time = u64{arguments.c} * kMillisecond;
  return poll(arguments.a, arguments.b, static_cast<i32>(arguments.c) < 0 ? nullptr : &time);
}

Answer call_ppoll(const CallArguments& arguments, arch::TrapFrame&) { return ppoll<Time32>(arguments); }
Answer call_ppoll_time64(const CallArguments& arguments, arch::TrapFrame&) { return ppoll<Time64>(arguments); }

Answer call_newselect(const CallArguments& arguments, arch::TrapFrame&) {
  u64 time = 0;
  if (arguments.e != 0) {
    if (const Answer answer = read_time<Time32>(arguments.e, kMicrosecond, time); answer != 0) return answer;
  }
  return select(arguments.a, arguments.b, arguments.c, arguments.d, arguments.e != 0 ? &time : nullptr);
}

Answer call_pselect6(const CallArguments& arguments, arch::TrapFrame&) { return pselect<Time32>(arguments); }
Answer call_pselect6_time64(const CallArguments& arguments, arch::TrapFrame&) { return pselect<Time64>(arguments); }

}  // namespace paean
