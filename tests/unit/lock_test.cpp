// The lock checker against wrong patterns, each of which it must report exactly once, and right ones, which it must
// not.
#include <string_view>

#include "access.hpp"
#include "arch/fixmap.hpp"
#include "arch/lock.hpp"
#include "arch/tlb.hpp"
#include "arch/traps.hpp"
#include "kernel/lock_checker.hpp"
#include "kernel/sync.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

constinit SpinLock scene_lock{LockRank::Test};

/// Two CPUs, two threads and a few locks, all private: what would hang or corrupt a live kernel only counts here.
class Scene {
 public:
  LockUse outer{LockRank::Test}, inner{LockRank::TestInner}, twin{LockRank::Test}, log{LockRank::LogRing};
  LockUse mutex{LockRank::TestSleep}, inner_mutex{LockRank::TestSleepInner}, twin_mutex{LockRank::TestSleep};

  void spin(LockUse& lock) {
    ++context_[cpu_].preempt_depth;
    note(cpus_[cpu_].want_spinning(lock, context_[cpu_]));
  }
  void release(const LockUse& lock) {
    note(cpus_[cpu_].release(lock, context_[cpu_]));
    --context_[cpu_].preempt_depth;
  }
  void take(LockUse& lock) { note(threads_[thread_].want_sleeping(lock, cpus_[cpu_], context_[cpu_])); }
  void give(const LockUse& lock) { note(threads_[thread_].release(lock, context_[cpu_])); }
  void sleep() { note(want_sleep(cpus_[cpu_], context_[cpu_])); }
  void exit() {
    const LockFault mine = threads_[thread_].at_exit();
    note(mine != LockFault::None ? mine : cpus_[cpu_].at_exit());
  }
  void irqs_off() { context_[cpu_].interrupts_on = false; }
  void irqs_on() { context_[cpu_].interrupts_on = true; }
  void preempt_off() { ++context_[cpu_].preempt_depth; }
  void preempt_on() { --context_[cpu_].preempt_depth; }
  void interrupt() {
    ASSERT(depth_ < kNesting);
    saved_[depth_] = {context_[cpu_].interrupts_on, cpus_[cpu_].mark()};
    ++depth_;
    ++context_[cpu_].interrupt_depth;
    irqs_off();
  }
  void interrupt_returns() {
    --depth_;
    note(cpus_[cpu_].at_interrupt_exit(saved_[depth_].mark));
    --context_[cpu_].interrupt_depth;
    context_[cpu_].interrupts_on = saved_[depth_].interrupts_on;
  }
  void on_cpu(u32 cpu) { cpu_ = cpu; }
  void as_thread(u32 thread) { thread_ = thread; }

  u32 faults() const { return faults_; }
  LockFault first() const { return first_; }

 private:
  static constexpr u32 kNesting = 4;
  struct Saved {
    bool interrupts_on;
    u32 mark;
  };
  void note(LockFault fault) {
    if (fault == LockFault::None) return;
    if (faults_++ == 0) first_ = fault;
  }

  HeldLocks cpus_[2]{}, threads_[2]{};
  LockContext context_[2]{};
  Saved saved_[kNesting]{};
  u32 cpu_ = 0, thread_ = 0, depth_ = 0;
  u32 faults_ = 0;
  LockFault first_ = LockFault::None;
};

struct Pattern {
  const char* name;
  LockFault expected;
  void (*play)(Scene& s);
};

using enum LockFault;

