// The first GiB of addresses, which no kernel mapping uses, as a place where tests may map what they like.
#pragma once

#include "access.hpp"
#include "arch/address_space.hpp"
#include "arch/pdpt.hpp"
#include "arch/tlb.hpp"

namespace paean {

/// A directory of its own in slot 0 of the page-directory-pointer table, with one table in it: 2 MiB of addresses from
/// kStart. Gone, with all its pages, at the end of the scope. Only where no user program has the slot: in tests.
class PrivateSlot {
 public:
  static constexpr VirtAddr kStart{0x08000000};

  PrivateSlot() : directory_(zeroed()), table_(zeroed()), page_(zeroed()) {
    if (!valid()) return;
    set(*directory_, arch::pd_index(kStart), arch::make_table(frame(*table_)));
    arch::write_pdpte(0, pointer());
  }
  ~PrivateSlot() {
    if (valid()) arch::write_pdpte(0, arch::PteValue{});
    for (const Result<Page*>& page : {directory_, table_, page_}) {
      if (page) free_page(*page);
    }
  }
  PrivateSlot(const PrivateSlot&) = delete;
  PrivateSlot& operator=(const PrivateSlot&) = delete;

  bool valid() const { return directory_ && table_ && page_; }
  /// What stands in the slot.
  arch::PteValue pointer() const { return arch::PteValue{number(frame(*directory_)) | arch::pte_bits::kPresent}; }
  /// A page to show, and the leaf that shows it.
  Page* page() const { return *page_; }
  arch::PteValue leaf() const { return arch::make_leaf(frame(*page_), arch::Protection::ReadWrite); }
  /// Writes the entry of page `index`, and does nothing about any TLB.
  void show(u32 index, arch::PteValue value) const { set(*table_, arch::pt_index(kStart) + index, value); }
  static VirtAddr at(u32 index) { return kStart + index * kPageSize; }
  void write_page(u32 value) const { *arch::FixWindow{frame(*page_)}.as<u32>() = value; }

 private:
  static Result<Page*> zeroed() { return alloc_page(AllocFlags::HighUser | AllocFlags::Zero, Owner::Test); }
  static PhysAddr frame(Page* page) { return to_phys(page_to_pfn(page)); }
  static void set(Page* table, u32 index, arch::PteValue value) {
    const arch::FixWindow window{frame(table)};
    arch::Pte& entry = window.as<arch::PageTable>()->entries[index];
    value.present() ? entry.set(value) : entry.clear();
  }

  Result<Page*> directory_, table_, page_;
};

}  // namespace paean
