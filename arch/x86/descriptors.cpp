// Segment descriptors of each CPU: flat code and data, one TSS for stack switches from user mode, one TSS that is the
// double-fault task, and FS for per-CPU variables.
#include "arch/cpu.hpp"
#include "arch/pdpt.hpp"
#include "arch/percpu.hpp"
#include "arch/traps.hpp"
#include "arch/traps_internal.hpp"
#include "arch/user.hpp"

namespace paean::arch {

extern "C" {
[[gnu::section(".percpu")]] constinit u32 percpu_delta = 0;
extern char double_fault_entry[], __percpu_start[], __percpu_end[], __percpu_boot[];
}
constinit u32 percpu_deltas[kMaxCpus] = {};
PER_CPU(u32, cpu_number){0u};

namespace {

constexpr u32 kDoubleFaultStackSize = 8192;

struct [[gnu::packed]] DescriptorPointer {
  u16 limit;
  u32 base;
};

struct CpuDescriptors {
  u64 gdt[kGdtEntries];
  TaskState main_task;
  TaskState double_fault_task;
};

static_assert(kFirstTlsEntry + kTlsSlots == kGdtEntries);

PER_CPU(CpuDescriptors, descriptors);
// Not per-CPU data: 8 KiB in the image template would be copied for every CPU. Only the boot CPU's is in the image.
[[gnu::section(".bss.page_aligned")]] alignas(kPageSize) constinit u8 boot_double_fault_stack[kDoubleFaultStackSize]{};

constexpr u32 kFlat32 = 0xc;   // 4 KiB granularity, 32 bits
constexpr u32 kByteUnits = 0;  // system descriptors count bytes

void fill_gdt(u64* gdt, u32 delta, const TaskState* main_task, const TaskState* double_fault_task) {
  gdt[0] = 0;
  gdt[kSelectorCode / 8] = make_descriptor(0, 0xfffff, 0x9b, kFlat32);
  gdt[kSelectorData / 8] = make_descriptor(0, 0xfffff, 0x93, kFlat32);
  gdt[kSelectorUserCode / 8] = make_descriptor(0, 0xfffff, 0xfb, kFlat32);
  gdt[kSelectorUserData / 8] = make_descriptor(0, 0xfffff, 0xf3, kFlat32);
  gdt[kSelectorTask / 8] = make_descriptor(reinterpret_cast<u32>(main_task), sizeof(TaskState) - 1, 0x89, kByteUnits);
  gdt[kSelectorPerCpu / 8] = make_descriptor(delta, 0xfffff, 0x93, kFlat32);
  gdt[kSelectorDoubleFault / 8] =
      make_descriptor(reinterpret_cast<u32>(double_fault_task), sizeof(TaskState) - 1, 0x89, kByteUnits);
}

}  // namespace

void init_boot_cpu_descriptors() {
  // The section stays as the compiler made it: the template of every CPU's copy, the boot CPU's included.
  __builtin_memcpy(__percpu_boot, __percpu_start, static_cast<usize>(__percpu_end - __percpu_start));
  init_descriptors(0, static_cast<u32>(__percpu_boot - __percpu_start),
                   boot_double_fault_stack + kDoubleFaultStackSize);
}

void init_descriptors(u32 cpu, u32 delta, void* fault_stack_top) {
  percpu_deltas[cpu] = delta;
  auto* mine = reinterpret_cast<CpuDescriptors*>(reinterpret_cast<u32>(&descriptors) + delta);
  mine->main_task = TaskState{};
  mine->main_task.ss0 = kSelectorData;
  mine->main_task.io_map = sizeof(TaskState);
  TaskState& task = mine->double_fault_task;
  task = TaskState{};
  task.cr3 = kernel_cr3();  // not what is loaded now: a CPU that starts has a table that goes away
  task.eip = reinterpret_cast<u32>(double_fault_entry);
  task.esp = reinterpret_cast<u32>(fault_stack_top);
  task.eflags = 2;
  task.cs = kSelectorCode;
  task.ss = task.ds = task.es = kSelectorData;
  task.fs = kSelectorPerCpu;
  task.io_map = sizeof(TaskState);
  fill_gdt(mine->gdt, delta, &mine->main_task, &mine->double_fault_task);

  const DescriptorPointer pointer{sizeof mine->gdt - 1, reinterpret_cast<u32>(mine->gdt)};
  asm volatile(
      "lgdt %0\n"
      "ljmp %1, $1f\n"
      "1: movl %2, %%ds; movl %2, %%es; movl %2, %%ss\n"
      "movl %3, %%fs\n"
      "movl %4, %%gs\n"
      "ltr %w5\n" ::"m"(pointer),
      "i"(kSelectorCode), "r"(u32{kSelectorData}), "r"(u32{kSelectorPerCpu}), "r"(0), "r"(u32{kSelectorTask})
      : "memory");
  *reinterpret_cast<u32*>(reinterpret_cast<u32>(&percpu_delta) + delta) = delta;
  cpu_number.local() = cpu;
}

void set_double_fault_stack(void* top) { descriptors.local().double_fault_task.esp = reinterpret_cast<u32>(top); }
VirtAddr double_fault_stack(u32 cpu) { return VirtAddr{descriptors.on(cpu).double_fault_task.esp}; }

void load_user_context(const UserContext& context, VirtAddr stack_top) {
  CpuDescriptors& mine = descriptors.local();
  mine.main_task.esp0 = stack_top.raw();
  for (u32 i = 0; i < kTlsSlots; ++i) mine.gdt[kFirstTlsEntry + i] = context.tls[i];
}

const TaskState& interrupted_task() { return descriptors.local().main_task; }

}  // namespace paean::arch
