// Futexes: sleeping on a word of the program's until somebody says that it has changed.
//
// A sleeper is known by its address space and the address; words in shared mappings of different processes are
// different words here.
#include "kernel/process/calls.hpp"
#include "kernel/process/process.hpp"
#include "mm/user_copy.hpp"

namespace paean {

namespace {

struct Sleeper {
  const UserSpace* space;
  VirtAddr at;
  Thread* thread;
  u32 mask;
  bool woken = false;
  Sleeper* next = nullptr;
};

constexpr u32 kBuckets = 64;
constinit SpinLock futex_lock{kProcessRank};
constinit Sleeper* buckets[kBuckets]{};

Sleeper*& bucket_of(VirtAddr at) { return buckets[(at.raw() >> 2) % kBuckets]; }

void append_locked(Sleeper& sleeper) {
  Sleeper** link = &bucket_of(sleeper.at);
  while (*link != nullptr) link = &(*link)->next;
  *link = &sleeper;
}

void remove_locked(Sleeper& sleeper) {
  for (Sleeper** link = &bucket_of(sleeper.at); *link != nullptr; link = &(*link)->next) {
    if (*link != &sleeper) continue;
    *link = sleeper.next;
    return;
  }
}

u32 wake(VirtAddr at, u32 count, u32 mask) {
  const UserSpace* const space = UserSpace::current();
  const SpinGuard<IrqSave> guard{futex_lock};
  u32 woken = 0;
  for (Sleeper** link = &bucket_of(at); *link != nullptr && woken < count;) {
    Sleeper& sleeper = **link;
    if (sleeper.space != space || sleeper.at != at || (sleeper.mask & mask) == 0) {
      link = &sleeper.next;
      continue;
    }
    *link = sleeper.next;
    __atomic_store_n(&sleeper.woken, true, __ATOMIC_RELEASE);
    unpark(sleeper.thread);  // with the lock held: it cannot leave before
    ++woken;
  }
  return woken;
}

Answer wait(VirtAddr at, u32 expected, u32 mask, const u64* timeout_ns) {
  Sleeper me{UserSpace::current(), at, current_thread(), mask};
  {
    const SpinGuard<IrqSave> guard{futex_lock};
    append_locked(me);
  }
  // After entering: who changes the word and wakes finds us, or we find the change.
  const Result<u32> value = get_user<u32>(at);
  Answer answer = 0;
  if (!value) {
    answer = answer_of(value.error());
  } else if (*value != expected) {
    answer = err::kAgain;
  } else {
    const Deadline deadline{timeout_ns};
    while (!__atomic_load_n(&me.woken, __ATOMIC_ACQUIRE) && answer == 0) {
      if (interrupted()) {
        deadline.keep();
        answer = timeout_ns != nullptr ? err::kRestartUnlessHandled : err::kRestart;
      } else if (!deadline.sleep()) {
        answer = err::kTimedOut;
      }
    }
  }
  const SpinGuard<IrqSave> guard{futex_lock};
  if (me.woken) return 0;
  remove_locked(me);
  return answer;
}

}  // namespace

u32 futex_wake(VirtAddr at, u32 count, u32 mask) { return wake(at, count, mask); }

Answer futex(VirtAddr at, u32 operation, u32 value, const u64* timeout_ns, u32 mask) {
  constexpr u32 kWait = 0, kWake = 1, kRequeue = 3, kCompareRequeue = 4, kWaitBits = 9, kWakeBits = 10;
  constexpr u32 kFlags = 128 | 256;  // private, real-time clock
  if (!at.is_aligned(4)) return err::kInvalid;
  if (!is_user_range(at, sizeof(u32))) return err::kFault;
  switch (operation & ~kFlags) {
    case kWait: return wait(at, value, ~0u, timeout_ns);
    case kWaitBits: return mask == 0 ? err::kInvalid : wait(at, value, mask, timeout_ns);
    case kWake: return static_cast<Answer>(wake(at, value, ~0u));
    case kWakeBits: return mask == 0 ? err::kInvalid : static_cast<Answer>(wake(at, value, mask));
    case kRequeue:
    case kCompareRequeue: return static_cast<Answer>(wake(at, ~0u >> 1, ~0u));  // all, who look again
    default: return err::kNoCall;
  }
}

}  // namespace paean