constexpr Pattern kOrderPatterns[] = {
    {"inner before outer", Order, [](Scene& s) { s.spin(s.inner), s.spin(s.outer); }},
    {"two of one rank", Order, [](Scene& s) { s.spin(s.outer), s.spin(s.twin); }},
    {"anything after the log", Order, [](Scene& s) { s.spin(s.log), s.spin(s.outer); }},
    {"the middle one last", Order, [](Scene& s) { s.spin(s.outer), s.spin(s.log), s.spin(s.inner); }},
    {"released out of order, taken again", Order,
     [](Scene& s) { s.spin(s.outer), s.spin(s.inner), s.release(s.outer), s.spin(s.twin); }},
    {"handler takes the outer lock of an inner one", Order,
     [](Scene& s) { s.spin(s.inner), s.interrupt(), s.spin(s.outer); }},
    {"handler takes a twin", Order, [](Scene& s) { s.spin(s.outer), s.interrupt(), s.spin(s.twin); }},
    {"handler in a handler", Order, [](Scene& s) { s.interrupt(), s.spin(s.log), s.interrupt(), s.spin(s.inner); }},
    {"on the other CPU", Order, [](Scene& s) { s.spin(s.outer), s.on_cpu(1), s.spin(s.inner), s.spin(s.outer); }},
    {"inner mutex first", Order, [](Scene& s) { s.take(s.inner_mutex), s.take(s.mutex); }},
    {"two mutexes of one rank", Order, [](Scene& s) { s.take(s.mutex), s.take(s.twin_mutex); }},
    {"mutex given out of order, taken again", Order,
     [](Scene& s) { s.take(s.mutex), s.take(s.inner_mutex), s.give(s.mutex), s.take(s.twin_mutex); }},
    {"the other thread's order", Order,
     [](Scene& s) { s.take(s.mutex), s.as_thread(1), s.take(s.inner_mutex), s.take(s.twin_mutex); }},
};

constexpr Pattern kRecursionPatterns[] = {
    {"twice", Recursion, [](Scene& s) { s.spin(s.outer), s.spin(s.outer); }},
    {"twice with another between", Recursion, [](Scene& s) { s.spin(s.outer), s.spin(s.inner), s.spin(s.outer); }},
    {"in the handler that interrupted it", Recursion,
     [](Scene& s) { s.spin(s.outer), s.interrupt(), s.spin(s.outer); }},
    {"in a handler of a handler", Recursion,
     [](Scene& s) { s.interrupt(), s.spin(s.inner), s.interrupt(), s.spin(s.inner); }},
    {"mutex twice", Recursion, [](Scene& s) { s.take(s.mutex), s.take(s.mutex); }},
    {"mutex twice with another between", Recursion,
     [](Scene& s) { s.take(s.mutex), s.take(s.inner_mutex), s.take(s.mutex); }},
    {"after a correct round", Recursion,
     [](Scene& s) { s.take(s.mutex), s.give(s.mutex), s.take(s.mutex), s.take(s.mutex); }},
};

constexpr Pattern kOwnerPatterns[] = {
    {"released, never taken", NotHeld, [](Scene& s) { s.preempt_off(), s.release(s.outer); }},
    {"released twice", NotHeld,
     [](Scene& s) { s.preempt_off(), s.spin(s.outer), s.release(s.outer), s.release(s.outer); }},
    {"released by another CPU", NotHeld,
     [](Scene& s) { s.spin(s.outer), s.on_cpu(1), s.preempt_off(), s.release(s.outer); }},
    {"the wrong one released", NotHeld, [](Scene& s) { s.spin(s.outer), s.release(s.twin); }},
    {"released by another CPU's handler", NotHeld,
     [](Scene& s) { s.spin(s.outer), s.on_cpu(1), s.interrupt(), s.preempt_off(), s.release(s.outer); }},
    {"mutex given, never taken", NotHeld, [](Scene& s) { s.give(s.mutex); }},
    {"mutex given twice", NotHeld, [](Scene& s) { s.take(s.mutex), s.give(s.mutex), s.give(s.mutex); }},
    {"mutex given by another thread", NotHeld, [](Scene& s) { s.take(s.mutex), s.as_thread(1), s.give(s.mutex); }},
    {"the wrong mutex given", NotHeld, [](Scene& s) { s.take(s.mutex), s.give(s.inner_mutex); }},
};

