// How slabs are divided: what fits, what is wasted, where things lie.
#include "mm/slab_layout.hpp"

#include "mm/kmalloc_classes.hpp"
#include "support.hpp"

using namespace paean;

namespace {

SlabLayout plan(const SlabSpec& spec) {
  const Result<SlabLayout> layout = plan_slab(spec);
  REQUIRE(layout.has_value());
  return *layout;
}

/// Everything that must hold of any layout.
void check_sound(const SlabSpec& spec, const SlabLayout& layout) {
  CAPTURE(spec.size);
  CAPTURE(spec.align);
  CHECK(layout.size == spec.size);
  CHECK(layout.objects >= 1);
  CHECK(layout.objects <= kMaxObjectsInSlab);
  CHECK(layout.stride % layout.align == 0);
  CHECK(layout.object_offset % layout.align == 0);
  const u32 last_colour = (layout.colours - 1) * layout.align;
  CHECK(last_colour + layout.objects * layout.stride + layout.descriptor_size <= layout.bytes());
  CHECK(layout.object_offset + layout.size <= layout.stride);
  if (layout.place == DescriptorPlace::Outside) {
    CHECK(layout.objects <= kMaxObjectsOutside);
    CHECK(layout.descriptor_size == 0);
  } else {
    CHECK(layout.descriptor_size >= kSlabHeaderBytes + layout.objects / 8);
    CHECK((layout.bytes() - layout.descriptor_size) % kDescriptorAlign == 0);
  }
  if (spec.checking == Checking::On) {
    CHECK(layout.object_offset >= kRedZoneBytes);
    CHECK(layout.track_offset >= layout.size + kRedZoneBytes);
    CHECK(layout.object_offset + layout.track_offset + kTrackBytes <= layout.stride);
  } else {
    CHECK(layout.track_offset == 0);
    CHECK(layout.tag_offset + 4 <= layout.stride);
    if (spec.constructed == Constructed::Yes) CHECK(layout.tag_offset >= layout.size);
  }
}

}  // namespace

TEST_CASE("slab_layout: every size, alignment and kind is sound") {
  for (u32 size = 1; size <= 9000; size += size < 300 ? 1 : 37) {
    for (const u32 align : {1u, 8u, 16u, 64u, 4096u}) {
      for (const Checking checking : {Checking::Off, Checking::On}) {
        for (const Constructed constructed : {Constructed::No, Constructed::Yes}) {
          const SlabSpec spec{.size = size, .align = align, .checking = checking, .constructed = constructed};
          check_sound(spec, plan(spec));
        }
      }
    }
  }
}

TEST_CASE("slab_layout: a million objects of 128 bytes cost less than 4 % more than their bytes") {
  const SlabLayout layout = plan({.size = 128});
  constexpr u64 kObjects = 1'000'000;
  const u64 slabs = (kObjects + layout.objects - 1) / layout.objects;
  const SlabLayout descriptors = plan({.size = kOutsideDescriptorBytes, .farthest = DescriptorPlace::Inside});
  u64 bytes = slabs * layout.bytes();
  if (layout.place == DescriptorPlace::Outside)
    bytes += (slabs + descriptors.objects - 1) / descriptors.objects * descriptors.bytes();
  CHECK(bytes < kObjects * 128 * 104 / 100);
  CHECK(bytes > kObjects * 128);
}

TEST_CASE("slab_layout: kmalloc's classes waste at most a quarter and need no high orders") {
  for (u32 index = 0; index < kKmallocClasses; ++index) {
    const SlabLayout layout = plan({.size = kmalloc_class_size(index)});
    CAPTURE(layout.size);
    CHECK(layout.order.value() <= 1);
    CHECK(layout.overhead() <= layout.bytes() / 4 + kOutsideDescriptorBytes);
    if (layout.size <= 256) CHECK(layout.overhead() * 100 <= layout.bytes() * 6);
  }
}

TEST_CASE("slab_layout: caches that may be virtually contiguous take higher orders") {
  CHECK(plan({.size = 3000}).order.value() <= 1);
  const SlabLayout virtually = plan({.size = 3000, .max_order = 3});
  CHECK(virtually.overhead() * 8 <= virtually.bytes());
}

TEST_CASE("slab_layout: nonsense is refused") {
  CHECK(plan_slab({.size = 0}).error() == Error::InvalidArgument);
  CHECK(plan_slab({.size = 8, .align = 0}).error() == Error::InvalidArgument);
  CHECK(plan_slab({.size = 8, .align = 24}).error() == Error::InvalidArgument);
  CHECK(plan_slab({.size = 8, .align = 8192}).error() == Error::InvalidArgument);
  CHECK(plan_slab({.size = kMaxObjectBytes + 1}).error() == Error::TooLarge);
  CHECK(plan_slab({.size = ~0u}).error() == Error::TooLarge);
  CHECK(plan_slab({.size = kMaxObjectBytes}).has_value());
}

TEST_CASE("kmalloc: each size has the smallest class that holds it") {
  for (u32 size = 1; size <= kKmallocLimit; ++size) {
    const u32 index = kmalloc_class(size);
    REQUIRE(index < kKmallocClasses);
    REQUIRE(kmalloc_class_size(index) >= size);
    if (index != 0) REQUIRE(kmalloc_class_size(index - 1) < size);
  }
  CHECK(kmalloc_class_size(kKmallocClasses - 1) == kKmallocLimit);
}
