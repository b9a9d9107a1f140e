// MemoryMap against a model of cells.
//
// The model's world is three windows of 16 pages (the first megabyte's beginning, around 4 GiB, the top of the 64-bit
// world), each page in 8 cells of 512 bytes, and one cell for each stretch between them. All addresses that the fuzzer
// makes are cell boundaries, so the model is exact although it covers 2^64 bytes.
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "entry.hpp"
#include "mm/memory_map.hpp"

namespace paean::fuzz {

namespace {

constexpr u32 kWindowPages = 16;
constexpr u32 kCellsPerPage = 8;
constexpr u64 kCellBytes = kPageSize / kCellsPerPage;
constexpr u64 kWindowBytes = u64{kWindowPages} * kPageSize;
constexpr std::array<u64, 3> kWindows{0, 4 * kGiB - kWindowBytes / 2, ~u64{0xfff} - kWindowBytes};

using Kind = std::optional<MemoryKind>;

/// One page of a window with its cells, or a whole stretch as one cell.
struct ModelPage {
  u64 begin;
  u64 end;
  u64 cell_bytes;
  std::vector<Kind> cells;
  Kind kind;  // after sealing
};

class Model {
 public:
  Model() {
    u64 at = 0;
    for (const u64 window : kWindows) {
      if (window > at) pages_.push_back({at, window, window - at, std::vector<Kind>(1), {}});
      for (u32 page = 0; page < kWindowPages; ++page) {
        const u64 begin = window + u64{page} * kPageSize;
        pages_.push_back({begin, begin + kPageSize, kCellBytes, std::vector<Kind>(kCellsPerPage), {}});
      }
      at = window + kWindowBytes;
    }
  }

  std::vector<ModelPage>& pages() { return pages_; }
  u64 partial() const { return partial_; }

  void add_firmware_entry(const E820Entry& entry) {
    const MemoryKind kind = kind_from_e820(entry.type);
    for (ModelPage& page : pages_) {
      for (usize i = 0; i < page.cells.size(); ++i) {
        const u64 cell = page.begin + i * page.cell_bytes;
        if (cell < entry.base || cell - entry.base >= entry.length) continue;
        if (!page.cells[i] || *page.cells[i] < kind) page.cells[i] = kind;
      }
    }
  }

  void seal() {
    for (ModelPage& page : pages_) {
      bool all_usable = true;
      Kind worst;
      u64 usable = 0;
      for (const Kind& cell : page.cells) {
        if (cell == MemoryKind::Usable)
          usable += page.cell_bytes;
        else
          all_usable = false;
        if (cell && *cell != MemoryKind::Usable && (!worst || *worst < *cell)) worst = cell;
      }
      page.kind = all_usable ? Kind{MemoryKind::Usable} : worst;
      if (!all_usable) partial_ += usable;
    }
    protect_page_zero();
  }

  u64 clip(u64 limit) {
    u64 gone = 0;
    for (ModelPage& page : pages_) {
      if (page.kind != MemoryKind::Usable || page.end <= limit) continue;
      gone += page.end - page.begin;
      page.kind.reset();
    }
    return gone;
  }

  enum class Win : u8 { Worse, New };
  void change(u64 base, u64 length, MemoryKind kind, Win win) {
    for (ModelPage& page : pages_) {
      usize covered = 0;
      for (usize i = 0; i < page.cells.size(); ++i) {
        const u64 cell = page.begin + i * page.cell_bytes;
        covered += cell >= base && cell - base < length ? 1 : 0;
      }
      const bool hit = kind == MemoryKind::Usable ? covered == page.cells.size() : covered > 0;
      if (hit && (win == Win::New || !page.kind || *page.kind < kind)) page.kind = kind;
    }
    protect_page_zero();
  }

  void forget() {
    for (ModelPage& page : pages_) page.kind.reset();
  }

 private:
  void protect_page_zero() {
    if (pages_[0].kind == MemoryKind::Usable) pages_[0].kind = MemoryKind::Reserved;
  }

