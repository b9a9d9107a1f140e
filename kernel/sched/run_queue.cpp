#include "kernel/scheduler.hpp"

namespace paean {

void RunQueue::push_back(Thread* thread) {
  const u32 level = static_cast<u32>(thread->priority);
  thread->next_ready = nullptr;
  thread->previous_ready = last[level];
  (last[level] != nullptr ? last[level]->next_ready : first[level]) = thread;
  last[level] = thread;
  ready_mask |= 1u << level;
  ++ready_count;
}

void RunQueue::push_front(Thread* thread) {
  const u32 level = static_cast<u32>(thread->priority);
  thread->previous_ready = nullptr;
  thread->next_ready = first[level];
  (first[level] != nullptr ? first[level]->previous_ready : last[level]) = thread;
  first[level] = thread;
  ready_mask |= 1u << level;
  ++ready_count;
}

void RunQueue::remove(Thread* thread) {
  const u32 level = static_cast<u32>(thread->priority);
  (thread->previous_ready != nullptr ? thread->previous_ready->next_ready : first[level]) = thread->next_ready;
  (thread->next_ready != nullptr ? thread->next_ready->previous_ready : last[level]) = thread->previous_ready;
  if (first[level] == nullptr) ready_mask &= ~(1u << level);
  --ready_count;
}

Thread* RunQueue::pop() {
  if (ready_mask == 0) return nullptr;
  Thread* thread = first[best_priority()];
  remove(thread);
  return thread;
}

}  // namespace paean
