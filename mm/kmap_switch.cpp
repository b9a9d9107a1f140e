// Local maps of threads that are switched away, and the address space of the one that comes.
#include "kernel/thread.hpp"
#include "mm/highmem.hpp"
#include "mm/kmap_debug.hpp"
#include "mm/user_space.hpp"

namespace paean {

namespace {

static_assert(arch::kFixSaveWords <= kMapWordsHeld && kMapWordsHeld < kThreadMapWords);

/// The scheduler calls with interrupts off. Word 0 is the depth, so threads without maps cost two tests.
void switch_maps(Thread* from, Thread* to) {
  const arch::IrqsOffGuard off;
  if (arch::fix_depth() != 0) arch::fix_save(thread_map_words(from), off.token());
  u32* words = thread_map_words(to);
  if (words[0] != 0) arch::fix_restore(words, off.token());
  switch_user_space(to, off.token());
}

}  // namespace

void init_local_maps() { set_switch_hook(switch_maps); }

bool holds_local_maps(Thread* thread) { return thread_map_words(thread)[0] != 0; }

}  // namespace paean
