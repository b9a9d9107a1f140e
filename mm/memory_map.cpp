#include "mm/memory_map.hpp"

#include "lib/parse.hpp"

namespace paean {

namespace {

constexpr PhysRange kPageZero{PhysAddr{0}, PhysAddr{kPageSize}};

constexpr PhysRange shrink_to_pages(PhysRange range) {
  return {range.begin.align_up(kPageSize), range.end.align_down(kPageSize)};
}

constexpr PhysRange grow_to_pages(PhysRange range) {
  return {range.begin.align_down(kPageSize), range.end.align_up(kPageSize)};
}

constexpr PhysRange round_to_pages(PhysRange range, MemoryKind kind) {
  if (range.empty()) return {};  // no bytes touch no page
  return kind == MemoryKind::Usable ? shrink_to_pages(range) : grow_to_pages(range);
}

void set_range(MemoryMap::Entry& entry, PhysRange range) {
  entry.begin = range.begin;
  entry.end = range.end;
}

}  // namespace

std::string_view name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::Usable: return "System RAM";
    case MemoryKind::AcpiReclaim: return "ACPI Tables";
    case MemoryKind::AcpiNvs: return "ACPI Non-volatile Storage";
    case MemoryKind::Persistent: return "Persistent Memory";
    case MemoryKind::Reserved: return "Reserved";
    case MemoryKind::Bad: return "Unusable memory";
  }
  return "Unknown";
}

MemoryKind kind_from_e820(u32 type) {
  switch (type) {
    case 1: return MemoryKind::Usable;
    case 3: return MemoryKind::AcpiReclaim;
    case 4: return MemoryKind::AcpiNvs;
    case 5: return MemoryKind::Bad;
    case 7:
    case 12: return MemoryKind::Persistent;
    default: return MemoryKind::Reserved;
  }
}

void MemoryMap::add_firmware_entry(const E820Entry& entry) {
  ASSERT(stage_ == Stage::Open);
  if (firmware_entries_ == kMaxFirmwareEntries) {
    ++ignored_entries_;
    return;
  }
  ++firmware_entries_;
  const MemoryKind kind = kind_from_e820(entry.type);
  const Result<> added =
      table_.paint(phys_range(entry.base, entry.length), kind, [kind](MemoryKind old) { return old < kind; });
  ASSERT(added.has_value());  // n entries have 2n ends and so at most 2n - 1 ranges
}

void MemoryMap::seal() {
  ASSERT(stage_ == Stage::Open);
  stage_ = Stage::Sealed;
  const u64 before = usable_bytes();
  table_.rewrite([](Entry& entry, Entry* previous) {
    set_range(entry, round_to_pages(entry.range(), entry.tag));
    if (previous == nullptr || previous->end <= entry.begin) return;
    // Both grew over one page that they share: the more restrictive one keeps it. (Usable ranges shrink and so cannot
    // come here; what is usable in that page is lost to either.)
    if (previous->tag >= entry.tag)
      entry.begin = previous->end;
    else
      previous->end = entry.begin;
  });
  partial_bytes_ = before - usable_bytes();
  protect_page_zero();
}

void MemoryMap::load(std::span<const E820Entry> entries) {
  table_.clear();
  partial_bytes_ = 0;
  firmware_entries_ = 0;
  ignored_entries_ = 0;
  stage_ = Stage::Open;
  for (const E820Entry& entry : entries) add_firmware_entry(entry);
  seal();
}

u64 MemoryMap::clip(PhysAddr limit) {
  ASSERT(stage_ == Stage::Sealed);
  const PhysAddr last = limit.align_down(kPageSize);
  const u64 before = usable_bytes();
  table_.rewrite([last](Entry& entry, Entry*) {
    if (entry.tag == MemoryKind::Usable && entry.end > last) entry.end = last;
  });
  return before - usable_bytes();
}

Result<> MemoryMap::add(PhysRange range, MemoryKind kind) {
  ASSERT(stage_ == Stage::Sealed);
  TRY(table_.paint(round_to_pages(range, kind), kind, [kind](MemoryKind old) { return old < kind; }));
  protect_page_zero();
  return {};
}

Result<> MemoryMap::replace(PhysRange range, MemoryKind kind) {
  ASSERT(stage_ == Stage::Sealed);
  TRY(table_.paint(round_to_pages(range, kind), kind, [](MemoryKind) { return true; }));
  protect_page_zero();
  return {};
}

void MemoryMap::protect_page_zero() {
  if (table_.at(PhysAddr{0}) != MemoryKind::Usable) return;
  const Result<> painted = table_.paint(kPageZero, MemoryKind::Reserved, [](MemoryKind) { return true; });
  // In a full table the page is given up instead: a hole at the front never adds an entry.
  if (!painted) {
    table_.rewrite([](Entry& entry, Entry*) {
      if (entry.begin < kPageZero.end) entry.begin = kPageZero.end;
    });
  }
}

u64 MemoryMap::bytes(MemoryKind kind, PhysRange window) const {
  u64 sum = 0;
  for (const Entry& entry : table_.entries()) {
    if (entry.tag == kind) sum += entry.range().intersect(window).bytes();
  }
  return sum;
}

PhysAddr MemoryMap::last_usable_end() const {
  PhysAddr end{0};
  for (const Entry& entry : table_.entries()) {
    if (entry.tag == MemoryKind::Usable) end = entry.end;
  }
  return end;
}

namespace {

void complain(Sink& complaints, std::string_view option, std::string_view element, std::string_view why) {
  format_to(complaints, "cmdline: {}=", option);
  write_escaped(complaints, element);
  format_to(complaints, " {}, ignored\n", why);
}

/// One element of a memmap= list. Returns why it was not applied, or nothing.
std::string_view apply_memmap_element(MemoryMap& map, std::string_view element) {
  constexpr std::string_view kMalformed = "is not nn@ss, nn#ss, nn$ss, nn or exactmap";
  if (element == "exactmap") {
    map.forget();
    return {};
  }
  const std::optional<u64> length = take_size(element);
  if (!length) return kMalformed;
  if (*length == 0) return "has no length";
  if (element.empty()) {
    map.clip(PhysAddr{*length});
    return {};
  }
  MemoryKind kind = MemoryKind::Usable;
  switch (element.front()) {
    case '@': break;
    case '#': kind = MemoryKind::AcpiReclaim; break;
    case '$': kind = MemoryKind::Reserved; break;
    default: return kMalformed;
  }
  element.remove_prefix(1);
  const std::optional<u64> start = parse_size(element);
  if (!start) return kMalformed;
  if (!map.add(phys_range(*start, *length), kind)) return "does not fit into the memory map";
  return {};
}

}  // namespace

void apply_memmap_option(MemoryMap& map, std::string_view value, Sink& complaints) {
  while (true) {
    usize end = 0;
    while (end < value.size() && value[end] != ',') ++end;
    const std::string_view element{value.data(), end};
    const std::string_view problem = apply_memmap_element(map, element);
    if (!problem.empty()) complain(complaints, "memmap", element, problem);
    if (end == value.size()) return;
    value.remove_prefix(end + 1);
  }
}

u64 apply_mem_option(MemoryMap& map, std::string_view value, Sink& complaints) {
  const std::optional<u64> limit = parse_size(value);
  if (!limit || *limit == 0) {
    complain(complaints, "mem", value, "is not a size");
    return 0;
  }
  return map.clip(PhysAddr{*limit});
}

}  // namespace paean
