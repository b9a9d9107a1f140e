// Memory is memory: a tag of its own in every frame that an address error of a power of two would confuse with another.
#include "access.hpp"
#include "mm/boot_memory.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

/// Frames next to every power of two, and next to the ends of every usable range, that could be had.
class TaggedFrames {
 public:
  ~TaggedFrames() {
    for (u32 i = 0; i < count_; ++i) free_page(pages_[i]);
  }
  void take(u64 frame) {
    if (frame >= number(frame_limit()) || count_ == kCapacity) return;
    const Result<Page*> page = alloc_page_at(Pfn{static_cast<u32>(frame)}, Owner::Test);
    if (page)
      pages_[count_++] = *page;
    else if (page.error() == Error::Busy)
      ++busy_;
  }
  /// Eight words over the page, each made of the frame's number, so that a cut address shows.
  void write() const {
    for (u32 i = 0; i < count_; ++i) {
      const KmapAtomic map{pages_[i]};
      for (u32 word = 0; word < kPageSize / 4; word += 128) map.as<u32>()[word] = tag(i, word);
    }
  }
  u32 wrong_words(TestContext& test) const {
    u32 wrong = 0;
    for (u32 i = 0; i < count_; ++i) {
      const KmapAtomic map{pages_[i]};
      for (u32 word = 0; word < kPageSize / 4; word += 128) {
        const u32 found = map.as<volatile u32>()[word];
        if (found == tag(i, word)) continue;
        if (wrong++ < 4)
          test.note("frame {:#x} holds the tag of frame {:#x}", page_to_pfn(pages_[i]), found ^ kMix ^ word);
      }
    }
    return wrong;
  }
  u32 count() const { return count_; }
  u32 busy() const { return busy_; }

 private:
  static constexpr u32 kCapacity = 512;
  static constexpr u32 kMix = 0xa5000000;
  u32 tag(u32 i, u32 word) const { return number(page_to_pfn(pages_[i])) ^ kMix ^ word; }

  Page* pages_[kCapacity]{};
  u32 count_ = 0;
  u32 busy_ = 0;
};

}  // namespace

KTEST(memory, every_power_of_two_has_its_own_memory) {
  TaggedFrames frames;
  for (u64 frame = 1; frame <= number(frame_limit()); frame <<= 1) {
    frames.take(frame - 1);
    frames.take(frame);
    frames.take(frame + 1);
  }
  for (u64 gib = 1; gib <= 256; ++gib) frames.take((gib << 18) + 12345);  // one frame in each GiB
  frames.write();
  test.note("{} frames written, {} in use", frames.count(), frames.busy());
  EXPECT_EQ(frames.wrong_words(test), 0);
  EXPECT(frames.count() > 8);
}

KTEST(memory, both_ends_of_every_range_have_their_own_memory) {
  TaggedFrames frames;
  for (const auto& entry : memory_map().ranges()) {
    if (entry.tag != MemoryKind::Usable) continue;
    frames.take(number(to_pfn(entry.begin)));
    frames.take(u64{number(to_pfn(entry.end))} - 1);
  }
  for (const ZoneId id : kAllZones) {
    if (zone(id).empty()) continue;
    frames.take(number(zone(id).start));
    frames.take(number(zone(id).end) - 1);
  }
  frames.write();
  test.note("{} frames written, {} in use", frames.count(), frames.busy());
  EXPECT_EQ(frames.wrong_words(test), 0);
  EXPECT(frames.count() != 0);
}

KTEST(memory, the_top_frame_is_really_there) {
  // Boot takes page words from the top, so the highest free frame lies a little below the last one.
  Result<Page*> page = std::unexpected(Error::NotFound);
  for (u32 frame = number(to_pfn(memory_map().last_usable_end())); !page && frame-- != 0;) {
    page = alloc_page_at(Pfn{frame}, Owner::Test);
  }
  REQUIRE(page);
  test.note("highest free frame {:#x} of {:#x}", page_to_pfn(*page), frame_limit());
  {
    const KmapAtomic map{*page};
    for (u32 i = 0; i < kPageSize / 4; ++i) map.as<volatile u32>()[i] = i * 2654435761u;
  }
  {
    const KmapAtomic map{*page};
    u32 wrong = 0;
    for (u32 i = 0; i < kPageSize / 4; ++i) wrong += map.as<volatile u32>()[i] == i * 2654435761u ? 0 : 1;
    EXPECT_EQ(wrong, 0);
  }
  free_page(*page);
}

}  // namespace paean
