// Every byte of physical address space that has a meaning, and what boot took of it.
#include "mm/boot_memory.hpp"

namespace paean {

namespace {

extern "C" char __text_start[], __text_end[], __rodata_end[], __data_end[], __bss_start[], __bss_end[];

PhysAddr physical(const char* linked) { return PhysAddr{u64{reinterpret_cast<u32>(linked)} - arch::kImageOffset}; }

void print_line(Sink& out, u32 depth, PhysRange range, std::string_view what) {
  if (range.empty()) return;
  format_to(out, "{}{:08x}-{:08x} : {}\n", depth == 0 ? "" : "  ", range.begin.raw(), range.end.raw() - 1, what);
}

/// The image's parts get names of their own, as on Linux.
void print_image(Sink& out) {
  print_line(out, 1, {physical(__text_start), physical(__text_end)}, "Kernel code");
  print_line(out, 1, {physical(__text_end), physical(__rodata_end)}, "Kernel rodata");
  print_line(out, 1, {physical(__rodata_end), physical(__bss_start)}, "Kernel data");
  print_line(out, 1, {physical(__bss_start), physical(__bss_end)}, "Kernel bss");
}

}  // namespace

void print_iomem(Sink& out) {
  for (const auto& entry : memory_map().ranges()) {
    print_line(out, 0, entry.range(), name(entry.tag));
    boot_regions().for_each_reserved([&](PhysAddr begin, PhysAddr end, BootReason reason) {
      const PhysRange part = PhysRange{begin, end}.intersect(entry.range());
      if (part.empty()) return;
      if (reason == BootReason::KernelImage)
        print_image(out);
      else
        print_line(out, 1, part, name(reason));
    });
  }
}

}  // namespace paean
