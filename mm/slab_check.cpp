#include "mm/slab_check.hpp"

namespace paean {

namespace {

constexpr u8 kRedUsed = 0xcc, kRedFree = 0xbb, kPoison = 0x6b, kPoisonEnd = 0xa5, kFresh = 0x5a;
constexpr u32 kUsed = 0x05ed05ed, kFree = 0xf4eef4ee, kGuard = 0x6a4d6a4d;

/// The first byte of [from, end) that is another one; nullptr if none is.
const u8* find_other(const u8* from, const u8* end, u8 byte) {
  const u32 four = byte * 0x01010101u;
  const auto change_at = [four](const u8* at) {
    u32 word;
    __builtin_memcpy(&word, at, sizeof word);
    return word ^ four;
  };
  for (; end - from >= 16; from += 16) {
    if ((change_at(from) | change_at(from + 4) | change_at(from + 8) | change_at(from + 12)) != 0) break;
  }
  for (; from != end; ++from) {
    if (*from != byte) return from;
  }
  return nullptr;
}

}  // namespace

std::string_view name(SlabFaultKind kind) {
  switch (kind) {
    case SlabFaultKind::None: return "no fault";
    case SlabFaultKind::DoubleFree: return "double free";
    case SlabFaultKind::NotAnObject: return "free of what is not the start of an object";
    case SlabFaultKind::WrongCache: return "free to the wrong cache";
    case SlabFaultKind::NotSlabMemory: return "free of what is no slab memory";
    case SlabFaultKind::PageAddress: return "free of a page's address";
    case SlabFaultKind::FreedSlab: return "free into a slab that was given back";
    case SlabFaultKind::Underrun: return "write before the object";
    case SlabFaultKind::Overrun: return "write behind the object";
    case SlabFaultKind::WriteAfterFree: return "write after free";
    case SlabFaultKind::TrackDamaged: return "write far behind an object";
    case SlabFaultKind::DescriptorDamaged: return "damaged slab descriptor";
    case SlabFaultKind::StillInUse: return "objects still in use";
  }
  return "?";
}

u32 CheckedObject::state_for(u32 state) const {
  return state ^ static_cast<u32>(reinterpret_cast<std::uintptr_t>(at_));
}

void CheckedObject::fill_red(u8 byte, u32 requested) {
  __builtin_memset(at_ - layout_.object_offset, byte, layout_.object_offset);
  __builtin_memset(at_ + requested, byte, layout_.track_offset - requested);
}

SlabDefect CheckedObject::check_red(u8 byte, u32 requested) const {
  if (const u8* bad = find_other(at_ - layout_.object_offset, at_, byte)) return {SlabFaultKind::Underrun, bad};
  if (const u8* bad = find_other(at_ + requested, at_ + layout_.track_offset, byte))
    return {SlabFaultKind::Overrun, bad};
  return {};
}

void CheckedObject::poison() {
  if (constructed_ == Constructed::Yes) return;
  __builtin_memset(at_, kPoison, layout_.size - 1);
  at_[layout_.size - 1] = kPoisonEnd;
}

SlabDefect CheckedObject::check_poison() const {
  if (constructed_ == Constructed::Yes) return {};
  const u8* last = at_ + layout_.size - 1;
  const u8* bad = find_other(at_, last, kPoison);
  if (bad == nullptr && *last != kPoisonEnd) bad = last;
  return bad == nullptr ? SlabDefect{} : SlabDefect{SlabFaultKind::WriteAfterFree, bad};
}

void CheckedObject::make_free() {
  fill_red(kRedFree, layout_.size);
  poison();
  track() = ObjectTrack{.tag = 0, .state = state_for(kFree), .taken = {}, .given = {}, .requested = 0, .guard = kGuard};
}

SlabDefect CheckedObject::take(ObjectUser user) {
  SlabDefect defect = check_poison();
  if (defect.kind == SlabFaultKind::None) defect = check_red(kRedFree, layout_.size);
  ObjectTrack& t = track();
  if (t.state != state_for(kFree) || t.guard != kGuard)
    defect = {SlabFaultKind::TrackDamaged, at_ + layout_.track_offset};
  if (constructed_ == Constructed::No) __builtin_memset(at_, kFresh, layout_.size);
  fill_red(kRedUsed, layout_.size);
  t.state = state_for(kUsed);
  t.taken = user;
  t.requested = layout_.size;
  t.guard = kGuard;
  return defect;
}

SlabDefect CheckedObject::give(ObjectUser user) {
  ObjectTrack& t = track();
  if (t.state == state_for(kFree)) return {SlabFaultKind::DoubleFree, at_};
  if (t.state != state_for(kUsed) || t.guard != kGuard || t.requested > layout_.size)
    return {SlabFaultKind::TrackDamaged, at_ + layout_.track_offset};
  const SlabDefect defect = check_red(kRedUsed, t.requested);
  fill_red(kRedFree, layout_.size);
  poison();
  t.state = state_for(kFree);
  t.given = user;
  return defect;
}

void CheckedObject::set_requested(u32 bytes) {
  track().requested = bytes;
  fill_red(kRedUsed, bytes);
}

}  // namespace paean
