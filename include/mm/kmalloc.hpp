// Memory of any size, with an address.
//
//   void* p = TRY(kmalloc(size, AllocFlags::Kernel));
//   kfree(p);
//
// Up to 8 KiB from caches of 18 sizes, two for each doubling from 64 on: 8 16 32 64 96 128 192 ... 6144 8192. At most a
// third of an object is lost to rounding. Larger sizes, and requests below NORMAL (Dma), are whole blocks of pages. A
// size that is known when compiling chooses its cache then. Beyond 2 KiB, what is returned may be contiguous in
// addresses only (mm/vcompound.hpp), where lowmem has no blocks left: devices get pages, not this.
//
//   size 0              succeeds with kZeroSize, an address that faults when used; kfree() takes it
//   beyond 4 MiB        TooLarge, also for sizes near 4 GiB
//   alignment           8 for sizes up to 8, 16 up to 8 KiB, a page for whole blocks
//
// Contents are undefined unless Zero is among the flags. Context: any, as AllocFlags say. kfree(nullptr) does nothing.
// Wrong frees panic, see mm/slab_fault.hpp.
#pragma once

#include <array>
#include <new>

#include "kernel/panic.hpp"
#include "mm/kmalloc_classes.hpp"
#include "mm/slab.hpp"

namespace paean {

inline constexpr u32 kKmallocMaximum = kPageSize << kMaxOrder;
/// What a size of 0 gets. The first page of the address space is never mapped.
inline void* const kZeroSize = reinterpret_cast<void*>(16);

extern std::array<ObjectCache, kKmallocClasses> kmalloc_caches;
inline constexpr u32 kFirstKmallocCache = 3;  // the first one's number among all caches

// Behind the choice: sizes of 0, whole pages, and in debug builds everything.
[[nodiscard]] Result<void*> kmalloc_any(u32 size, AllocFlags flags);
[[gnu::cold]] void kfree_slowly(void* object);

/// At least `size` bytes.
[[nodiscard, gnu::always_inline]] inline Result<void*> kmalloc(u32 size, AllocFlags flags) {
#ifndef PAEAN_DEBUG
  if (__builtin_constant_p(size) && size != 0 && size <= kKmallocLimit && flags.zone() == ZoneId::Normal) {
    const u32 index = kmalloc_class(size);
    if (flags.has(AllocFlags::Zero)) return take_cleared_object(kmalloc_caches[index], flags);
    if (void* object = SlabFast::take(SlabFast::magazines_of(kFirstKmallocCache + index), 0)) return object;
    return take_object_slowly(kmalloc_caches[index], flags);
  }
#endif
  return kmalloc_any(size, flags);
}
[[nodiscard, gnu::always_inline]] inline Result<void*> kzalloc(u32 size, AllocFlags flags) {
  return kmalloc(size, flags | AllocFlags::Zero);
}
/// Any object of any cache, or what kmalloc() gave.
void kfree(void* object);
/// How many bytes of it may be used: what was asked for, rounded up (in debug builds not rounded up). 0 for nullptr and
/// kZeroSize; asserts that the address is one that kfree() takes.
u32 ksize(const void* object);
/// The same contents in at least `size` bytes, perhaps elsewhere; then the old place is free. If there is no memory the
/// old place stays. nullptr is as kmalloc(). New bytes are undefined.
[[nodiscard]] Result<void*> krealloc(void* object, u32 size, AllocFlags flags);

/// The kernel's own tables, such as hash and wait tables: made once, at boot, there for ever. Memory of kmalloc(), so a
/// large table lies in whatever pages there are. Boot panics if there are none.
template <typename T>
T& make_boot_table() {
  const Result<void*> place = kmalloc(sizeof(T), AllocFlags::Kernel);
  if (!place) panic("no memory for a table of {} bytes", sizeof(T));
  return *new (*place) T();
}

}  // namespace paean
