// What an interrupt handler must leave as it found it.
#include "access.hpp"
#include "interrupts.hpp"

namespace paean {

namespace {

constinit bool irqs_were_on = true;

}  // namespace

KTEST(handler, runs_with_interrupts_off) {
  if (!arch::using_apic()) SKIP("no local APIC");
  call_as_interrupt([](arch::IrqsOff) { irqs_were_on = arch::irqs_enabled(); });
  EXPECT(!irqs_were_on);
  EXPECT(arch::irqs_enabled());
}

KTEST(death, handler_turns_interrupts_on, .flags = TestFlag::Death) {
  if (!arch::using_apic()) SKIP("no local APIC");
  KTEST_EXPECT_PANIC("the handler of vector 254 turned interrupts on");
  call_as_interrupt([](arch::IrqsOff) { arch::enable_irqs(); });
}

KTEST(death, handler_keeps_a_map, .flags = TestFlag::Death) {
  if (!arch::using_apic()) SKIP("no local APIC");
  KTEST_EXPECT_PANIC("the handler of vector 254 leaves temporary maps");
  call_as_interrupt([](arch::IrqsOff) { (void)arch::fix_push(PhysAddr{0}); });
}

KTEST(death, handler_keeps_preemption_off, .flags = TestFlag::Death) {
  if (!arch::using_apic()) SKIP("no local APIC");
  KTEST_EXPECT_PANIC("an interrupt handler changed the preempt count");
  call_as_interrupt([](arch::IrqsOff) { preempt_disable(); });
}

}  // namespace paean
