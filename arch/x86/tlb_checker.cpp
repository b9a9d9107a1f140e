#include "arch/tlb_checker.hpp"

#include "arch/lock.hpp"
#include "arch/tlb.hpp"
#include "arch/tlb_stamps.hpp"
#include "lib/assert.hpp"

#ifdef PAEAN_DEBUG

namespace paean::arch {

namespace {

constexpr u32 kPlaces = 8192;  // 32 MiB of addresses in one piece

constinit TlbStamps::Stamp page_places[kPlaces]{}, frame_places[kPlaces]{};
constinit TlbStamps pages_seen{page_places}, frames_seen{frame_places};
constinit LeafLock stamps_lock{LockRank::TlbStamps};

u32 key_of(VirtAddr va) { return (va - VirtAddr{0}) >> kPageShift; }
u32 key_of(Pfn pfn) { return pfn.raw(); }

void put(TlbStamps& stamps, u32 first, u32 count, u32 generation, u8 cpu) {
  const LeafGuard guard{stamps_lock};
  const auto cpus = static_cast<u8>(online_cpus());
  for (u32 i = 0; i < count; ++i) stamps.put({first + i, generation, cpu, cpus});
}

/// A CPU that may still use what the stamp is about; kNoCpu if none may.
u32 stale_cpu(const TlbStamps::Stamp& stamp) {
  const u32 newest = tlb_newest_generation();
  for (u32 cpu = 0; cpu < online_cpus(); ++cpu) {
    // Looked at before what it has flushed, because one that wakes up says so after its flush.
    const bool idle = __atomic_load_n(&cpu_is_idle.on(cpu), __ATOMIC_ACQUIRE) != 0;
    const CpuState state = idle ? CpuState::Idle : CpuState::Running;
    if (may_be_stale(stamp, cpu, tlb_cpu_generation(cpu), state, newest)) return cpu;
  }
  return TlbStamps::kNoCpu;
}

struct Finding {
  TlbStamps::Stamp stamp;
  u32 cpu = TlbStamps::kNoCpu;
};

/// The first key that some CPU may be stale for. What nobody is stale for is forgotten.
Finding find_stale(TlbStamps& stamps, u32 first, u32 count) {
  const LeafGuard guard{stamps_lock};
  for (u32 i = 0; i < count; ++i) {
    const TlbStamps::Stamp* stamp = stamps.find(first + i);
    if (stamp == nullptr) continue;
    if (const u32 cpu = stale_cpu(*stamp); cpu != TlbStamps::kNoCpu) return {*stamp, cpu};
    stamps.forget(first + i);
  }
  return {};
}

}  // namespace

void note_unmapped(VirtAddr va, u32 pages, u32 generation) {
  put(pages_seen, key_of(va), pages, generation, TlbStamps::kNoCpu);
}

void note_unmapped_here(VirtAddr va, u32 pages) {
  put(pages_seen, key_of(va), pages, tlb_newest_generation() + 1, static_cast<u8>(this_cpu()));
}

void note_shot_down(VirtAddr va, u32 pages) {
  const LeafGuard guard{stamps_lock};
  for (u32 i = 0; i < pages; ++i) pages_seen.forget(key_of(va) + i);
}

void check_reuse(VirtAddr va, u32 pages) {
  const Finding found = find_stale(pages_seen, key_of(va), pages);
  if (found.cpu == TlbStamps::kNoCpu) return;
  panic("{:08x} is mapped anew, and CPU {} may have its old translation (unmapped at {}, flushed at {})",
        va + (found.stamp.key - key_of(va)) * kPageSize, found.cpu, found.stamp.generation,
        tlb_cpu_generation(found.cpu));
}

void note_frame_unmapped(Pfn pfn, u32 generation) { put(frames_seen, key_of(pfn), 1, generation, TlbStamps::kNoCpu); }

void note_frame_shot_down(Pfn pfn) {
  const LeafGuard guard{stamps_lock};
  frames_seen.forget(key_of(pfn));
}

void check_frames(Pfn first, u32 pages) {
  const Finding found = find_stale(frames_seen, key_of(first), pages);
  if (found.cpu == TlbStamps::kNoCpu) return;
  panic("frame {:#x} is freed, and CPU {} may still reach it (unmapped at {}, flushed at {})", found.stamp.key,
        found.cpu, found.stamp.generation, tlb_cpu_generation(found.cpu));
}

}  // namespace paean::arch

#endif
