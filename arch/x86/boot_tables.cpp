// Storage of the first page tables; boot/early.cpp fills them before paging.
#include "arch/boot_info.hpp"
#include "arch/layout.hpp"
#include "arch/pte.hpp"

namespace paean::arch {

[[gnu::section(".bss.page_aligned")]] constinit PageDirectory kernel_directories[3];
[[gnu::section(".bss.page_aligned")]] constinit PageTable image_tables[kImageWindowSize / kLargePageSize];
[[gnu::section(".bss.page_aligned")]] constinit PageTable fixmap_tables[4];
[[gnu::section(".bss.page_aligned")]] constinit PageTable identity_table;
[[gnu::section(".bss.page_aligned")]] constinit PageDirectory identity_directory;
constinit Pdpt kernel_pdpt{};
constinit BootInfo boot_info{};

}  // namespace paean::arch
