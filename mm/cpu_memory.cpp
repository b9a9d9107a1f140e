#include "mm/cpu_memory.hpp"

#include "mm/page_alloc.hpp"

namespace paean {

namespace {

constexpr Order kStackOrder{1};

Order order_for(u32 bytes) {
  u32 order = 0;
  while ((kPageSize << order) < bytes) ++order;
  return Order{order};
}

Result<void*> allocate(Order order) {
  const VirtAddr at = TRY(__get_free_pages(AllocFlags::Kernel, order, Owner::PerCpu));
  return reinterpret_cast<void*>(at.raw());
}

void* top_of(void* stack) { return static_cast<u8*>(stack) + PageCount{kStackOrder}.bytes(); }

}  // namespace

Result<arch::CpuMemory> allocate_cpu_memory() {
  void* percpu = TRY(allocate(order_for(arch::percpu_size())));
  void* stack = TRY(allocate(kStackOrder));
  void* fault_stack = TRY(allocate(kStackOrder));
  return arch::CpuMemory{percpu, top_of(stack), top_of(fault_stack)};
}

Result<Page*> allocate_startup_page() {
  constexpr Pfn kFirst{0x10}, kEnd{0xa0};
  for (Pfn pfn = kFirst; pfn < kEnd; ++pfn) {
    if (const Result<Page*> page = alloc_page_at(pfn, Owner::PerCpu)) return page;
  }
  return std::unexpected(Error::NotFound);
}

}  // namespace paean
