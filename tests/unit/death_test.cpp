// What must kill the kernel, and its last words. Each runs alone: `selftest=death.null`.
#include "access.hpp"
#include "arch/cpu.hpp"
#include "arch/fixmap.hpp"
#include "arch/traps.hpp"
#include "kernel/spinlock.hpp"

namespace paean {

namespace {

/// Announces the line that names the fault, beside the panic's own.
void expect_fault(TestContext& test, const char* access, VirtAddr va, const char* why) {
  KTEST_EXPECT_PANIC("#PF page fault");
  char text[80];
  BufferSink line{text};
  format_to(line, "{} of {:08x} from kernel mode: {}", access, va, why);
  KTEST_EXPECT_PANIC(line.view());
}

constinit u32 nx_code = 0xc3c3c3c3;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
[[gnu::noinline]] u32 recurse(u32 depth) {
  volatile u32 room[64] = {};
  room[depth % 64] = depth;
  return recurse(depth + 1) + room[(depth + 1) % 64];
}
#pragma GCC diagnostic pop

}  // namespace

KTEST(death, guard_page, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("#DF double fault");
  test.note("{}", recurse(0));
}

KTEST(death, double_fault, .flags = TestFlag::Death) {
  // A stack pointer into nothing: the first push faults, and so does the delivery of that fault.
  KTEST_EXPECT_PANIC("#DF double fault");
  asm volatile("movl $0x40000000, %%esp; pushl %%eax" ::: "memory");
}

KTEST(death, wx_write_text, .flags = TestFlag::Death) {
  const VirtAddr va = image_text().start;
  expect_fault(test, "write", va, "protection");
  *pointer_to<volatile u8>(va) = 0xcc;
}

KTEST(death, wx_write_text_alias, .flags = TestFlag::Death) {
  const VirtAddr va = direct_alias(image_text().start);
  expect_fault(test, "write", va, "protection");
  *pointer_to<volatile u8>(va) = 0xcc;
}

KTEST(death, wx_write_rodata, .flags = TestFlag::Death) {
  const VirtAddr va = image_rodata().start;
  expect_fault(test, "write", va, "protection");
  *pointer_to<volatile u8>(va) = 0xcc;
}

KTEST(death, exec_nx, .flags = TestFlag::Death) {
  const VirtAddr va = address_of(&nx_code);
  expect_fault(test, "execute", va, "protection");
  asm volatile("call *%0" ::"r"(number(va)) : "memory");
}

KTEST(death, null, .flags = TestFlag::Death) {
  expect_fault(test, "read", VirtAddr{0}, "not mapped");
  (void)*pointer_to<volatile u32>(VirtAddr{0});
}

KTEST(death, fixmap_guard, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  const arch::FixWindow window{to_phys(page_to_pfn(*page))};
  expect_fault(test, "write", address_of(window.bytes()) + kPageSize, "not mapped");
  const_cast<volatile u8*>(window.bytes())[kPageSize] = 1;
}

KTEST(death, double_free, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(page);
  free_page(*page);
  KTEST_EXPECT_PANIC("double free");
  free_page(*page);
}

KTEST(death, double_free_of_a_block, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_pages(AllocFlags::HighUser, Order{3}, Owner::Test);
  REQUIRE(page);
  free_pages(*page, Order{3});
  KTEST_EXPECT_PANIC("double free");
  free_pages(*page, Order{3});
}

KTEST(death, wrong_order_free, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_pages(AllocFlags::Kernel, Order{3}, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("wrong order");
  free_pages(*page, Order{2});
}

KTEST(death, free_inside_a_block, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_pages(AllocFlags::Kernel, Order{3}, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("inside");
  free_page(*page + 3);
}

KTEST(death, free_of_a_shared_page, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(page);
  (*page)->get();
  KTEST_EXPECT_PANIC("still referenced");
  free_page(*page);
}

KTEST(death, foreign_free, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("foreign");
  free_page(pfn_to_page(Pfn{(number(image_text().start) - arch::kImageOffset) >> kPageShift}));
}

KTEST(death, bad_free_address, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("bad free of address");
  free_pages_at(image_data().start, Order{0});
}

KTEST(death, reference_to_a_free_page, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::Kernel, Owner::Test);
  REQUIRE(page);
  free_page(*page);
  KTEST_EXPECT_PANIC("assertion failed");
  (*page)->get();
}

KTEST(death, high_flags_for_an_address, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("assertion failed");
  const Result<VirtAddr> address = __get_free_pages(AllocFlags::HighUser, Order{0}, Owner::Test);
  EXPECT(!address);
}

KTEST(death, kmap_too_deep, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  KTEST_EXPECT_PANIC("more than 16 nested temporary maps");
  for (u32 i = 0; i <= arch::kKmapDepth; ++i) (void)arch::fix_push(to_phys(page_to_pfn(*page)));
}

KTEST(death, kmap_out_of_order, .flags = TestFlag::Death) {
  const Result<Page*> page = alloc_page(AllocFlags::HighUser, Owner::Test);
  REQUIRE(page);
  void* first = arch::fix_push(to_phys(page_to_pfn(*page)));
  (void)arch::fix_push(to_phys(page_to_pfn(*page)));
  KTEST_EXPECT_PANIC("out of order");
  arch::fix_pop(first);
}

KTEST(death, frame_beyond_the_cpu, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("assertion failed");
  (void)arch::make_leaf(PhysAddr{u64{1} << arch::cpu_features().physical_bits}, arch::Protection::ReadOnly);
}

KTEST(death, divide, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("#DE divide error");
  asm volatile("xorl %%edx, %%edx; xorl %%ecx, %%ecx; divl %%ecx" ::: "eax", "ecx", "edx", "cc");
}

KTEST(death, invalid_opcode, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("#UD invalid opcode");
  asm volatile("ud2");
}

KTEST(death, assert, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("assertion failed: 1 + 1 == 3");
  ASSERT(1 + 1 == 3);
}

KTEST(death, watchdog, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("selftest death.watchdog takes too long");
  for (;;) arch::wait_for_irq();
}

#ifdef PAEAN_DEBUG
KTEST(death, lock_order, .flags = TestFlag::Death) {
  KTEST_EXPECT_PANIC("lock order");
  SpinLock inner{LockRank::LogRing}, outer{LockRank::Zone};
  inner.lock();
  outer.lock();
  outer.unlock();
  inner.unlock();
}
#endif

}  // namespace paean
