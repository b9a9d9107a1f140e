// A file of an ext2 volume as a swap area: pages reach its blocks, and nobody else does.
#include "kernel/fs/swap_area.hpp"

#include "block.hpp"
#include "ext2_space.hpp"
#include "mm/swap.hpp"
#include "results.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

constexpr u32 kSlots = 16, kTogether = 12;

u8 page_of_file[kPageSize];  // too large for a stack
constexpr u8 kNothing[Ext2Space::kBlockBytes]{};

/// As mkswap writes it.
std::span<const u8> header() {
  constexpr u32 kVersion = 1, kLastPage = kSlots - 1;
  __builtin_memset(page_of_file, 0, sizeof page_of_file);
  __builtin_memcpy(&page_of_file[1024], &kVersion, sizeof kVersion);
  __builtin_memcpy(&page_of_file[1028], &kLastPage, sizeof kLastPage);
  __builtin_memcpy(&page_of_file[kPageSize - 10], "SWAPSPACE2", 10);
  return page_of_file;
}

/// In parts of a block, with another file's between them, so that its blocks lie in several pieces.
bool make_area(std::string_view path, std::string_view other) {
  const Result<OpenFile*> area = open_file(path, OpenMode::Write | OpenMode::Create);
  const Result<OpenFile*> between = open_file(other, OpenMode::Write | OpenMode::Create);
  if (!area || !between) return false;
  const std::span<const u8> first = header();
  constexpr u32 kPart = Ext2Space::kBlockBytes;
  bool well = true;
  for (u32 at = 0; at < kSlots * kPageSize; at += kPart) {
    const std::span<const u8> bytes = at < kPageSize ? first.subspan(at, kPart) : kNothing;
    well = well && write_file_at(**area, at, bytes) && sync_file(**area);
    if (at % (3 * kPart) == 0) well = well && write_file_at(**between, at, bytes) && sync_file(**between);
  }
  close_file(*area);
  close_file(*between);
  return well;
}

Result<> open_to_write(std::string_view path) {
  const Result<OpenFile*> file = open_file(path, OpenMode::Write);
  if (!file) return std::unexpected(file.error());
  close_file(*file);
  return {};
}

/// So many bytes of the file at `offset` that are not those of the pages.
u32 differences(std::string_view path, u64 offset, std::span<const Segment> pages) {
  const Result<OpenFile*> file = open_file(path, OpenMode::Read);
  if (!file) return ~0u;
  u32 wrong = 0;
  for (const Segment& page : pages) {
    if (!read_file_at(**file, offset, page_of_file)) ++wrong;
    const KmapLocal map{page.page};
    for (u32 i = 0; i < kPageSize; ++i) wrong += page_of_file[i] != map.bytes()[i];
    offset += kPageSize;
  }
  close_file(*file);
  return wrong;
}

}  // namespace

KTEST(swap, a_file_is_an_area) {
  Ext2Space space{500};
  TestPages<kTogether> pages, back;
  REQUIRE(space.ready() && make_area("/e/swap", "/e/between"));
  REQUIRE(pages.take(kTogether, AllocFlags::HighUser) && back.take(kTogether, AllocFlags::HighUser));
  const u32 others = swap_totals().total;
  REQUIRE(swap_on("/e/swap"));
  EXPECT_EQ(swap_totals().total - others, kSlots - 1);

  const SwapRun run = take_swap_slots(kTogether);
  REQUIRE(run.slots == kTogether);
  fill_pattern(pages.segments(), 7);
  Page* out[kTogether];
  Page* in[kTogether];
  for (u32 i = 0; i < kTogether; ++i) out[i] = pages[i].page, in[i] = back[i].page;
  EXPECT(write_swap_slots(run, out));
  EXPECT(read_swap_slots(run.entry(0), in));
  EXPECT_EQ(wrong_words(back.segments(), 7), 0u);

  EXPECT(fails_with(open_to_write("/e/swap"), Error::Busy));
  EXPECT(fails_with(remove_file("/e/swap"), Error::Busy));
  EXPECT(fails_with(rename_file("/e/swap", "/e/other"), Error::Busy));
  EXPECT(fails_with(rename_file("/e/between", "/e/swap"), Error::Busy));
  EXPECT(fails_with(unmount("/e"), Error::Busy));
  EXPECT(fails_with(swap_on("/e/swap"), Error::Busy));
  EXPECT(fails_with(swap_off("/e/between"), Error::InvalidArgument));

  for (u32 i = 0; i < kTogether; ++i) release_swap_slot(run.entry(i));
  REQUIRE(swap_off("/e/swap"));
  EXPECT_EQ(swap_totals().total, others);
  EXPECT(open_to_write("/e/swap"));
  EXPECT_EQ(differences("/e/swap", u64{run.first} * kPageSize, pages.segments()), 0);
}

KTEST(swap, not_every_file_is_an_area) {
  Ext2Space space{500};
  const TmpfsSpace memory;
  REQUIRE(space.ready() && memory.ready() && make_area("/e/swap", "/e/between"));
  REQUIRE(make_directory("/e/folder"));
  EXPECT(fails_with(swap_on("/e/none"), Error::NotFound));
  EXPECT(fails_with(swap_on("/e/folder"), Error::InvalidArgument));
  EXPECT(fails_with(swap_on("/e/between"), Error::InvalidArgument));  // it has holes
  REQUIRE(write_text("/t/file", "contents"));
  EXPECT(fails_with(swap_on("/t/file"), Error::NotSupported));
  const Result<OpenFile*> file = open_file("/e/swap", OpenMode::Write);
  REQUIRE(file.has_value());
  EXPECT(fails_with(swap_on("/e/swap"), Error::Busy));
  constexpr u8 kNone[10]{};
  EXPECT(write_file_at(**file, kPageSize - sizeof kNone, kNone).has_value());  // no longer says SWAPSPACE2
  close_file(*file);
  EXPECT(fails_with(swap_on("/e/swap"), Error::InvalidArgument));
  EXPECT(fails_with(swap_off("/e/swap"), Error::InvalidArgument));
  // Who was refused has left nothing behind.
  for (const char* path : {"/e/swap", "/e/between", "/t/file"}) EXPECT(open_to_write(path) && remove_file(path));
}

}  // namespace paean
