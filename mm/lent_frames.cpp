// Who uses each lent frame.
#include "mm/lent_frames.hpp"

#include "lib/log.hpp"
#include "mm/ledger.hpp"
#include "mm/slab.hpp"
#include "mm/user_gather.hpp"
#include "mm/vmalloc.hpp"

namespace paean {

constinit u32 lent_words = 0;
constinit LendingRule lending_rule = LendingRule::LendAndRecall;

namespace {

struct LentFrame {
  LentMapping first{};     // `next`: more of them, after fork or of a file
  Folio* folio = nullptr;  // of a folio's first page
};
static_assert(sizeof(LentFrame) == 16, "4 MiB of highmem for 1 GiB of lowmem");

constinit SpinLock lent_lock{LockRank::Lending};
constinit LentFrame* frames GUARDED_BY(lent_lock) = nullptr;
constinit ObjectCache mappings;

LentFrame& frame_of(const Page* page) REQUIRES(lent_lock) { return frames[(page_to_pfn(page) - Pfn{0}).count()]; }

bool is(const LentMapping& mapping, const UserSpace& space, VirtAddr va) {
  return mapping.space == &space && mapping.va == va;
}

u32 places_of(const LentFrame& frame) {
  u32 places = 0;
  for (const LentMapping* at = &frame.first; at != nullptr && at->space != nullptr; at = at->next) ++places;
  return places;
}

LentMapping& mapping_of(LentFrame& frame, const UserSpace& space, VirtAddr va) {
  LentMapping* at = &frame.first;
  while (at != nullptr && !is(*at, space, va)) at = at->next;
  ASSERT(at != nullptr);  // each entry with a lent page has been noted
  return *at;
}

/// Out of the list; what is left over of memory.
LentMapping* forget(LentFrame& frame, const UserSpace& space, VirtAddr va) {
  if (is(frame.first, space, va)) {
    LentMapping* second = frame.first.next;
    frame.first = second != nullptr ? *second : LentMapping{};
    return second;
  }
  LentMapping* before = &frame.first;
  while (before->next != nullptr && !is(*before->next, space, va)) before = before->next;
  LentMapping* found = before->next;
  ASSERT(found != nullptr);
  before->next = found->next;
  return found;
}

PageCount lent_pages(Owner owner) { return ledger_pages(ZoneId::Dma, owner) + ledger_pages(ZoneId::Normal, owner); }

}  // namespace

LentSpares::~LentSpares() {
  while (first_ != nullptr) give_object(mappings, &pop());
}

Result<> LentSpares::take(u32 count) {
  wanted_ = false;
  for (; count != 0; --count) {
    auto* mapping = new (TRY(take_object(mappings, AllocFlags::Kernel))) LentMapping;
    mapping->next = first_;
    first_ = mapping;
  }
  return {};
}

LentMapping& LentSpares::pop() {
  ASSERT(first_ != nullptr);
  LentMapping& mapping = *first_;
  first_ = mapping.next;
  return mapping;
}

void note_mapped(Page* page, UserSpace& space, VirtAddr va, LentSpares* spares) {
  const SpinGuard<IrqSave> guard{lent_lock};
  LentFrame& frame = frame_of(page);
  if (frame.first.space == nullptr) {
    frame.first = LentMapping{&space, va, nullptr};
    return;
  }
  ASSERT(spares != nullptr);
  LentMapping& more = spares->pop();
  more = LentMapping{&space, va, frame.first.next};
  frame.first.next = &more;
}

void note_unmapped(Page* page, UserSpace& space, VirtAddr va) {
  LentMapping* left;
  {
    const SpinGuard<IrqSave> guard{lent_lock};
    left = forget(frame_of(page), space, va);
  }
  if (left != nullptr) give_object(mappings, left);
}

void note_moved(Page* page, UserSpace& space, VirtAddr from, VirtAddr to) {
  const SpinGuard<IrqSave> guard{lent_lock};
  mapping_of(frame_of(page), space, from).va = to;
}

void note_cached(Page* first, Folio& folio) {
  const SpinGuard<IrqSave> guard{lent_lock};
  frame_of(first).folio = &folio;
}

void note_uncached(Page* first) {
  const SpinGuard<IrqSave> guard{lent_lock};
  frame_of(first).folio = nullptr;
}

LentFrames::Use LentFrames::begin_move(Page* page) {
  const SpinGuard<IrqSave> guard{lent_lock};
  LentFrame& frame = frame_of(page);
  Use use;
  if (frame.folio != nullptr) {
    use.folio = FolioOps::try_reference(*frame.folio);
    use.kind = use.folio ? Use::Kind::Cached : Use::Kind::Busy;
    return use;
  }
  if (frame.first.space == nullptr || !is_anonymous(page)) return use;
  use.places = places_of(frame);
  // An entry's reference outlives its record, so these numbers agree only if the records are the whole truth. While
  // there is one user more than entries, no store goes to this page: mm/user_fault.cpp copies it then.
  use.kind = page->references() == use.places ? Use::Kind::Mapped : Use::Kind::Busy;
  if (use.kind == Use::Kind::Busy) return use;
  page->get();
  use.place = PinnedPlace{*frame.first.space, frame.first.va};
  return use;
}

PinnedPlace LentFrames::place(Page* page, u32 n) {
  const SpinGuard<IrqSave> guard{lent_lock};
  const LentMapping* at = &frame_of(page).first;
  while (n-- != 0 && at != nullptr) at = at->next;
  if (at == nullptr || at->space == nullptr) return {};
  return PinnedPlace{*at->space, at->va};
}

bool LentFrames::is_used(Pfn pfn) NO_THREAD_SAFETY_ANALYSIS {
  const LentFrame& frame = frames[(pfn - Pfn{0}).count()];
  return frame.first.space != nullptr || frame.folio != nullptr;
}

Pfn LentFrames::end() { return Pfn{0} + PageCount{lent_words / u32{sizeof(Page)}}; }

PageCount lent_to_programs() { return lent_pages(Owner::User); }
PageCount lent_to_files() { return lent_pages(Owner::PageCache); }

void init_lending() NO_THREAD_SAFETY_ANALYSIS {
  const u32 count = (direct_map.end - Pfn{0}).count();
  const Result<void*> memory = vzalloc(count * sizeof(LentFrame), AllocFlags::HighUser, "lent frames");
  ASSERT(mappings.init({.name = "lent_mapping", .size = sizeof(LentMapping)}).has_value());
  if (!memory) {
    log_warning("no memory for the records of lent frames: lowmem is not lent");
    return;
  }
  frames = static_cast<LentFrame*>(*memory);
  lent_words = count * u32{sizeof(Page)};
}

}  // namespace paean
