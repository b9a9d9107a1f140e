// vmalloc: memory that is contiguous to the kernel and nowhere else; and other things at addresses of their own.
//
//   Result<void*> table = vmalloc(200 * kKiB);         // pages of highmem first, one by one
//   vfree(*table);
//
//   Result<void*> seen = vmap(pages, arch::Protection::ReadOnly);          // pages that somebody else owns
//   Result<void*> card = ioremap(PhysAddr{0xfebd0000}, 0x1000);            // registers
//
// An area ends with a guard page that is never mapped; so does whatever lies in front of it. The life of one:
//
//            pages taken, entries written and shown           vfree: present bits taken away
//   +------+ ------------------------------------>  +------+ ------------------------------->  +--------+
//   | free |                                        | live |                                   | parked |
//   +------+ <------------------------------------  +------+                                   +--------+
//      ^  ^            (small: no lock shared)          ^                                           |
//      |  +---------------------- large ----------------|--------------  purge: every CPU has       |
//      |                                            +--------+           flushed since, then the    |
//      +--- vmalloc_purge(), or too many of them -- | cached | <-------- frames are given back -----+
//                                                   +--------+  small
//
// Lazy purge: vfree only takes the present bits away; the frames stay written in the entries. When a CPU has parked 64
// pages it stamps them with a new TLB generation and flushes itself; they are purged once every CPU has flushed at or
// after the stamp. CPUs flush themselves when they pass here, idle ones when they wake; only when a CPU has more than
// its share parked (all together 1/4 of the space or 1/32 of the memory) are those that are behind interrupted, and
// waited for where one may wait. Who needs frames or addresses at once purges all with one flush: of the range that the
// parked areas lie in, if that is small, otherwise of everything. So no frame is free and no address is used again
// while any CPU may still reach it, and most frees send nothing.
// Areas of 1 to 4 pages keep their addresses with the CPU that purged them, so that taking one touches nothing shared.
//
// Entries: whoever frees an address finds its area by the entry of the page in front of it, a guard page: not present,
// so its upper half is ours to keep the area's descriptor in. Every table of the space exists since boot, so a new area
// is seen by all CPUs at once, whatever address space they are in (arch/layout.hpp).
//
// Context: vmalloc and vfree anywhere, interrupts included. Where it may wait (a thread with interrupts on), an
// allocation that finds no memory or no addresses purges and tries once more; elsewhere it fails. vmap and ioremap like
// vmalloc; vunmap, iounmap and vmalloc_purge wait for other CPUs: threads only.
// Errors: InvalidArgument for no bytes, TooLarge for more than the largest range, OutOfMemory. Freeing what is not the
// start of a live area of that kind, and mapping a page that is free, panics with the caller's name.
// Source: vmalloc of Linux; lazy purge since 2.6.28, which frees the frames before the flush; here after it.
#pragma once

#include <optional>
#include <span>

#include "arch/pte.hpp"
#include "lib/result.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

/// Boot, once, after the stack pool has taken its window.
void init_vmalloc();

struct VmallocRequest {
  u32 bytes = 0;
  u32 align = kPageSize;  // of the address: a power of two, 4 KiB to 4 MiB
  AllocFlags flags = AllocFlags::HighUser;
  arch::Protection protection = arch::Protection::ReadWrite;
  const char* owner = nullptr;  // for vmallocinfo, a literal; nullptr: the caller's name
};
[[nodiscard]] Result<void*> vmalloc_as(const VmallocRequest& request);

[[nodiscard]] Result<void*> vmalloc(u32 bytes, AllocFlags flags = AllocFlags::HighUser, const char* owner = nullptr);
/// Filled with zeros.
[[nodiscard]] Result<void*> vzalloc(u32 bytes, AllocFlags flags = AllocFlags::HighUser, const char* owner = nullptr);
/// Does nothing for nullptr.
void vfree(const void* at);

/// Shows allocated pages side by side. They must not be freed before vunmap(), after which no CPU reaches them so.
[[nodiscard]] Result<void*> vmap(std::span<Page* const> pages, arch::Protection protection,
                                 const char* owner = nullptr);
void vunmap(const void* at);

/// Registers, or memory that is no RAM of ours, whole pages of it; the address is that of the byte asked for.
/// InvalidArgument also for RAM in use or free, and beyond the CPU's physical address width.
[[nodiscard]] Result<void*> ioremap(PhysAddr start, u32 bytes, arch::Caching caching = arch::Caching::Uncached,
                                    const char* owner = nullptr);
/// Any byte of the first page.
void iounmap(const void* at);

/// Gives back everything that is parked or cached. May wait for other CPUs.
void vmalloc_purge();

/// The page tables of the space by 2 MiB of address; nullptr where there is none.
extern arch::PageTable* vmalloc_tables[2048];

/// Is it in the vmalloc space (stacks of threads included)? Four instructions.
inline bool is_vmalloc_addr(const void* at) {
  return vmalloc_tables[reinterpret_cast<u32>(at) >> kLargePageShift] != nullptr;
}
/// The page that is mapped at an address; nullptr if none is, or if it has no page word. Takes no lock.
Page* vmalloc_to_page(const void* at);
/// Bytes of the live area that begins here, in whole pages, without its guard.
u32 vmalloc_size(const void* at);

enum class VmKind : u8 { Vmalloc, Vmap, Ioremap, Stacks, Compound };
enum class VmState : u8 { Free, Cached, Live, Parked };

/// One area as it was a moment ago.
struct VmAreaInfo {
  VirtAddr start{}, end{};  // with its guard
  VmKind kind{};
  VmState state{};
  u32 pages = 0;     // mapped
  PhysAddr first{};  // where the first of them is
  const char* name = nullptr;
  VirtAddr caller{};  // if there is no name
};
/// The first area, free ones left out, that ends above `from`.
std::optional<VmAreaInfo> vmalloc_area_from(VirtAddr from);

struct VmallocStatistics {
  u32 total_pages;  // of address space
  u32 free_pages;   // in no area, not even a cached one
  u32 largest_free_pages;
  u32 live, cached, parked;  // areas
  u32 parked_pages;
  u32 parked_limit;  // of one CPU, from which on it waits for others
  u32 batches;       // stamped
  u32 waits;         // somebody had to wait for other CPUs
  u32 purges;        // vmalloc_purge()
};
VmallocStatistics vmalloc_statistics();

}  // namespace paean
