// Work that a driver cannot do where it finds out about it: start() must not finish a command, but a dead device can
// do nothing else with it.
//
//   DeferredCall call{&fail_them, this};
//   call.raise();                            // any context; `fail_them(this)` runs soon in a thread
//
// Calls of one object do not overlap; a raise() during a call brings another one. The object lives for ever.
#pragma once

#include "lib/result.hpp"

namespace paean {

class DeferredCall {
 public:
  constexpr DeferredCall(void (*run)(void*), void* context) : run_(run), context_(context) {}
  DeferredCall(const DeferredCall&) = delete;
  DeferredCall& operator=(const DeferredCall&) = delete;

  /// Any context. start_deferred_calls() has succeeded.
  void raise();

 private:
  friend struct DeferredThread;
  void (*run_)(void*);
  void* context_;
  DeferredCall* next_ = nullptr;
  u32 raised_ = 0;
};

/// Makes the thread, once; probes call it when they have found a device. May sleep.
Result<> start_deferred_calls();

}  // namespace paean
