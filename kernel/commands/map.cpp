// The picture of physical memory: each zone as rows of cells, each cell a letter for what fills it.
// Allocates nothing, takes each zone's lock only for moments, works from sysrq and after a panic.
#include "kernel/console/command.hpp"
#include "mm/boot_memory.hpp"
#include "mm/frame_walk.hpp"
#include "mm/lowmem.hpp"

namespace paean {

namespace {

constexpr u32 kColumns = 64;            // 64 cells and the margin fit 80 columns
constexpr u32 kUses = 4 + kOwnerCount;  // free, two kinds of holes, reserved, then owners
constexpr u32 kFree = 0, kHole = 1, kVmallocHole = 2, kReserved = 3, kFirstOwner = 4;

constexpr char kLetters[kUses] = {'.', ' ', '=', 'R', 'K', 'U', 'T', 'C', 'S', 'V', 'N', 'B', 'A', 'X', 'P', 'W'};
static_assert(kLetters[kUses - 1] != 0, "an owner without a letter");

u32 use_index(const FrameRun& run) {
  switch (run.use) {
    case FrameUse::Free: return kFree;
    case FrameUse::Hole: return run.first < direct_map.end && direct_map.in_hole(run.first) ? kVmallocHole : kHole;
    case FrameUse::Reserved: return kReserved;
    case FrameUse::Allocated: return kFirstOwner + std::to_underlying(run.owner);
  }
  return kHole;
}

/// Capital: most of the cell is used; small: some of it.
char cell_letter(const u32 (&pages)[kUses]) {
  u32 used = 0, largest = kReserved;
  for (u32 i = kReserved; i < kUses; ++i) {
    used += pages[i];
    if (pages[i] > pages[largest]) largest = i;
  }
  if (used == 0) return kLetters[pages[kFree] != 0 ? kFree : pages[kVmallocHole] != 0 ? kVmallocHole : kHole];
  const char letter = kLetters[largest];
  return used >= pages[kFree] ? letter : static_cast<char>(letter - 'A' + 'a');
}

/// Rows for a zone: a small one needs one, the largest gets sixteen.
u32 rows_for(PageCount spanned) {
  const u32 gib = spanned.mib() / 1024;
  return gib >= 16 ? 16 : gib >= 2 ? 4 : spanned.mib() >= 64 ? 2 : 1;
}

struct Picture {
  Zone& zone;
  Pfn at;          // next frame to look at
  FrameRun run{};  // rest of the run that was being drawn

  char draw_cell(Pfn cell_end) {
    u32 pages[kUses]{};
    while (at < cell_end) {
      if (run.count.count() == 0) run = frame_run_at(zone, at);
      const PageCount room = cell_end - at;
      const PageCount part = run.count < room ? run.count : room;
      pages[use_index(run)] += part.count();
      run.count -= part;
      run.first += part;
      at += part;
    }
    return cell_letter(pages);
  }
};

void draw_zone(Zone& z, Sink& out) {
  const u32 rows = rows_for(z.spanned()), cells = rows * kColumns;
  const u32 spanned = z.spanned().count();
  format_to(out, "{} {} MB, a cell is {} kB\n", name(z.id), z.spanned().mib(), PageCount{spanned / cells}.kib());
  Picture picture{z, z.start};
  for (u32 row = 0; row < rows; ++row) {
    format_to(out, "{:>11x} |", to_phys(picture.at));
    for (u32 column = 0; column < kColumns; ++column) {
      const u32 next = row * kColumns + column + 1;
      const u32 until = static_cast<u32>(u64{spanned} * next / cells);
      format_to(out, "{}", picture.draw_cell(z.start + PageCount{until}));
    }
    format_to(out, "|\n");
  }
}

CommandStatus show_map(Args& args, Sink& out) {
  if (!args.end()) return CommandStatus::Usage;
  for (const ZoneId id : kAllZones) {
    if (!zone(id).empty()) draw_zone(zone(id), out);
  }
  format_to(out, ". free, blank no memory, = no memory and its addresses are vmalloc's, R reserved\n");
  constexpr u32 kLine = 7;  // owners that fit a line
  for (u32 i = 0; i < kOwnerCount; ++i) {
    if (i == kLine) format_to(out, "\n");
    format_to(out, "{}{} {}", i % kLine == 0 ? "" : ", ", kLetters[kFirstOwner + i], name(static_cast<Owner>(i)));
  }
  format_to(out, "\nsmall letters: less than half of the cell\n");
  return CommandStatus::Ok;
}

}  // namespace

KCOMMAND(map, "", "a picture of physical memory by zone and use", show_map)

}  // namespace paean
