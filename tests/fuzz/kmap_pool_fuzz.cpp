// KmapPool and ParkedBlocks, on three pretended CPUs with TLBs of their own, against a model that keeps everything in
// plain tables: who uses which page, what every TLB may still hold, and which frames are free.
#include <array>
#include <memory>

#include "entry.hpp"
#include "mm/kmap_pool.hpp"
#include "mm/parked_blocks.hpp"

namespace paean::fuzz {

namespace {

constexpr u32 kCpus = 3, kMost = 40, kFrames = 96;

/// Each CPU's TLB keeps what it has seen of a slot until it flushes; whoever clears an entry drops it on his own CPU.
struct Machine {
  struct Place {
    u32 number = 0;
  };
  Place place(u32 number) { return {number}; }
  void map(const Place& place, u32 key) {
    CHECK(entries[place.number] == 0);
    for (u32 cpu = 0; cpu < kCpus; ++cpu) CHECK(tlb[cpu][place.number] == 0);  // nobody sees the page before
    entries[place.number] = key / 4;
    for (u32 cpu = 0; cpu < kCpus; ++cpu) tlb[cpu][place.number] = key / 4;
  }
  void unmap(const Place& place) {
    CHECK(entries[place.number] != 0);
    entries[place.number] = 0;
    tlb[running][place.number] = 0;
  }
  u32 new_generation() { return ++generation; }
  bool is_done(u32 stamp) const {
    for (const u32 have : flushed) {
      if (static_cast<i32>(have - stamp) < 0) return false;
    }
    return true;
  }
  void flush(u32 cpu) {
    flushed[cpu] = generation;
    for (u32 slot = 0; slot < kMost; ++slot) tlb[cpu][slot] = entries[slot];
  }
  /// By frame: does any TLB show it?
  std::array<bool, kFrames> seen() const {
    std::array<bool, kFrames> result{};
    for (u32 cpu = 0; cpu < kCpus; ++cpu) {
      for (u32 slot = 0; slot < kMost; ++slot) result[tlb[cpu][slot]] = true;
    }
    return result;
  }

  u32 entries[kMost]{};
  u32 tlb[kCpus][kMost]{};
  u32 generation = 0xfffffff0;  // so that it wraps
  u32 flushed[kCpus]{0xfffffff0, 0xfffffff0, 0xfffffff0};
  u32 running = 0;
};

using Pool = KmapPool<Machine>;
enum class Frame : u8 { Owned, Free, Parked };

class Run {
 public:
  explicit Run(Input& input) : input_(input), slots_(1 + input.below(kMost)) { pool_->init(slots_); }

  void step() {
    machine().running = input_.below(kCpus);
    const u32 frame = 1 + input_.below(kFrames - 1);
    switch (input_.below(10)) {
      case 0:
      case 1:
      case 2: map(frame); break;
      case 3:
      case 4:
      case 5: unmap(frame); break;
      case 6: machine().flush(machine().running); break;
      case 7: (void)pool_->recycle(1 + input_.below(slots_)); break;
      case 8: free_block(frame); break;
      default: settle();
    }
    compare();
  }

 private:
  Machine& machine() { return pool_->machine(); }

  Pool::Slot* take(u32 frame) {
    Pool::Share* home = pool_->share_of_cpu(machine().running);
    return pool_->take(Pool::kKeyStep * frame, home, [&] { return pool_->refill(home); });
  }
  void map(u32 frame) {
    if (frames_[frame] == Frame::Parked) return;
    frames_[frame] = Frame::Owned;
    Pool::Slot* slot = pool_->get(Pool::kKeyStep * frame);
    CHECK(users_[frame] == 0 || slot != nullptr);
    if (slot == nullptr) slot = take(frame);
    if (slot == nullptr) return;

    CHECK(users_[frame] == 0 || slot_of_[frame] == slot);
    slot_of_[frame] = slot;
    CHECK(slot->users() == ++users_[frame]);
    CHECK(machine().entries[slot->place.number] == frame);
    CHECK(machine().tlb[machine().running][slot->place.number] == frame);
  }
  void unmap(u32 frame) {
    if (users_[frame] == 0) return;
    const Pool::Put result = Pool::put(slot_of_[frame]);
    CHECK(result == (--users_[frame] == 0 ? Pool::Put::Unused : Pool::Put::StillUsed));
  }
  /// One to four frames from `first`, if nobody uses them.
  void free_block(u32 first) {
    const u32 pages = 1u << input_.below(3);
    if (first + pages > kFrames) return;
    for (u32 frame = first; frame < first + pages; ++frame) {
      if (frames_[frame] != Frame::Owned) return;
      if (users_[frame] == 0) continue;
      CHECK(pool_->forget(Pool::kKeyStep * frame) == Forget::InUse);
      return;
    }
    for (u32 frame = first; frame < first + pages; ++frame)
      CHECK(pool_->forget(Pool::kKeyStep * frame) != Forget::InUse);
    bool seen = false;
    for (u32 frame = first; frame < first + pages; ++frame) seen |= machine().seen()[frame];
    const bool parks = pool_->may_be_seen(Pool::kKeyStep * first, pages);
    CHECK(parks || !seen);
    if (parks) {
      CHECK(parked_.count() <= 2 * slots_);
      parked_.park(Pfn{first}, pool_->newest());
    }
    for (u32 frame = first; frame < first + pages; ++frame) frames_[frame] = parks ? Frame::Parked : Frame::Free;
    pages_[first] = pages;
  }
  void settle() {
    while (const auto block = parked_.take_settled([&](u32 stamp) { return machine().is_done(stamp); })) {
      const u32 first = block->head.raw();
      for (u32 frame = first; frame < first + pages_[first]; ++frame) {
        CHECK(frames_[frame] == Frame::Parked);
        CHECK(!machine().seen()[frame]);
        frames_[frame] = Frame::Free;
      }
    }
  }
  void compare() {
    u32 used = 0, cached = 0;
    for (u32 i = 0; i < slots_; ++i) {
      used += pool_->slot(i).users() != 0 ? 1 : 0;
      cached += pool_->slot(i).is_cached() ? 1 : 0;
    }
    u32 frames_used = 0;
    const auto seen = machine().seen();
    for (u32 frame = 1; frame < kFrames; ++frame) {
      frames_used += users_[frame] != 0 ? 1 : 0;
      if (frames_[frame] == Frame::Free) CHECK(!seen[frame]);
    }
    CHECK(used == frames_used);
    CHECK(used + cached + pool_->parked() == slots_);
    CHECK(pool_->waiting() <= pool_->parked());
  }

  Input& input_;
  u32 slots_;
  std::unique_ptr<Pool> pool_ = std::make_unique<Pool>();
  ParkedBlocks<kMost> parked_;
  std::array<u32, kFrames> users_{}, pages_{};
  std::array<Frame, kFrames> frames_{};
  std::array<Pool::Slot*, kFrames> slot_of_{};
};

}  // namespace

void fuzz_one(Input& input) {
  Run run{input};
  for (u32 i = 0; i < 400 && !input.empty(); ++i) run.step();
}

}  // namespace paean::fuzz
