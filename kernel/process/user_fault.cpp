// Exceptions of programs: pages that come at the first touch, and signals for everything else.
#include "arch/user.hpp"
#include "kernel/process/process.hpp"
#include "lib/log.hpp"

namespace paean {

namespace {

constexpr i32 kMapError = 1, kAccessError = 2, kKernel = 128;

void handle_page_fault(const arch::TrapFrame& frame, VirtAddr address) {
  UserAccess access = UserAccess::Read;
  if ((frame.error & arch::kPageFaultWrite) != 0) access = UserAccess::Write;
  if ((frame.error & arch::kPageFaultFetch) != 0) access = UserAccess::Execute;
  FaultResult result = FaultResult::NotMapped;
  if (address < user_end()) result = UserSpace::current()->handle_fault(address, access);
  switch (result) {
    case FaultResult::Handled: return;
    case FaultResult::NotMapped: return force_signal({kSigSegv, kMapError, address.raw()});
    case FaultResult::NotAllowed: return force_signal({kSigSegv, kAccessError, address.raw()});
    case FaultResult::BusError: return force_signal({kSigBus, kAccessError, address.raw()});
    case FaultResult::OutOfMemory:
      if (current_process().ending) return;  // the victim, on its way
      log_warning("out of memory: process {} ends", current_process().id);
      return end_process(current_process(), kSigKill);
  }
}

/// #DE, #DB, #BP, #OF, #BR, #UD ...: Linux's choice.
u32 signal_for(u32 vector) {
  switch (vector) {
    case 0:
    case 16:
    case 19: return kSigFloat;
    case 1:
    case 3: return kSigTrap;
    case 6: return kSigIllegal;
    case 11:
    case 12:
    case 17: return kSigBus;
    default: return kSigSegv;
  }
}

}  // namespace

}  // namespace paean

void paean::arch::on_user_exception(TrapFrame& frame, VirtAddr address) {
  if (frame.vector == kVectorPageFault) return handle_page_fault(frame, address);
  constexpr u32 kTrapFlag = 1u << 8, kDebug = 1;
  if (frame.vector == kDebug) frame.eflags &= ~kTrapFlag;
  force_signal({signal_for(frame.vector), kKernel, frame.eip});
}