  std::vector<ModelPage> pages_;
  u64 partial_ = 0;
};

void check_shape(const MemoryMap& map) {
  const MemoryMap::Entry* previous = nullptr;
  for (const MemoryMap::Entry& entry : map.ranges()) {
    CHECK(entry.begin < entry.end);
    CHECK(entry.begin.is_aligned(kPageSize) && entry.end.is_aligned(kPageSize));
    if (previous != nullptr) {
      CHECK(previous->end <= entry.begin);
      CHECK(previous->end != entry.begin || previous->tag != entry.tag);
    }
    previous = &entry;
  }
}

void compare(const MemoryMap& map, Model& model) {
  check_shape(map);
  u64 usable = 0;
  u64 last_end = 0;
  for (const ModelPage& page : model.pages()) {
    CHECK(map.kind_at(PhysAddr{page.begin}) == page.kind);
    CHECK(map.kind_at(PhysAddr{page.end - 1}) == page.kind);
    if (page.kind != MemoryKind::Usable) continue;
    usable += page.end - page.begin;
    last_end = page.end;
  }
  CHECK(map.usable_bytes() == usable);
  CHECK(map.last_usable_end() == PhysAddr{last_end});
  CHECK(map.partial_bytes() == model.partial());
  const PhysAddr middle{4 * kGiB};
  CHECK(map.usable_bytes_below(middle) + map.usable_bytes_from(middle) == usable);
}

u64 take_address(Input& input) {
  const u64 window = kWindows[input.below(kWindows.size())];
  return window + input.below(kWindowPages * kCellsPerPage + 1) * kCellBytes;
}

/// Short ones mostly, ends in other windows, and those that wrap.
u64 take_length(Input& input, u64 base) {
  const u32 choice = input.below(8);
  if (choice < 5) {
    const u64 cells = input.below(24);
    const u64 end = base + cells * kCellBytes;
    for (const u64 window : kWindows) {
      if (base >= window && base <= window + kWindowBytes) {
        return end > window + kWindowBytes ? window + kWindowBytes - base : end - base;
      }
    }
  }
  if (choice == 5) return ~u64{0};
  if (choice == 6) return ~u64{0} - base;
  const u64 end = take_address(input);
  return end > base ? end - base : 0;
}

void edit(Input& input, MemoryMap& map, Model& model) {
  const u64 base = take_address(input);
  const u64 length = take_length(input, base);
  const MemoryKind kind = static_cast<MemoryKind>(input.below(6));
  StringSink complaints;
  StringSink text;
  switch (input.below(6)) {
    case 0: CHECK(map.clip(PhysAddr{base}) == model.clip(base)); break;
    case 1:
      CHECK(map.add(phys_range(base, length), kind).has_value());
      model.change(base, length, kind, Model::Win::Worse);
      break;
    case 2:
      CHECK(map.replace(phys_range(base, length), kind).has_value());
      model.change(base, length, kind, Model::Win::New);
      break;
    case 3: {
      constexpr std::array kKinds{MemoryKind::Usable, MemoryKind::AcpiReclaim, MemoryKind::Reserved};
      const u32 which = input.below(3);
      format_to(text, "{}{}{:#x}", length, "@#$"[which], base);
      apply_memmap_option(map, text.text(), complaints);
      CHECK(complaints.text().empty() == (length != 0));
      model.change(base, length, kKinds[which], Model::Win::Worse);
      break;
    }
    case 4:
      format_to(text, "{}", base);
      CHECK(apply_mem_option(map, text.text(), complaints) == (base == 0 ? 0 : model.clip(base)));
      break;
    default:
      if (input.below(8) != 0) break;
      apply_memmap_option(map, "exactmap", complaints);
      model.forget();
      break;
  }
}

}  // namespace

void fuzz_one(Input& input) {
  const auto map = std::make_unique<MemoryMap>();
  Model model;
  const u32 entries = input.below(8) == 0 ? 260 : input.below(24);
  for (u32 i = 0; i < entries; ++i) {
    E820Entry entry;
    entry.base = take_address(input);
    entry.length = take_length(input, entry.base);
    entry.type = input.below(14);
    map->add_firmware_entry(entry);
    if (i < MemoryMap::kMaxFirmwareEntries) model.add_firmware_entry(entry);
  }
  CHECK(map->ignored_entries() == (entries > 256 ? entries - 256 : 0));
  map->seal();
  model.seal();
  compare(*map, model);
  for (u32 i = 0; i < 64 && !input.empty(); ++i) {
    edit(input, *map, model);
    compare(*map, model);
  }
}

}  // namespace paean::fuzz
