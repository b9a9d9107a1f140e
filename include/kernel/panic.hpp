// The end of the line: message, place, registers, backtrace, ledger; then what panic= says.
// panic_at() and assert_failed() of lib/assert.hpp and fatal_trap() of arch/traps.hpp end here.
#pragma once

#include "lib/format.hpp"

namespace paean {

/// What happens after the report. Exit (default) leaves through the debug-exit port with the panic code and halts
/// where there is none; Halt stays; Reboot restarts `seconds` after the report.
enum class PanicAction : u8 { Exit, Halt, Reboot };
void set_panic_action(PanicAction action, u32 seconds = 0);

/// Something to add to every report, such as the lowmem ledger. At most four; must not allocate or take locks.
void add_panic_report(void (*report)(Sink& out));

}  // namespace paean
