#include "kernel/block/deferred.hpp"

#include "kernel/thread.hpp"
#include "kernel/wait.hpp"

namespace paean {

namespace {

constinit DeferredCall* raised_calls = nullptr;  // the newest first; taken as a whole
constinit WaitQueue raised_queue;
constinit bool started = false;

}  // namespace

struct DeferredThread {
  [[noreturn]] static void run(void*) {
    while (true) {
      raised_queue.wait([] { return __atomic_load_n(&raised_calls, __ATOMIC_SEQ_CST) != nullptr; });
      DeferredCall* next = nullptr;
      for (DeferredCall* call = __atomic_exchange_n(&raised_calls, nullptr, __ATOMIC_ACQUIRE); call; call = next) {
        next = call->next_;
        __atomic_store_n(&call->raised_, 0u, __ATOMIC_SEQ_CST);  // before it looks: what comes now raises it again
        call->run_(call->context_);
      }
    }
  }
};

void DeferredCall::raise() {
  if (__atomic_exchange_n(&raised_, 1u, __ATOMIC_SEQ_CST) != 0) return;
  next_ = __atomic_load_n(&raised_calls, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&raised_calls, &next_, this, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {}
  (void)raised_queue.wake_one();
}

Result<> start_deferred_calls() {
  if (started) return {};
  TRY(thread_create("blockwork", DeferredThread::run, nullptr, {.detach = Detach::Yes}));
  started = true;
  return {};
}

}  // namespace paean
