#include "arch/cpu.hpp"
#include "arch/boot_info.hpp"
#include "arch/fixmap.hpp"
#include "arch/uart.hpp"
#include "arch/traps.hpp"
#include "arch/tsc.hpp"
#include "arch/address_space.hpp"
#include "arch/interrupts.hpp"
#include "lib/log.hpp"
#include "lib/assert.hpp"
namespace paean {
struct S final : Sink { void write(std::string_view t) override { for(char c: t){ if(c=='\n') arch::Uart{0x3f8}.put('\r'); arch::Uart{0x3f8}.put(c);} } };
S s;
extern "C" void kernel_main() {
  arch::set_tsc_at_entry(arch::boot_info.tsc);
  add_console_sink(s);
  arch::init_cpu_features();
  arch::init_descriptors(0,0);
  arch::init_idt();
  arch::init_fix_slots(0);
  log_info("paging on: {} ph {}", arch::cpu_features().brand, arch::cpu_features().physical_bits);
  arch::enable_protection();
  arch::drop_identity_map();
  arch::init_interrupts();
  arch::describe_interrupts(console_sink());
  log_info("tsc {} kHz", arch::tsc_khz());
  arch::for_each_mapping(VirtAddr{0}, VirtAddr{0xffffffff}, [](const arch::MappingRun& r, void*){ print("{:08x}-{:08x} {:#x} ", r.start, r.last, r.physical); arch::print_flags(console_sink(), r.flags); print("\n"); }, nullptr);
  *(volatile int*)0x1234 = 5;
  panic("done {}", 3);
}
}
