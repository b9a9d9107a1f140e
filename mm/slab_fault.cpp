#include "mm/slab_fault.hpp"

#include "lib/assert.hpp"
#include "lib/symbols.hpp"

namespace paean {

namespace {

constinit SlabFaultHook the_hook = nullptr;

VirtAddr address(const void* at) { return VirtAddr{reinterpret_cast<u32>(at)}; }

void print_caller(Sink& out, u32 caller) {
  const Symbol symbol = find_symbol(VirtAddr{caller});
  if (symbol.name.empty())
    format_to(out, "{:08x}", caller);
  else
    format_to(out, "{}+{:#x}", symbol.name, symbol.offset);
}

void print_user(Sink& out, std::string_view what, const ObjectUser& user) {
  if (user.caller == 0) return;
  format_to(out, ", {} by ", what);
  print_caller(out, user.caller);
  format_to(out, " (CPU {}, thread {})", user.cpu, user.thread);
}

}  // namespace

SlabFaultHook set_slab_fault_hook(SlabFaultHook hook) { return std::exchange(the_hook, hook); }

void report_slab_fault(const SlabFault& fault) {
  if (the_hook != nullptr) return the_hook(fault);
  char text[400];
  BufferSink story{text};
  format_to(story, "object {:08x} of ", address(fault.object));
  if (fault.cache != nullptr)
    format_to(story, "cache {}", fault.cache);
  else
    format_to(story, "no cache");
  if (fault.where != fault.object) format_to(story, ", byte {:08x}", address(fault.where));
  format_to(story, ", by ");
  print_caller(story, fault.caller);
  if (fault.track) {
    print_user(story, "taken", fault.track->taken);
    print_user(story, "given back", fault.track->given);
  }
  panic("slab: {}: {}", name(fault.kind), story.view());
}

}  // namespace paean
