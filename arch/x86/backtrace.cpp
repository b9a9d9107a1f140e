// What a person needs to see of a fault.
#include "arch/address_space.hpp"
#include "arch/cpu.hpp"
#include "arch/traps.hpp"
#include "lib/symbols.hpp"

namespace paean::arch {

namespace {

constexpr u32 kMaxFrames = 24;

void print_symbol(Sink& out, u32 number, u32 eip) {
  const Symbol symbol = find_symbol(VirtAddr{eip});
  if (symbol.name.empty()) return format_to(out, "#{} {:08x} ?\n", number, eip);
  format_to(out, "#{} {:08x} {}+{:#x}/{:#x}\n", number, eip, symbol.name, symbol.offset, symbol.size);
}

void print_page_fault(Sink& out, const TrapFrame& frame) {
  const u32 cr2 = read_cr2(), e = frame.error;
  const char* access = (e & kPageFaultFetch) != 0 ? "execute" : (e & kPageFaultWrite) != 0 ? "write" : "read";
  const char* why = (e & kPageFaultReserved) != 0  ? "reserved bit set in an entry"
                    : (e & kPageFaultPresent) != 0 ? "protection"
                                                   : "not mapped";
  format_to(out, "{} of {:08x} from {} mode: {} (error {:#x})\n", access, cr2,
            (e & kPageFaultUser) != 0 ? "user" : "kernel", why, e);
  print_walk(out, VirtAddr{cr2});
}

}  // namespace

void print_frame(Sink& out, const TrapFrame& frame) {
  format_to(out, "eip {:08x} cs {:04x} eflags {:08x} vector {} error {:#x}\n", frame.eip, frame.cs & 0xffff,
            frame.eflags, frame.vector, frame.error);
  format_to(out, "eax {:08x} ebx {:08x} ecx {:08x} edx {:08x}\n", frame.eax, frame.ebx, frame.ecx, frame.edx);
  format_to(out, "esi {:08x} edi {:08x} ebp {:08x} esp {:08x}\n", frame.esi, frame.edi, frame.ebp, frame.esp());
  format_to(out, "cr0 {:08x} cr2 {:08x} cr3 {:08x} cr4 {:08x}\n", read_cr0(), read_cr2(), read_cr3(), read_cr4());
  if (frame.vector == kVectorPageFault || frame.vector == kVectorDoubleFault) print_page_fault(out, frame);
  print_backtrace(out, frame.eip, frame.ebp);
}

void print_backtrace(Sink& out, u32 eip, u32 ebp) {
  print_symbol(out, 0, eip);
  for (u32 number = 1; number < kMaxFrames; ++number) {
    if (ebp == 0 || (ebp & 3) != 0) return;
    const Result<u32> next = probe_read(VirtAddr{ebp});
    const Result<u32> caller = probe_read(VirtAddr{ebp + 4});
    if (!next || !caller || *caller == 0) return;
    print_symbol(out, number, *caller);
    if (*next <= ebp) return;  // frames go up the stack; anything else is a broken chain
    ebp = *next;
  }
}

}  // namespace paean::arch
