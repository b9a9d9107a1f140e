// The stacks that no thread gave: those on which CPUs begin and idle, and those of their double-fault tasks.
#include "arch/address_space.hpp"
#include "arch/smp.hpp"
#include "arch/traps.hpp"
#include "mm/stack_pool.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constinit VirtAddr frames[arch::kMaxCpus]{};

void note_frame(arch::IrqsOff) { frames[arch::this_cpu()] = address_of(__builtin_frame_address(0)); }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
[[gnu::noinline]] u32 fall(u32 depth) {
  volatile u32 room[32] = {};
  room[depth % 32] = depth;
  return fall(depth + 1) + room[(depth + 1) % 32];
}
#pragma GCC diagnostic pop

/// The first page below that is not mapped.
VirtAddr guard_below(VirtAddr inside) {
  VirtAddr page = inside.align_down(kPageSize);
  while (arch::walk_current(page).mapped) page = page - kPageSize;
  return page;
}

/// The double-fault task reports the address that did it, to the page.
void expect_overflow_into(TestContext& test, VirtAddr guard) {
  KTEST_EXPECT_PANIC("#DF double fault");
  char text[32];
  BufferSink line{text};
  format_to(line, " cr2 {:05x}", number(guard) >> kPageShift);
  KTEST_EXPECT_PANIC(line.view());
}

}  // namespace

KTEST(smp, a_guard_lies_below_each_stack_of_a_cpu, .flags = TestFlag::NeedsSmp) {
  arch::run_on_other_cpus(note_frame);
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    for (const VirtAddr inside : {frames[cpu], arch::double_fault_stack(cpu) - 4}) {
      if (cpu == arch::this_cpu() && inside == frames[cpu]) continue;
      const std::optional<VirtAddr> guard = guard_page_below(inside);
      REQUIRE(guard);
      EXPECT(arch::walk_current(inside).mapped);
      EXPECT(!arch::walk_current(*guard).mapped);
      EXPECT(!arch::probe_write(*guard + (kPageSize - 4), 1));
    }
  }
}

KTEST(death, boot_stack_overflow, .flags = TestFlag::Death) {
  expect_overflow_into(test, guard_below(address_of(__builtin_frame_address(0))));
  test.note("{}", fall(0));
}

KTEST(death, cpu_stack_overflow, .flags = TestFlag::Death | TestFlag::NeedsSmp) {
  // The last CPU has nothing to do: the call interrupts it on the stack on which it began.
  const u32 other = arch::online_cpus() - 1;
  arch::run_on_other_cpus(note_frame);
  const std::optional<VirtAddr> guard = guard_page_below(frames[other]);
  REQUIRE(guard);
  expect_overflow_into(test, *guard);
  arch::run_on_other_cpus([](arch::IrqsOff) { frames[0] = VirtAddr{fall(0)}; });
}

}  // namespace paean
