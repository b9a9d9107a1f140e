#include "mm/region_allocator.hpp"

namespace paean {

namespace {

constexpr bool is_power_of_two(u64 value) { return value != 0 && (value & (value - 1)) == 0; }

/// The place for `bytes` in a free range, or nullopt if it does not fit there. `align` is at least a page.
std::optional<PhysAddr> place(PhysRange room, u64 bytes, u64 align, Direction direction) {
  if (room.bytes() < bytes) return std::nullopt;
  // align_up saturates, so the highest addresses need the comparison with room.begin as well.
  const PhysAddr begin =
      direction == Direction::BottomUp ? room.begin.align_up(align) : (room.end - bytes).align_down(align);
  if (begin < room.begin || begin > room.end - bytes) return std::nullopt;
  return begin;
}

}  // namespace

std::string_view name(BootReason reason) {
  switch (reason) {
    case BootReason::KernelImage: return "kernel image";
    case BootReason::PageTables: return "page tables";
    case BootReason::FrameWords: return "frame words";
    case BootReason::BuddyBitmaps: return "buddy bitmaps";
    case BootReason::PerCpu: return "per-CPU data";
    case BootReason::BootInfo: return "boot information";
    case BootReason::Firmware: return "firmware";
    case BootReason::Modules: return "modules";
    case BootReason::AcpiTables: return "ACPI tables";
    case BootReason::Partial: return "partial pages";
  }
  return "unknown";
}

Result<> RegionAllocator::reserve(PhysRange range, BootReason reason) {
  if (range.begin > range.end || reason == BootReason::Partial) return std::unexpected(Error::InvalidArgument);
  if (range.empty()) return {};
  const PhysRange pages{range.begin.align_down(kPageSize), range.end.align_up(kPageSize)};
  return table_.paint(pages, reason, [](BootReason) { return false; });
}

Result<PhysAddr> RegionAllocator::allocate(u64 bytes, u64 align, PhysRange window, Direction direction,
                                           BootReason reason) {
  if (bytes == 0 || !is_power_of_two(align) || reason == BootReason::Partial) {
    return std::unexpected(Error::InvalidArgument);
  }
  if (bytes > kPhysTop - PhysAddr{0}) return std::unexpected(Error::OutOfMemory);
  const u64 size = PhysAddr{bytes}.align_up(kPageSize) - PhysAddr{0};
  const u64 alignment = align < kPageSize ? kPageSize : align;
  const PhysRange pages{window.begin.align_up(kPageSize), window.end.align_down(kPageSize)};

  std::optional<PhysAddr> found;
  for (std::optional<PhysRange> room = next_free(pages.begin); room && room->begin < pages.end;
       room = next_free(room->end)) {
    const std::optional<PhysAddr> candidate = place(room->intersect(pages), size, alignment, direction);
    if (candidate) found = candidate;
    if (found && direction == Direction::BottomUp) break;
  }
  if (!found) return std::unexpected(Error::OutOfMemory);
  TRY(reserve({*found, *found + size}, reason));
  return *found;
}

u64 RegionAllocator::reserved_bytes(BootReason reason) const {
  if (reason == BootReason::Partial) return map_.partial_bytes();
  u64 sum = 0;
  for (const Reservation& entry : table_.entries()) {
    if (entry.tag == reason) sum += map_.bytes(MemoryKind::Usable, entry.range());
  }
  return sum;
}

u64 RegionAllocator::free_bytes() const {
  u64 sum = 0;
  for_each_free([&sum](PhysAddr begin, PhysAddr end) { sum += end - begin; });
  return sum;
}

std::optional<PhysRange> RegionAllocator::next_free(PhysAddr from) const {
  const std::span<const Reservation> reserved = table_.entries();
  for (const MemoryMap::Entry& memory : map_.ranges()) {
    if (memory.tag != MemoryKind::Usable || memory.end <= from) continue;
    PhysAddr pos = memory.begin > from ? memory.begin : from;
    usize index = table_.index_at(pos);
    while (index < reserved.size() && reserved[index].begin <= pos) pos = reserved[index++].end;
    if (pos >= memory.end) continue;
    const PhysAddr stop =
        index < reserved.size() && reserved[index].begin < memory.end ? reserved[index].begin : memory.end;
    return PhysRange{pos, stop};
  }
  return std::nullopt;
}

}  // namespace paean
