// Lending: idle lowmem serves programs and the page cache until the kernel wants it back.
//
//   HighUser | Movable       highmem is full          the kernel wants lowmem, highmem has room again
//   request  ------------->  lowmem, but for   -----> contents copied to highmem, entries changed, TLBs flushed,
//                            lend_reserve             and only then the frame is free: no I/O, nothing is lost
//
// So no fixed share of lowmem lies idle for the kernel's sake, as Linux's 1/32 of highmem would on a big machine. The
// same moves make blocks: compaction empties the frames of one aligned block of lowmem.
//
// To move a page one must know who uses it. For each frame of lowmem there is a record, in highmem: the places where
// programs see the page, or the folio that it is in. The functions below keep the records; they cost everybody else
// one compare. References decide what may move: a page with more of them than there are known users stays.
//
//   program's page   the mover takes a reference and makes the entry read-only; from then on a store copies the page,
//                    as after fork, so the contents rest and nobody waits. Then flush, copy, new entry, flush, free.
//   page of a file   entries are dropped (the next touch brings them back); then the folio gets other pages, under the
//                    lock of its file, if nobody holds it and it is not being written
//
// Locks: a spinning one (LockRank::Lending) around the records. A mover goes from page to space: it pins the space
// under that lock, and takes the space's entries after letting it go.
// Context: the functions that keep records as said; those that move: threads that may sleep, no spin lock held. They
// start no I/O and wait for no lock that sleeps, so an allocation may call them whatever it holds.
// Source: reverse maps and compaction of Linux; that only lowmem pays for them is this kernel's.
#pragma once

#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

class Folio;
class UserSpace;

/// Page words below this distance from the first one are of frames with a record; 0: there are none, and nothing is
/// lent. In bytes, as direct_words.
extern u32 lent_words;
/// Is the page, one of a program or a file, in lowmem? Then its users are known here.
[[gnu::always_inline]] inline bool is_lent(const Page* page) { return word_distance(page) < lent_words; }

/// A place where a program sees a page.
struct LentMapping {
  UserSpace* space = nullptr;
  VirtAddr va{};
  LentMapping* next = nullptr;
};

/// Memory for what note_mapped() may have to remember, taken before the locks.
class LentSpares {
 public:
  LentSpares() = default;
  ~LentSpares();
  LentSpares(const LentSpares&) = delete;
  LentSpares& operator=(const LentSpares&) = delete;

  /// At least so many; OutOfMemory.
  [[nodiscard]] Result<> take(u32 count);
  /// Is there none? Then they are wanted until the next take().
  bool ask() { return wanted_ = first_ == nullptr; }
  bool are_wanted() const { return wanted_; }
  LentMapping& pop();

 private:
  LentMapping* first_ = nullptr;
  bool wanted_ = false;
};

/// A lent page has come into an entry of a space, has left it, or changed its place. The lock of the space's entries is
/// held; the reference of an entry is taken before it is noted, and dropped afterwards. A page that is mapped already
/// needs a spare (asserted). Cost: one step for each place where the page is seen.
void note_mapped(Page* page, UserSpace& space, VirtAddr va, LentSpares* spares = nullptr);
void note_unmapped(Page* page, UserSpace& space, VirtAddr va);
void note_moved(Page* page, UserSpace& space, VirtAddr from, VirtAddr to);
/// The block that begins with this page is the folio's; it is not any more. Any context.
void note_cached(Page* first, Folio& folio);
void note_uncached(Page* first);

/// Moves at most so many lent pages to highmem; pages moved. Fewer if highmem has no room, or if they are in use.
u32 recall_lent_pages(u32 pages);
/// Makes a free block of lowmem, orders 1 to 9, by moving what is lent of it: to highmem, or to other lowmem where that
/// is full. False if no block could be had so.
bool compact_lowmem(Order order);
/// For the frame allocator, before a request for lowmem fails: either of the two. True if it is worth another look.
/// Any context.
bool recall_lowmem(AllocFlags flags, Order order);

/// What the rules are, for tests: as they are; nothing comes back; or the fence of Linux, which lends nothing more.
enum class LendingRule : u8 { LendAndRecall, LendForGood, Fence };
extern LendingRule lending_rule;
inline bool may_lend() { return lent_words != 0 && lending_rule != LendingRule::Fence; }

struct LendingCounters {
  u32 moved, stayed;                 // pages; `stayed`: somebody used them
  u32 compacted, compaction_failed;  // blocks
};
LendingCounters lending_counters();
/// Pages of lowmem that programs, or files, have now.
PageCount lent_to_programs();
PageCount lent_to_files();
/// Lines of `vmstat`, with Linux's names.
void print_lending(Sink& out);

/// Makes the records. Boot, once, after vmalloc; without memory for them nothing is lent.
void init_lending();

}  // namespace paean
