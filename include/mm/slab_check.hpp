// Checked objects: red zones around them, a filling while they are free, and a track that says who had them.
//
//   | red zone |  object                | red zone | tag | state | callers | CPUs | threads | size | guard |
//     cc / bb     6b 6b 6b ... 6b a5      cc / bb                     the track, 32 bytes
//
// Red zones hold cc while the object is used and bb while it is free. A free object without a constructor is filled
// with 6b, the last byte a5; a fresh one is handed out filled with 5a. The right red zone begins where the size that
// was asked for ends, not where the size class does. `state` is one of two numbers that no neighbour's overrun leaves
// in place, different for every address.
//
// Pure: bytes alone. The caller holds the cache's lock, so that of two frees of one object one is the second.
#pragma once

#include "mm/slab_layout.hpp"

namespace paean {

enum class SlabFaultKind : u8 {
  None,
  DoubleFree,
  NotAnObject,        // inside an object, or between two
  WrongCache,         // an object of another cache
  NotSlabMemory,      // no slab is or was there
  PageAddress,        // a page that somebody has from the frame allocator
  FreedSlab,          // the slab has gone back to the frame allocator
  Underrun,           // the red zone before the object was written
  Overrun,            // the one behind it
  WriteAfterFree,     // the filling of a free object is not what it was
  TrackDamaged,       // the track makes no sense: something wrote far beyond an object
  DescriptorDamaged,  // the slab's descriptor makes no sense
  StillInUse,         // a cache is destroyed that has objects
};
std::string_view name(SlabFaultKind kind);

/// Somebody who took or gave back an object.
struct ObjectUser {
  u32 caller;  // where the call returns to
  u16 cpu;
  u16 thread;
};

struct ObjectTrack {
  u32 tag;
  u32 state;
  ObjectUser taken, given;
  u32 requested;  // bytes that the user asked for
  u32 guard;
};
static_assert(sizeof(ObjectTrack) == kTrackBytes);

struct SlabDefect {
  SlabFaultKind kind = SlabFaultKind::None;
  const u8* where = nullptr;  // the first wrong byte
};

/// One object of a checked cache, at its address.
class CheckedObject {
 public:
  CheckedObject(void* object, const SlabLayout& layout, Constructed constructed)
      : at_(static_cast<u8*>(object)), layout_(layout), constructed_(constructed) {}

  /// Of a new slab.
  void make_free();
  /// Finds out whether anybody wrote to it while it was free, and makes it used whatever that says.
  SlabDefect take(ObjectUser user);
  /// Only DoubleFree and TrackDamaged leave it as it is; after any other defect it is as free as without one.
  SlabDefect give(ObjectUser user);
  /// The user asked for less than the object has.
  void set_requested(u32 bytes);

  ObjectTrack& track() const { return *reinterpret_cast<ObjectTrack*>(at_ + layout_.track_offset); }

 private:
  u32 state_for(u32 state) const;
  void fill_red(u8 byte, u32 requested);
  SlabDefect check_red(u8 byte, u32 requested) const;
  void poison();
  SlabDefect check_poison() const;

  u8* at_;
  const SlabLayout& layout_;
  Constructed constructed_;
};

}  // namespace paean
