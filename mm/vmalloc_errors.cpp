// What to say when no live area begins at an address that is freed. In a file of its own, so that the compiler does not
// know that vmalloc_misuse() never returns: vfree then jumps here.
#include "lib/symbols.hpp"
#include "mm/vmalloc_area.hpp"

namespace paean {

namespace {

std::string_view name(VmKind kind) {
  switch (kind) {
    case VmKind::Vmalloc: return "vmalloc";
    case VmKind::Vmap: return "vmap";
    case VmKind::Ioremap: return "ioremap";
    case VmKind::Stacks: return "thread stacks";
    case VmKind::Compound: return "a virtual block of pages";
  }
  return "?";
}

void write_story(Sink& out, VirtAddr at) {
  const std::optional<VmAreaInfo> area = describe_address(at);
  if (!area) return format_to(out, "it is no vmalloc address");
  switch (area->state) {
    case VmState::Free: return format_to(out, "nothing is there; freed twice?");
    case VmState::Cached:
    case VmState::Parked: format_to(out, "freed already; it was"); break;
    case VmState::Live: format_to(out, "{}", at == area->start ? "it is" : "it lies inside"); break;
  }
  format_to(out, " an area of {}, {:08x}-{:08x} for ", name(area->kind), area->start, area->end);
  if (area->name != nullptr) return format_to(out, "{}", area->name);
  const Symbol owner = find_symbol(area->caller);
  format_to(out, "{}+{:#x}", owner.name, owner.offset);
}

}  // namespace

void vmalloc_misuse(const void* at, const char* what, const void* caller) {
  char text[160];
  BufferSink story{text};
  write_story(story, VirtAddr{reinterpret_cast<u32>(at)});
  const Symbol from = find_symbol(VirtAddr{reinterpret_cast<u32>(caller)});
  panic("{} of {:08x}: {} (called from {}+{:#x})", what, VirtAddr{reinterpret_cast<u32>(at)}, story.view(), from.name,
        from.offset);
}

}  // namespace paean
