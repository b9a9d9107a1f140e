// Reaching the contents of a page that may have no address.
//
//   {
//     KmapAtomic map{page};
//     map.as<Header>()->count = 0;     // nothing here may sleep or change the CPU
//   }
//
// KmapAtomic uses this CPU's fixmap slots (arch/fixmap.hpp): a PTE written, a PTE cleared, one invlpg, no lock, nothing
// sent to other CPUs; interrupts may nest theirs on top. A lowmem page costs nothing: its direct address is used.
// Context: any; the scope stays on its CPU, and guards end in reverse order. Errors: 17 nested maps panic.
#pragma once

#include <span>

#include "arch/fixmap.hpp"
#include "mm/lowmem.hpp"
#include "mm/page.hpp"

namespace paean {

class [[nodiscard]] KmapAtomic {
 public:
  explicit KmapAtomic(const Page* page) : at_(map(page_to_pfn(page))) {}
  ~KmapAtomic() {
    if (at_ >= reinterpret_cast<void*>(arch::kFixmapStart.raw())) arch::fix_pop(at_);
  }
  KmapAtomic(const KmapAtomic&) = delete;
  KmapAtomic& operator=(const KmapAtomic&) = delete;

  void* data() const { return at_; }
  std::span<u8, kPageSize> bytes() const { return std::span<u8, kPageSize>{static_cast<u8*>(at_), kPageSize}; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(at_);
  }

 private:
  static void* map(Pfn pfn) {
    if (const auto low = to_low(pfn)) return low->pointer();
    return arch::fix_push(to_phys(pfn));
  }
  void* at_;
};

/// Fills a page with zeros.
void clear_highpage(Page* page);

/// The address of a page that has one for ever; nullopt for highmem.
inline std::optional<VirtAddr> page_address(const Page* page) {
  const auto low = to_low(page_to_pfn(page));
  if (!low) return std::nullopt;
  return low->address();
}

}  // namespace paean
