// Where the objects of a slab lie, and what a slab costs: arithmetic alone.
//
//   |colour| object | object | ... | object | rest |descriptor|      descriptor inside: small objects
//   |colour| object | object | ... | object | rest |                 descriptor elsewhere: an object of 48 bytes
//
//   one place of `stride` bytes, ordinary cache:
//   | object: size bytes, aligned                     |    the first word is the tag while the object is free
//   with a constructor, whose work the tag must not touch:
//   | object: size bytes, aligned       | tag |
//   checked cache:
//   | red zone | object: size bytes | red zone | track: who had it last, and the tag |
//
// The colour moves the first object of each slab by one alignment step, so that the same field of many objects does
// not fall into one line of the CPU's cache. It takes turns within the rest that there is anyway.
//
// The order of a slab is the smallest that wastes little: order 0 or 1 where that wastes at most an eighth, so that a
// fragmented lowmem can still serve most caches; caches that take virtually contiguous memory need not care.
// Units: bytes. Pure. Source: Bonwick, "The Slab Allocator", 1994 (colours, outside descriptors).
#pragma once

#include "lib/addr.hpp"
#include "lib/result.hpp"

namespace paean {

/// Are the objects of a cache surrounded by red zones, filled while free, and signed by those who had them?
enum class Checking : u8 { Off, On };
enum class Constructed : u8 { No, Yes };
enum class DescriptorPlace : u8 { Inside, Outside };

struct SlabSpec {
  u32 size = 0;
  u32 align = 8;  // a power of two, at most a page
  Checking checking = Checking::Off;
  Constructed constructed = Constructed::No;
  u32 max_order = 1;  // unless one object needs more
  DescriptorPlace farthest = DescriptorPlace::Outside;
};

struct SlabLayout {
  u32 size;             // what the user has
  u32 align;            //
  u32 stride;           // from place to place
  u32 object_offset;    // of the object in its place
  u32 tag_offset;       // of the tag from the object
  u32 track_offset;     // of the track from the object; 0 without checking
  u32 objects;          // in a slab, 1 to kMaxObjectsInSlab
  u32 colours;          // how many first places there are, at least 1
  u32 descriptor_size;  // inside only
  Order order;
  DescriptorPlace place;

  constexpr u32 bytes() const { return kPageSize << order.value(); }
  /// Bytes of a slab and its descriptor that are no object.
  constexpr u32 overhead() const;
};

inline constexpr u32 kMaxObjectsInSlab = 512;
inline constexpr u32 kSlabHeaderBytes = 40;         // of a descriptor; its bitmap follows
inline constexpr u32 kOutsideDescriptorBytes = 48;  // with a bitmap of 64 objects
inline constexpr u32 kMaxObjectsOutside = (kOutsideDescriptorBytes - kSlabHeaderBytes) * 8;
inline constexpr u32 kDescriptorAlign = 16;  // page words keep the address without its last four bits
inline constexpr u32 kRedZoneBytes = 8;      // at least; what rounding leaves is red too
inline constexpr u32 kTrackBytes = 32;
inline constexpr u32 kMaxObjectBytes = 64 * kKiB;

constexpr u32 align_up(u32 value, u32 align) { return (value + align - 1) & ~(align - 1); }
constexpr bool is_power_of_two(u32 value) { return value != 0 && (value & (value - 1)) == 0; }

constexpr u32 SlabLayout::overhead() const {
  return bytes() - objects * size + (place == DescriptorPlace::Outside ? kOutsideDescriptorBytes : 0);
}

/// Where a constructed object of this size has its tag.
constexpr u32 tag_behind(u32 size) { return align_up(size, 4); }

/// A descriptor with a bitmap for so many objects.
constexpr u32 descriptor_bytes(u32 objects) {
  return align_up(kSlabHeaderBytes + (objects + 31) / 32 * 4, kDescriptorAlign);
}

/// How a slab of this order would be divided; `objects` is 0 if none fits.
constexpr SlabLayout divide_slab(const SlabLayout& one, Order order, DescriptorPlace place) {
  SlabLayout layout = one;
  layout.order = order;
  layout.place = place;
  layout.descriptor_size = 0;
  const u32 bytes = layout.bytes();
  u32 objects = bytes / one.stride;
  if (place == DescriptorPlace::Outside) {
    if (objects > kMaxObjectsOutside) objects = 0;  // then a slab has room for its descriptor
  } else {
    if (objects > kMaxObjectsInSlab) objects = kMaxObjectsInSlab;
    while (objects != 0 && objects * one.stride + descriptor_bytes(objects) > bytes) --objects;
    layout.descriptor_size = descriptor_bytes(objects);
  }
  layout.objects = objects;
  if (objects != 0) layout.colours = (bytes - layout.descriptor_size - objects * one.stride) / one.align + 1;
  return layout;
}

/// InvalidArgument for a size of 0 or an alignment that is none; TooLarge beyond kMaxObjectBytes.
constexpr Result<SlabLayout> plan_slab(const SlabSpec& spec) {
  if (spec.size == 0 || !is_power_of_two(spec.align) || spec.align > kPageSize)
    return std::unexpected(Error::InvalidArgument);
  if (spec.size > kMaxObjectBytes) return std::unexpected(Error::TooLarge);
  SlabLayout one{};
  one.size = spec.size;
  one.align = spec.align < 8 ? 8 : spec.align;
  const u32 after = tag_behind(spec.size);
  if (spec.checking == Checking::On) {
    one.object_offset = align_up(kRedZoneBytes, one.align);
    one.track_offset = align_up(spec.size + kRedZoneBytes, 4);
    one.tag_offset = one.track_offset;
    one.stride = align_up(one.object_offset + one.track_offset + kTrackBytes, one.align);
  } else {
    one.tag_offset = spec.constructed == Constructed::Yes ? after : 0;
    one.stride = align_up(spec.constructed == Constructed::Yes ? after + 4 : after, one.align);
  }
  // The first round that has an answer decides: how small a part may be wasted, and up to which order.
  struct Round {
    u32 part;
    u32 max_order;
  };
  constexpr Round kRounds[] = {{16, 0}, {8, 3}, {4, 3}, {2, 3}, {1, kMaxOrder}};
  for (const Round round : kRounds) {
    for (u32 order = 0; order <= kMaxOrder; ++order) {
      const bool needed = (kPageSize << order) / 2 < one.stride;  // no smaller slab holds one
      if (!needed && (order > spec.max_order || order > round.max_order)) break;
      const SlabLayout inside = divide_slab(one, Order{order}, DescriptorPlace::Inside);
      const SlabLayout outside = divide_slab(one, Order{order}, DescriptorPlace::Outside);
      const bool may_be_outside = spec.farthest == DescriptorPlace::Outside && outside.objects != 0;
      const bool better_outside =
          inside.objects == 0 || outside.overhead() * u64{inside.objects} < inside.overhead() * u64{outside.objects};
      const SlabLayout& best = may_be_outside && better_outside ? outside : inside;
      const u32 spent = best.bytes() - best.objects * best.stride;
      if (best.objects != 0 && spent <= best.bytes() / round.part) return best;
    }
  }
  return std::unexpected(Error::TooLarge);
}

}  // namespace paean
