// mmap, munmap, mprotect, msync.
#include "mm/shared_memory.hpp"
#include "mm/user_gather.hpp"

namespace paean {

namespace {

constexpr MapFlag kKept = MapFlag::Shared | MapFlag::GrowsDown;
/// Left free at the top for the stack.
constexpr u32 kStackRoom = kStackLimit + 2 * kStackGap;

MapFlag kind_of(MapFlag flags) { return static_cast<MapFlag>(static_cast<u8>(flags) & static_cast<u8>(kKept)); }

/// Whole pages, or nullopt if no user space is that large.
std::optional<u32> round_up(u32 bytes) {
  if (bytes > user_end().raw()) return std::nullopt;
  return (bytes + kPageSize - 1) & ~(kPageSize - 1);
}

}  // namespace

Area& UserSpace::add_area(VirtAddr start, VirtAddr end, const Area& like, Spares& spares) {
  Area& area = spares.list.pop();
  area.start = start;
  area.end = end;
  area.access = like.access;
  area.kind = like.kind;
  area.file = like.file;
  area.first_page = like.first_page;
  if (area.file != nullptr) area.file->get();
  areas_.insert(area);
  return areas_.join(area, spares.list);
}

Result<VirtAddr> UserSpace::place(const MapRequest& request, u32 bytes, Spares& spares) {
  if (areas_.count() >= kMostAreas) return std::unexpected(Error::OutOfMemory);
  if (has(request.flags, MapFlag::Fixed)) {
    const VirtAddr end = request.at + bytes;
    const Area* there = areas_.at_or_above(request.at);
    if (there == nullptr || there->start >= end) return request.at;
    if (has(request.flags, MapFlag::NoReplace)) return std::unexpected(Error::Exists);
    TRY(unmap_locked(request.at, end, spares));
    return request.at;
  }
  const VirtAddr wish = request.at < user_end() ? request.at.align_up(kPageSize) : VirtAddr{};
  if (wish >= kLowestUser && is_user_range(wish, bytes) && areas_.is_free(wish, wish + bytes)) return wish;
  auto place = areas_.find_gap(bytes, kLowestUser, user_end() - kStackRoom);
  if (!place) place = areas_.find_gap(bytes, kLowestUser, user_end());
  if (!place) return std::unexpected(Error::OutOfMemory);
  return *place;
}

Result<VirtAddr> UserSpace::map(const MapRequest& request) {
  if (request.bytes == 0) return std::unexpected(Error::InvalidArgument);
  const auto bytes = round_up(request.bytes);
  if (!bytes) return std::unexpected(Error::OutOfMemory);
  if (request.first_page + (*bytes >> kPageShift) < request.first_page) return std::unexpected(Error::TooLarge);
  if (has(request.flags, MapFlag::Fixed)) {
    if (!request.at.is_aligned(kPageSize)) return std::unexpected(Error::InvalidArgument);
    if (!is_user_range(request.at, *bytes)) return std::unexpected(Error::OutOfMemory);
    if (request.at < kLowestUser) return std::unexpected(Error::NotPermitted);
  }
  Area like;
  like.access = request.access;
  like.kind = kind_of(request.flags);
  like.file = request.file;
  like.first_page = request.file != nullptr ? request.first_page : 0;
  if (like.is_shared() && like.file != nullptr && has(like.access, UserAccess::Write) && !like.file->is_writable())
    return std::unexpected(Error::NoAccess);

  Spares spares;
  TRY(spares.take(3));
  const bool shares_memory = like.is_shared() && like.file == nullptr;
  if (shares_memory) like.file = TRY(make_shared_memory(*bytes));
  const Result<VirtAddr> at = [&]() -> Result<VirtAddr> {
    const WriteGuard guard{layout_};
    const VirtAddr start = TRY(place(request, *bytes, spares));
    (void)add_area(start, start + *bytes, like, spares);
    return start;
  }();
  if (shares_memory) like.file->put();  // the area has its own reference
  return at;
}

Result<> UserSpace::unmap_locked(VirtAddr start, VirtAddr end, Spares& spares) {
  if (areas_.count() + areas_.needed_to_cut(start, end) > kMostAreas) return std::unexpected(Error::OutOfMemory);
  areas_.cut(start, end, spares.list);
  PageGather gather{tables_.tlb()};
  for (;;) {
    Area* area = areas_.at_or_above(start);
    if (area == nullptr || area->start >= end) return {};
    zap(*area, area->start, area->end, gather);
    areas_.remove(*area);
    spares.removed.push(*area);
  }
}

Result<> UserSpace::unmap(VirtAddr start, u32 bytes) {
  const auto rounded = round_up(bytes);
  if (!start.is_aligned(kPageSize) || !rounded || *rounded == 0 || !is_user_range(start, *rounded))
    return std::unexpected(Error::InvalidArgument);
  Spares spares;
  TRY(spares.take(2));
  const WriteGuard guard{layout_};
  return unmap_locked(start, start + *rounded, spares);
}

Result<> UserSpace::protect_locked(VirtAddr start, VirtAddr end, UserAccess access, Spares& spares) {
  if (areas_.count() + areas_.needed_to_cut(start, end) > kMostAreas) return std::unexpected(Error::OutOfMemory);
  areas_.cut(start, end, spares.list);
  PageGather gather{tables_.tlb()};
  VirtAddr at = start;
  Result<> result;
  while (at < end) {
    Area* area = areas_.at(at);
    if (area == nullptr) {
      result = std::unexpected(Error::OutOfMemory);
      break;
    }
    if (area->is_shared() && has(access, UserAccess::Write) && !area->file->is_writable()) {
      result = std::unexpected(Error::NoAccess);
      break;
    }
    area->access = access;
    change_access(*area, area->start, area->end, gather);
    at = area->end;
  }
  // Borders that the cut made, and those between areas that agree now.
  for (Area* area = areas_.at_or_above(start); area != nullptr && area->start <= at;) {
    area = areas_.next(areas_.join(*area, spares.list));
  }
  return result;
}

Result<> UserSpace::protect(VirtAddr start, u32 bytes, UserAccess access) {
  if (!start.is_aligned(kPageSize)) return std::unexpected(Error::InvalidArgument);
  if (bytes == 0) return {};
  const auto rounded = round_up(bytes);
  if (!rounded || !is_user_range(start, *rounded)) return std::unexpected(Error::OutOfMemory);
  Spares spares;
  TRY(spares.take(2));
  const WriteGuard guard{layout_};
  return protect_locked(start, start + *rounded, access, spares);
}

Result<> UserSpace::sync(VirtAddr start, u32 bytes, Sync how) {
  if (!start.is_aligned(kPageSize)) return std::unexpected(Error::InvalidArgument);
  const auto rounded = round_up(bytes);
  if (!rounded || !is_user_range(start, *rounded)) return std::unexpected(Error::OutOfMemory);
  const VirtAddr end = start + *rounded;
  for (VirtAddr at = start; at < end;) {
    MappedFile* file = nullptr;
    {
      const ReadGuard guard{layout_};
      const Area* area = areas_.at(at);
      if (area == nullptr) return std::unexpected(Error::OutOfMemory);
      const VirtAddr stop = area->end < end ? area->end : end;
      if (area->is_shared()) {
        mark_stores(*area, at, stop);
        file = area->file;
        file->get();
      }
      at = stop;
    }
    if (file == nullptr) continue;
    const Result<> written = how == Sync::Wait ? file->contents().sync() : Result<>{};
    file->put();
    TRY(written);
  }
  return {};
}

}  // namespace paean