constexpr Pattern kIrqPatterns[] = {
    {"a handler's lock with interrupts on", IrqUnsafe,
     [](Scene& s) { s.interrupt(), s.spin(s.outer), s.release(s.outer), s.interrupt_returns(), s.spin(s.outer); }},
    {"a lock taken with interrupts on, in a handler", IrqUnsafe,
     [](Scene& s) { s.spin(s.outer), s.release(s.outer), s.interrupt(), s.spin(s.outer); }},
    {"in a handler of another CPU", IrqUnsafe,
     [](Scene& s) { s.spin(s.outer), s.release(s.outer), s.on_cpu(1), s.interrupt(), s.spin(s.outer); }},
    {"while another CPU holds it", IrqUnsafe,
     [](Scene& s) { s.spin(s.outer), s.on_cpu(1), s.interrupt(), s.spin(s.outer); }},
    {"in a handler that turned interrupts on", IrqUnsafe,
     [](Scene& s) { s.interrupt(), s.irqs_on(), s.spin(s.outer); }},
    {"inside a lock of threads", IrqUnsafe,
     [](Scene& s) {
       s.interrupt(), s.spin(s.log), s.release(s.log), s.interrupt_returns(), s.spin(s.outer), s.spin(s.log);
     }},
    {"interrupts turned on with it held", InterruptsOn,
     [](Scene& s) { s.irqs_off(), s.spin(s.outer), s.irqs_on(), s.release(s.outer); }},
    {"interrupts turned on inside an inner lock", InterruptsOn,
     [](Scene& s) {
       s.irqs_off(), s.spin(s.outer), s.irqs_on(), s.spin(s.inner), s.release(s.inner), s.release(s.outer);
     }},
};

constexpr Pattern kSleepPatterns[] = {
    {"sleep with interrupts off", SleepInAtomic, [](Scene& s) { s.irqs_off(), s.sleep(); }},
    {"sleep with preemption off", SleepInAtomic, [](Scene& s) { s.preempt_off(), s.sleep(); }},
    {"sleep with preemption off twice, on once", SleepInAtomic,
     [](Scene& s) { s.preempt_off(), s.preempt_off(), s.preempt_on(), s.sleep(); }},
    {"sleep in a handler", SleepInAtomic, [](Scene& s) { s.interrupt(), s.sleep(); }},
    {"sleep in a handler that turned interrupts on", SleepInAtomic,
     [](Scene& s) { s.interrupt(), s.irqs_on(), s.sleep(); }},
    {"sleep with a spinning lock", SleepInAtomic, [](Scene& s) { s.spin(s.outer), s.sleep(); }},
    {"sleep with one of two released", SleepInAtomic,
     [](Scene& s) { s.spin(s.outer), s.spin(s.inner), s.release(s.inner), s.sleep(); }},
    {"mutex with a spinning lock", SleepInAtomic, [](Scene& s) { s.spin(s.outer), s.take(s.mutex); }},
    {"mutex in a handler", SleepInAtomic, [](Scene& s) { s.interrupt(), s.take(s.mutex); }},
    {"mutex with interrupts off", SleepInAtomic, [](Scene& s) { s.irqs_off(), s.take(s.mutex); }},
    {"mutex with preemption off", SleepInAtomic, [](Scene& s) { s.preempt_off(), s.take(s.mutex); }},
    {"spinning lock inside a mutex, then sleep", SleepInAtomic,
     [](Scene& s) { s.take(s.mutex), s.spin(s.outer), s.sleep(); }},
};

/// Fills a scene's CPU or thread with more locks than anybody holds.
void take_too_many(Scene& s, void (Scene::*take)(LockUse&)) {
  static constinit LockUse many[HeldLocks::kDepth + 1] = {
      LockUse{LockRank{0}},  LockUse{LockRank{1}},  LockUse{LockRank{2}}, LockUse{LockRank{3}}, LockUse{LockRank{4}},
      LockUse{LockRank{5}},  LockUse{LockRank{6}},  LockUse{LockRank{7}}, LockUse{LockRank{8}}, LockUse{LockRank{9}},
      LockUse{LockRank{10}}, LockUse{LockRank{11}}, LockUse{LockRank{12}}};
  for (LockUse& lock : many) (s.*take)(lock);
}

