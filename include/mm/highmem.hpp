// Reaching the contents of a page that may have no address, for a short time on one CPU.
//
//   {
//     KmapLocal map{page};             // may be preempted, may sleep, takes interrupts; stays on its CPU
//     map.as<Header>()->count = 0;
//   }
//   KmapAtomic map{page};              // the same without preemption: nothing in the scope may sleep
//
// Both use this CPU's fixmap slots (arch/fixmap.hpp): an entry written, an entry cleared, one invlpg, no lock, nothing
// sent to other CPUs. Interrupts nest theirs on top. A thread's local maps are taken out of the slots when it is
// switched away and put back, at the same addresses, when it returns (mm/kmap_switch.cpp); a thread that holds any
// stays on its CPU. A lowmem page costs nothing: its direct address is used, unless `kmap=force`. For maps that last,
// or that other CPUs use, see mm/kmap.hpp.
// Context: any. Guards end in reverse order. Errors: 17 nested maps, and ends out of order, twice or by another thread,
// panic with the caller's name. The bare functions exist for code that is used to them.
#pragma once

#include <span>

#include "arch/fixmap.hpp"
#include "kernel/preempt.hpp"
#include "mm/lowmem.hpp"
#include "mm/page.hpp"

namespace paean {

class Thread;

/// Pages whose word lies below this distance from the first one have an address: four times direct_map.end, or 0 for
/// `kmap=force`. In bytes of page words, so that the test needs no shift.
extern u32 direct_words;

[[gnu::always_inline]] inline u32 word_distance(const Page* page) {
  return static_cast<u32>(reinterpret_cast<const u8*>(page) - reinterpret_cast<const u8*>(frame_words));
}
/// May the page be used without a map?
[[gnu::always_inline]] inline bool has_address(const Page* page) { return word_distance(page) < direct_words; }
/// Of a page that has_address().
[[gnu::always_inline]] inline void* direct_address(const Page* page) {
  return reinterpret_cast<void*>(direct_map.page_offset.raw() + (word_distance(page) << (kPageShift - 2)));
}

/// Of a page without an address, by its word_distance(), which times 1024 is the frame's address. Ends with
/// fix_pop_newest() or unmap_local().
[[gnu::always_inline]] inline void* push_local_map(u32 distance) {
  return arch::fix_push(distance << (kPageShift - 2), distance >> (32 - (kPageShift - 2)));
}
[[gnu::always_inline]] inline void* kmap_local_page(const Page* page) {
  if (has_address(page)) [[unlikely]]  // highmem is what the maps are for
    return direct_address(page);
  return push_local_map(word_distance(page));
}
/// `at` is what kmap_local_page() gave.
[[gnu::always_inline]] inline void unmap_local(const void* at) {
  if (arch::fix_try_pop(at)) [[likely]]
    return;
  if (at >= reinterpret_cast<void*>(arch::kFixmapStart.raw())) arch::fix_pop_exactly(at);  // which panics
}
/// Any byte of the page. Panics unless it is the newest local map, or a direct address.
void kunmap_local(const void* at);

[[gnu::always_inline]] inline void* kmap_atomic(const Page* page) {
  preempt_disable();
  return kmap_local_page(page);
}
void kunmap_atomic(const void* at);

/// What a guard shows of its page.
class MapView {
 public:
  MapView(const MapView&) = delete;
  MapView& operator=(const MapView&) = delete;
  void* data() const { return at_; }
  std::span<u8, kPageSize> bytes() const { return std::span<u8, kPageSize>{static_cast<u8*>(at_), kPageSize}; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(at_);
  }

 protected:
  explicit MapView(void* at) : at_(at) {}
  ~MapView() = default;

 private:
  void* at_;
};

class [[nodiscard]] KmapLocal : public MapView {
 public:
  explicit KmapLocal(const Page* page) : MapView(kmap_local_page(page)) {}
  ~KmapLocal() { unmap_local(data()); }
};

class [[nodiscard]] KmapAtomic : public MapView {
 public:
  explicit KmapAtomic(const Page* page) : MapView(kmap_atomic(page)) {}
  ~KmapAtomic() {
    unmap_local(data());
    preempt_enable();
  }
};

/// Registers the switch hook. Boot, once.
void init_local_maps();
/// Of a thread that does not run: it may continue only on its CPU.
bool holds_local_maps(Thread* thread);

/// As memcpy. In words, because what compilers put here for a length that they do not know goes byte by byte.
[[gnu::always_inline]] inline void copy_bytes(void* to, const void* from, usize count) {
  usize words = count / 4;
  asm volatile("rep movsl\n movl %3, %%ecx\n rep movsb"
               : "+D"(to), "+S"(from), "+c"(words)
               : "r"(count % 4)
               : "memory");
}

/// Fills a page with zeros.
void clear_highpage(Page* page);
void copy_highpage(Page* to, const Page* from);
/// A part of a page; must end within it (asserted).
void zero_user(Page* page, u32 offset, u32 length);
void copy_to_page(Page* page, u32 offset, std::span<const u8> from);
void copy_from_page(std::span<u8> to, const Page* page, u32 offset);

/// The address of a page that has one until it is freed: lowmem, and every page of a virtual block, which is where the
/// block has it; nullopt for other highmem.
inline std::optional<VirtAddr> page_address(const Page* page) {
  if (const u32 word = page->word(); Page::type_in(word) == PageType::VCompound) return Page::address_in(word);
  const auto low = to_low(page_to_pfn(page));
  if (!low) return std::nullopt;
  return low->address();
}

}  // namespace paean
