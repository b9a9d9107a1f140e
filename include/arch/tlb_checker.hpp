// Catches whoever maps an address anew, or frees a frame, while some CPU may still have the old translation.
// DEBUG builds only; in others every function here is empty.
//
//   entries cleared ---- generation made ---- all CPUs flushed ---- address mapped anew, frame freed
//                              |                    |                       |
//                        note_unmapped()     (tlb_wait_for_        check_reuse(), check_frames()
//                                             generation())         panic if they come too early
//
// A bounded table remembers the last few thousand pages, see tlb_stamps.hpp. Each call takes a lock of its own with
// interrupts off; any context, any other lock may be held. Addresses that belong to one CPU (fixmap slots) do not take
// part.
#pragma once

#include "lib/addr.hpp"

namespace paean::arch {

#ifdef PAEAN_DEBUG

/// Every CPU, this one included, must flush at or after `generation` before the pages are used again.
void note_unmapped(VirtAddr va, u32 pages, u32 generation);
/// This CPU has invalidated them, and no generation covers them yet: the others must flush at or after the next one.
/// The caller stays on this CPU meanwhile.
void note_unmapped_here(VirtAddr va, u32 pages);
/// Every CPU has invalidated them.
void note_shot_down(VirtAddr va, u32 pages);
/// Before entries are written: panics if some CPU may still have old translations for these addresses.
void check_reuse(VirtAddr va, u32 pages);

/// The same by frame. For owners whose stale translations could be used: stacks, say. A cached kmap of a page that is
/// freed is none, because nobody has its address any more.
void note_frame_unmapped(Pfn pfn, u32 generation);
/// Every CPU has invalidated the addresses that it was mapped at.
void note_frame_shot_down(Pfn pfn);
/// From free_page() and free_pages().
void check_frames(Pfn first, u32 pages);

#else

inline void note_unmapped(VirtAddr, u32, u32) {}
inline void note_unmapped_here(VirtAddr, u32) {}
inline void note_shot_down(VirtAddr, u32) {}
inline void check_reuse(VirtAddr, u32) {}
inline void note_frame_unmapped(Pfn, u32) {}
inline void note_frame_shot_down(Pfn) {}
inline void check_frames(Pfn, u32) {}

#endif

}  // namespace paean::arch