constexpr Pattern kExitPatterns[] = {
    {"thread ends with a mutex", HeldAtExit, [](Scene& s) { s.take(s.mutex), s.exit(); }},
    {"thread ends with one of two", HeldAtExit,
     [](Scene& s) { s.take(s.mutex), s.take(s.inner_mutex), s.give(s.mutex), s.exit(); }},
    {"thread ends with a spinning lock", HeldAtExit, [](Scene& s) { s.spin(s.outer), s.exit(); }},
    {"handler returns with a lock", HeldAtExit,
     [](Scene& s) { s.interrupt(), s.spin(s.outer), s.interrupt_returns(); }},
    {"handler on top of a lock returns with another", HeldAtExit,
     [](Scene& s) { s.spin(s.outer), s.interrupt(), s.spin(s.inner), s.interrupt_returns(); }},
    {"inner handler returns with a lock", HeldAtExit,
     [](Scene& s) { s.interrupt(), s.interrupt(), s.spin(s.outer), s.interrupt_returns(); }},
    {"too many spinning locks", TooDeep, [](Scene& s) { take_too_many(s, &Scene::spin); }},
    {"too many mutexes", TooDeep, [](Scene& s) { take_too_many(s, &Scene::take); }},
};

constexpr Pattern kRightPatterns[] = {
    {"rising ranks", None, [](Scene& s) { s.spin(s.outer), s.spin(s.inner), s.spin(s.log); }},
    {"released in any order", None,
     [](Scene& s) { s.spin(s.outer), s.spin(s.inner), s.release(s.outer), s.release(s.inner), s.spin(s.outer); }},
    {"twins one after the other", None, [](Scene& s) { s.spin(s.outer), s.release(s.outer), s.spin(s.twin); }},
    {"each CPU its own order", None, [](Scene& s) { s.spin(s.inner), s.on_cpu(1), s.spin(s.outer); }},
    {"each thread its own order", None, [](Scene& s) { s.take(s.inner_mutex), s.as_thread(1), s.take(s.mutex); }},
    {"spinning inside sleeping", None,
     [](Scene& s) { s.take(s.mutex), s.take(s.inner_mutex), s.spin(s.outer), s.release(s.outer), s.sleep(); }},
    {"always with interrupts off", None,
     [](Scene& s) {
       s.interrupt(), s.spin(s.outer), s.release(s.outer), s.interrupt_returns();
       s.irqs_off(), s.spin(s.outer), s.release(s.outer), s.irqs_on();
     }},
    {"handler above what it interrupted", None,
     [](Scene& s) { s.spin(s.outer), s.interrupt(), s.spin(s.log), s.release(s.log), s.interrupt_returns(); }},
    {"interrupts on again after the release", None,
     [](Scene& s) { s.irqs_off(), s.spin(s.outer), s.release(s.outer), s.irqs_on(), s.sleep(); }},
    {"sleep with a mutex", None, [](Scene& s) { s.take(s.mutex), s.sleep(), s.give(s.mutex), s.exit(); }},
    {"sleep after preemption is on again", None, [](Scene& s) { s.preempt_off(), s.preempt_on(), s.sleep(); }},
    {"thread ends with nothing", None, [](Scene& s) { s.take(s.mutex), s.give(s.mutex), s.exit(); }},
};

/// How many patterns were as expected.
u32 play_all(TestContext& test, std::span<const Pattern> patterns) {
  u32 good = 0;
  for (const Pattern& pattern : patterns) {
    Scene scene;
    pattern.play(scene);
    const u32 wanted = pattern.expected == None ? 0 : 1;
    if (scene.faults() == wanted && scene.first() == pattern.expected) {
      ++good;
    } else {
      test.note("{}: {} faults, the first: {}", pattern.name, scene.faults(), lock_fault_name(scene.first()));
    }
  }
  EXPECT_EQ(good, patterns.size());
  return good;
}

static_assert(std::size(kOrderPatterns) + std::size(kRecursionPatterns) + std::size(kOwnerPatterns) +
                  std::size(kIrqPatterns) + std::size(kSleepPatterns) + std::size(kExitPatterns) >=
              40);

}  // namespace

KTEST(lockcheck, order) { (void)play_all(test, kOrderPatterns); }
KTEST(lockcheck, recursion) { (void)play_all(test, kRecursionPatterns); }
KTEST(lockcheck, owner) { (void)play_all(test, kOwnerPatterns); }
KTEST(lockcheck, interrupts) { (void)play_all(test, kIrqPatterns); }
KTEST(lockcheck, sleep_in_atomic) { (void)play_all(test, kSleepPatterns); }
KTEST(lockcheck, held_at_the_end) { (void)play_all(test, kExitPatterns); }
KTEST(lockcheck, right_patterns_are_not_reported) { (void)play_all(test, kRightPatterns); }

