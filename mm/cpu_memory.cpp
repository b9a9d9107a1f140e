#include "mm/cpu_memory.hpp"

#include "arch/traps.hpp"
#include "mm/page_alloc.hpp"
#include "mm/stack_pool.hpp"

namespace paean {

namespace {

Order order_for(u32 bytes) {
  u32 order = 0;
  while ((kPageSize << order) < bytes) ++order;
  return Order{order};
}

void* pointer_to(VirtAddr at) { return reinterpret_cast<void*>(at.raw()); }

struct TwoStacks {
  VirtAddr first, fault;
};
Result<TwoStacks> take_stacks() {
  const VirtAddr first = TRY(take_cpu_stack());
  const Result<VirtAddr> fault = take_cpu_stack();
  if (fault) return TwoStacks{first, *fault};
  give_back_cpu_stack(first);
  return std::unexpected(fault.error());
}

}  // namespace

Result<arch::CpuMemory> allocate_cpu_memory() {
  const Order order = order_for(arch::percpu_size());
  const VirtAddr percpu = TRY(__get_free_pages(AllocFlags::Kernel, order, Owner::PerCpu));
  const Result<TwoStacks> stacks = take_stacks();
  if (stacks) return arch::CpuMemory{pointer_to(percpu), pointer_to(stacks->first), pointer_to(stacks->fault)};
  free_pages_at(percpu, order);
  return std::unexpected(stacks.error());
}

void guard_double_fault_stack() {
  if (const Result<VirtAddr> stack = take_cpu_stack()) arch::set_double_fault_stack(pointer_to(*stack));
}

Result<Page*> allocate_startup_page() {
  constexpr Pfn kFirst{0x10}, kEnd{0xa0};
  for (Pfn pfn = kFirst; pfn < kEnd; ++pfn) {
    if (const Result<Page*> page = alloc_page_at(pfn, Owner::PerCpu)) return page;
  }
  return std::unexpected(Error::NotFound);
}

}  // namespace paean
