#include "mm/block_mirror.hpp"

#include "arch/pdpt.hpp"
#include "mm/highmem.hpp"

namespace paean {

namespace {

void set_entry(arch::Pde& entry, arch::PteValue value) {
  if (value.present())
    entry.set(value);
  else
    entry.clear();
}

}  // namespace

constinit BlockMirror* first_block_mirror = nullptr;

void add_block_mirror(BlockMirror& mirror) {
  const arch::FixWindow master{arch::kernel_directory(arch::pdpt_index(arch::kBlockWindowStart))};
  const KmapLocal map{mirror.directory};
  for (u32 i = 0; i < arch::kBlockWindows; ++i) {
    const u32 index = arch::pd_index(arch::kBlockWindowStart) + i;
    set_entry(map.as<arch::PageDirectory>()->entries[index], master.as<arch::PageDirectory>()->entries[index].load());
  }
  mirror.next = first_block_mirror;
  mirror.previous = nullptr;
  if (first_block_mirror != nullptr) first_block_mirror->previous = &mirror;
  first_block_mirror = &mirror;
}

void remove_block_mirror(BlockMirror& mirror) {
  (mirror.previous != nullptr ? mirror.previous->next : first_block_mirror) = mirror.next;
  if (mirror.next != nullptr) mirror.next->previous = mirror.previous;
}

void change_block_mirrors(VirtAddr at, arch::PteValue value) {
  for (BlockMirror* mirror = first_block_mirror; mirror != nullptr; mirror = mirror->next) {
    const KmapLocal map{mirror->directory};
    set_entry(map.as<arch::PageDirectory>()->entries[arch::pd_index(at)], value);
  }
}

}  // namespace paean