KTEST(lockcheck, every_rank_has_a_name) {
  for (u32 rank = 0; rank < kLockRanks; ++rank) {
    const char* name = lock_rank_name(rank);
    REQUIRE(name != nullptr);
    for (u32 other = 0; other < rank; ++other) EXPECT(std::string_view{name} != lock_rank_name(other));
  }
  EXPECT(lock_rank_name(kLockRanks) == nullptr);
}

KTEST(lockcheck, live_locks_are_noted) {
  SpinLock outer{LockRank::Test}, inner{LockRank::TestInner};
  const SpinGuard<IrqSave> a{outer};
  const SpinGuard<NoIrq> b{inner};
  const HeldLocks& held = spinning_locks_of(arch::this_cpu());
#ifdef PAEAN_DEBUG
  EXPECT_EQ(held.count(), 2u);
  EXPECT_EQ(held.ranks(), mask_of(LockRank::Test) | mask_of(LockRank::TestInner));
#else
  EXPECT_EQ(held.count(), 0u);
#endif
  EXPECT(preempt_count.get() == 2);
}

KTEST(lockcheck, locks_of_the_machine_are_noted) {
  arch::CallLock call{LockRank::Shootdown};
  arch::LeafLock outer{LockRank::IrqLines}, leaf{LockRank::PciConfig};
  {
    const arch::CallGuard a{call};
    EXPECT(call.is_held() && arch::irqs_enabled());
    EXPECT(preempt_count.get() == 1);
    const SpinGuard<IrqSave> b{scene_lock};  // what a call does meanwhile may take any of the kernel's
    const arch::LeafGuard c{outer};
    const arch::LeafGuard d{leaf};
    EXPECT(leaf.is_held() && !arch::irqs_enabled());
#ifdef PAEAN_DEBUG
    EXPECT_EQ(spinning_locks_of(arch::this_cpu()).ranks(), mask_of(LockRank::Shootdown) | mask_of(LockRank::Test) |
                                                               mask_of(LockRank::IrqLines) |
                                                               mask_of(LockRank::PciConfig));
#endif
  }
  EXPECT(!call.is_held() && !outer.is_held() && !leaf.is_held());
  EXPECT_EQ(spinning_locks_of(arch::this_cpu()).count(), 0u);
}

#ifdef PAEAN_DEBUG
KTEST(death, spin_lock_held_at_a_call_of_others, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("lock order: rank");
  const SpinGuard<NoIrq> guard{scene_lock};
  arch::run_on_other_cpus([](arch::IrqsOff) {});
  arch::tlb_shootdown(arch::kPkmapStart, 1);
  arch::CallLock call{LockRank::CpuCall};  // the only one that is taken where there are no others
  const arch::CallGuard never{call};
}

KTEST(death, spin_lock_under_a_leaf, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("lock order: rank");
  arch::LeafLock leaf{LockRank::PciConfig};
  const arch::LeafGuard guard{leaf};
  log_info("who logs with a leaf lock held takes another");
}

KTEST(death, mutex_order, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("lock order: rank 0");
  Mutex outer{LockRank::TestSleep}, inner{LockRank::TestSleepInner};
  const MutexGuard a{inner};
  const MutexGuard b{outer};
}

KTEST(death, mutex_held_at_exit, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("lock held at the end");
  Mutex mutex{LockRank::TestSleep};
  const Result<Thread*> thread = thread_create("holder", [](void* m) { static_cast<Mutex*>(m)->lock(); }, &mutex);
  if (thread) thread_join(*thread);
}

KTEST(death, spin_lock_with_interrupts_on_and_in_an_interrupt, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("lock of an interrupt handler taken with interrupts on");
  static constinit SpinLock lock{LockRank::Test};
  { const SpinGuard<NoIrq> guard{lock}; }
  arch::set_irq_handler(5, [](arch::IrqsOff) { const SpinGuard<NoIrq> guard{lock}; });
  asm volatile("int %0" ::"i"(arch::kVectorIrqBase + 5) : "memory");
}
#endif

}  // namespace paean
