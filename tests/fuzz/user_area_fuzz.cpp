// AreaMap against an array of pages: what a range is mapped as, after any mixture of maps, unmaps, protections and
// searches for a gap. References of files are counted by the areas that the map holds.
#include <array>
#include <memory>
#include <vector>

#include "entry.hpp"
#include "mm/user_area.hpp"

namespace paean {

/// Its users only count it.
class MappedFile {
 public:
  i32 references = 0;
};

}  // namespace paean

namespace paean::fuzz {

namespace {

constexpr u32 kCells = 48;
constexpr VirtAddr kBase{0x40000000};
constexpr VirtAddr cell(u32 n) { return kBase + n * kPageSize; }
constexpr u32 kFiles = 2;

struct Cell {
  bool mapped = false;
  UserAccess access{};
  MapFlag kind{};
  MappedFile* file = nullptr;
  u32 page = 0;
  bool operator==(const Cell&) const = default;
};

std::array<MappedFile, kFiles> files;
void count_file(MappedFile& file, i32 change) { file.references += change; }

class Model {
 public:
  std::array<Cell, kCells> cells{};
  AreaMap map{count_file};
  AreaSpares spares;

  void supply() {
    while (spares.count() < 4) {
      memory_.push_back(std::make_unique<Area>());
      spares.push(*memory_.back());
    }
  }
  void unmap(u32 from, u32 to) {
    supply();
    CHECK(map.needed_to_cut(cell(from), cell(to)) <= 2);
    map.cut(cell(from), cell(to), spares);
    for (;;) {
      Area* area = map.at_or_above(cell(from));
      if (area == nullptr || area->start >= cell(to)) break;
      CHECK(area->end <= cell(to));
      map.remove(*area);
      if (area->file != nullptr) --area->file->references;
    }
    for (u32 i = from; i < to; ++i) cells[i] = Cell{};
  }
  void insert(u32 from, u32 to, const Cell& like) {
    unmap(from, to);
    supply();
    Area& area = spares.pop();
    area.start = cell(from);
    area.end = cell(to);
    area.access = like.access;
    area.kind = like.kind;
    area.file = like.file;
    area.first_page = like.page;
    if (like.file != nullptr) ++like.file->references;
    map.insert(area);
    (void)map.join(area, spares);
    for (u32 i = from; i < to; ++i) {
      cells[i] = like;
      if (like.file != nullptr) cells[i].page += i - from;
    }
  }
  void protect(u32 from, u32 to, UserAccess access) {
    supply();
    map.cut(cell(from), cell(to), spares);
    for (Area* area = map.at_or_above(cell(from)); area != nullptr && area->start < cell(to); area = map.next(*area)) {
      area->access = access;
    }
    for (Area* area = map.at_or_above(cell(from)); area != nullptr && area->start <= cell(to);) {
      area = map.next(map.join(*area, spares));
    }
    for (u32 i = from; i < to; ++i) {
      if (cells[i].mapped) cells[i].access = access;
    }
  }
  void check();
  void check_gap(u32 pages, u32 low, u32 high);

 private:
  std::vector<std::unique_ptr<Area>> memory_;
};

void Model::check() {
  u32 pages = 0, areas = 0;
  std::array<i32, kFiles> references{};
  VirtAddr last{};
  for (Area* area = map.first(); area != nullptr; area = map.next(*area)) {
    CHECK(area->start >= last && area->start < area->end);
    if (Area* below = map.previous(*area)) CHECK(map.next(*below) == area);
    last = area->end;
    ++areas;
    pages += area->pages();
    for (u32 f = 0; f < kFiles; ++f) references[f] += area->file == &files[f] ? 1 : 0;
  }
  CHECK(areas == map.count() && pages == map.pages());
  for (u32 f = 0; f < kFiles; ++f) CHECK(files[f].references == references[f]);
  for (u32 i = 0; i < kCells; ++i) {
    const Area* area = map.at(cell(i) + i);
    CHECK((area != nullptr) == cells[i].mapped);
    const Area* above = map.at_or_above(cell(i));
    if (area == nullptr) {
      CHECK(above == nullptr || above->start > cell(i));
      continue;
    }
    CHECK(above == area && area->access == cells[i].access && area->kind == cells[i].kind);
    CHECK(area->file == cells[i].file && (area->file == nullptr || area->page_at(cell(i)) == cells[i].page));
  }
}

/// A gap is free, in its bounds, and there is no higher one; without stacks, whose gap is larger than all cells.
void Model::check_gap(u32 pages, u32 low, u32 high) {
  for (const Cell& c : cells) {
    if (c.mapped && has(c.kind, MapFlag::GrowsDown)) return;
  }
  const auto is_free = [&](u32 from) {
    for (u32 i = from; i < from + pages; ++i) {
      if (cells[i].mapped) return false;
    }
    return true;
  };
  std::optional<VirtAddr> wanted;
  for (u32 from = low; from + pages <= high; ++from) {
    if (is_free(from)) wanted = cell(from);
  }
  CHECK(map.find_gap(pages * kPageSize, cell(low), cell(high)) == wanted);
  if (wanted) CHECK(map.is_free(*wanted, *wanted + pages * kPageSize));
}

}  // namespace

void fuzz_one(Input& input) {
  Model model;
  files = {};
  while (!input.empty()) {
    const u32 from = input.below(kCells);
    const u32 to = from + 1 + input.below(kCells - from);
    switch (input.below(5)) {
      case 0: model.unmap(from, to); break;
      case 1: model.protect(from, to, static_cast<UserAccess>(input.below(8))); break;
      case 2: model.check_gap(1 + input.below(kCells), from, to); break;
      default: {
        const u32 file = input.below(kFiles + 1);
        const u32 kinds = input.byte();
        Cell like{.mapped = true, .access = static_cast<UserAccess>(input.below(8))};
        like.kind = (kinds & 7) == 0 ? MapFlag::GrowsDown : (kinds & 8) != 0 ? MapFlag::Shared : MapFlag::None;
        like.file = file < kFiles ? &files[file] : nullptr;
        // Small differences, so that neighbours in the file happen.
        like.page = like.file != nullptr ? from + input.below(3) : 0;
        model.insert(from, to, like);
      }
    }
    model.check();
  }
}

}  // namespace paean::fuzz
