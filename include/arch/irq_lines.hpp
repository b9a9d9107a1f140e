// Device interrupt lines that several handlers share.
//
//   free --first request: routed and unmasked--> used --last release: masked--> free
//                                                 |
//                                                 +-- nobody claims it 10,000 times in a row: masked, with a message;
//                                                     the next request tries again
//
// Every handler of a line is asked at each interrupt, also behind one that claimed it: on an edge-triggered line two
// devices may have raised a single edge.
// Context: requests and releases from boot and threads; handlers run on any CPU with interrupts off.
// Errors: InvalidArgument for no handler or a line that does not exist, Busy for a line that is somebody's own
// (set_irq_handler()) or is used with the other trigger, TooLarge beyond kIrqLineShares.
#pragma once

#include "arch/interrupts.hpp"
#include "arch/pci.hpp"

namespace paean::arch {

// Room for a disk of each letter on one line, and for others.
inline constexpr u32 kIrqLineShares = 32, kIrqStormLimit = 10'000;

Result<> share_irq_line(u32 line, IrqTrigger trigger, PciHandler handler, void* owner);
/// All requests of this owner for the line. No call of its handler is running or will come afterwards.
void leave_irq_line(u32 line, const void* owner);

/// Handlers of a line.
u32 irq_line_shares(u32 line);
/// Turned off because nobody claimed it.
bool irq_line_is_off(u32 line);

}  // namespace paean::arch
