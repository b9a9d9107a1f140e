// Mistakes with kmap: unmapping what is not mapped, always; and what only DEBUG=1 builds watch over: sleeping where
// it is forbidden, and sleeping for a map while holding one.
//
// The count of pool maps is kept in a word of the thread that mapped. A map that another thread undoes moves the count,
// which only makes the check weaker, never wrong for threads that undo their own.
#pragma once

#include "kernel/preempt.hpp"
#include "kernel/thread.hpp"
#include "lib/assert.hpp"
#include "lib/symbols.hpp"
#include "mm/page.hpp"

namespace paean {

/// Place in thread_map_words(); the words before it hold saved local maps.
inline constexpr u32 kMapWordsHeld = 36;

/// For kmap: panics with what the page is, which nobody holds.
void map_error(Page* page);
/// For kunmap: panics with the caller's name.
void unmap_error(const void* at, const char* what);
/// The same unless `at` is a direct address, which needs no unmapping.
void unmap_direct(const void* at);

#ifdef PAEAN_DEBUG
inline void check_may_sleep(const char* what) { might_sleep(what); }
inline void note_held(i32 change) {
  if (Thread* thread = current_thread()) { thread_map_words(thread)[kMapWordsHeld] += static_cast<u32>(change); }
}
inline void check_no_hold_and_wait(const void* caller) {
  Thread* thread = current_thread();
  if (thread == nullptr) return;
  const i32 held = static_cast<i32>(thread_map_words(thread)[kMapWordsHeld]);
  if (held <= 0) return;
  const Symbol at = find_symbol(VirtAddr{reinterpret_cast<u32>(caller)});
  panic("kmap: thread {} holds {} maps and sleeps for another one (called from {}+{:#x})", thread_name(thread), held,
        at.name, at.offset);
}
#else
inline void check_may_sleep(const char*) {}
inline void note_held(i32) {}
inline void check_no_hold_and_wait(const void*) {}
#endif

}  // namespace paean
