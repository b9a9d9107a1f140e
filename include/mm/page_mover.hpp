// Moves lent pages, in batches, so that many of them share their TLB flushes. Private to mm.
//
//   PageMover mover{Target::Highmem};
//   while (... mover.has_room()) mover.add(page);
//   mover.finish();                                  // also by its end; moved() counts afterwards
//
// A batch of pages that programs see in one place each:
//
//   add()      reference taken
//   finish()   entries read-only . flush . contents copied . entries changed . flush . old pages freed
//                     |
//                     a store copies the page from here on, and that move is off
//
// Pages that are seen in several places, and folios, move at once. Context and locks: mm/lending.hpp.
#pragma once

#include "mm/lent_frames.hpp"

namespace paean {

class PageMover {
 public:
  /// Where pages go. ElsewhereToo: highmem, or lowmem outside of the given frames.
  enum class Target : u8 { Highmem, ElsewhereToo };
  explicit PageMover(Target target, Pfn avoid = {}, PageCount avoided = {})
      : target_(target), avoid_(avoid), avoided_(avoided) {}
  ~PageMover() { finish(); }
  PageMover(const PageMover&) = delete;
  PageMover& operator=(const PageMover&) = delete;

  /// Of a frame with a record; the first page of a folio. Others are passed over.
  void add(Page* page);
  void finish();
  /// False once there was no page to move to.
  bool has_room() const { return has_room_; }
  /// Pages that have left their frames, those that finish() will move included.
  u32 moved() const { return moved_ + count_; }

 private:
  static constexpr u32 kMost = 32;  // on the stack, which may be deep already
  Page* take_target(Order order, Owner owner);
  void add_mapped(Page* from, PinnedPlace place);
  void move_shared(Page* from, u32 places);
  void move_folio(Folio& folio);
  void protect_all();
  void replace_all();
  template <typename Work>
  void for_each_space(Work work);
  void end_move(Page* from, Page* to);

  Target target_;
  Pfn avoid_;
  PageCount avoided_;
  bool has_room_ = true;
  u32 moved_ = 0;
  u32 count_ = 0;
  PageMove moves_[kMost];
  PinnedPlace places_[kMost];  // of the moves
};

/// Since boot, by all movers.
u32 pages_moved();
u32 pages_stayed();

}  // namespace paean
