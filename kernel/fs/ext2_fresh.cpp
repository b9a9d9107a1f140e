#define BOOST_DISABLE_ASSERTS
#include "kernel/fs/ext2_fresh.hpp"

#include <algorithm>
#include <bit>
#include <memory>

#include "kernel/fault.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

FAULT_SITE(fresh_window, "marks of new blocks of a file");

}  // namespace

Result<> FreshBlocks::add(u32 block) {
  const u64 bit = u64{1} << (block % kWindow);
  {
    const SpinGuard<IrqSave> guard{lock_};
    ++changes_;
    if (const auto at = windows_.find(block / kWindow); at != windows_.end()) {
      at->fresh |= bit;
      return {};
    }
  }
  if (must_fail(fault_fresh_window)) return std::unexpected(Error::OutOfMemory);
  void* place = TRY(kmalloc(sizeof(Window), AllocFlags::Kernel));
  auto* window = std::construct_at(static_cast<Window*>(place), block / kWindow);
  window->fresh = bit;
  const SpinGuard<IrqSave> guard{lock_};
  ASSERT(windows_.insert(*window).second);  // blocks are allocated one at a time
  return {};
}

u64 FreshBlocks::among(u32 first, u32 blocks) const {
  ASSERT(blocks <= kWindow);
  const SpinGuard<IrqSave> guard{lock_};
  u64 found = 0;
  for (auto at = windows_.lower_bound(first / kWindow); at != windows_.end(); ++at) {
    const u32 start = at->number * kWindow;
    if (start > first && start - first >= blocks) break;
    found |= start > first ? at->fresh << (start - first) : at->fresh >> (first - start);
  }
  return blocks == kWindow ? found : found & ((u64{1} << blocks) - 1);
}

u32 FreshBlocks::first() const {
  const SpinGuard<IrqSave> guard{lock_};
  if (windows_.empty()) return kNone;
  const Window& window = *windows_.begin();
  const u32 low = static_cast<u32>(window.fresh), high = static_cast<u32>(window.fresh >> 32);
  return window.number * kWindow + static_cast<u32>(low != 0 ? std::countr_zero(low) : 32 + std::countr_zero(high));
}

/// The bits of a window that stand for blocks from `first` to `last`.
u64 FreshBlocks::marks(const Window& window, u32 first, u32 last) {
  const u32 start = window.number * kWindow;
  const u32 from = std::max(first, start) - start, to = std::min(last, start + kWindow - 1) - start;
  return ~u64{0} >> (kWindow - 1 - (to - from)) << from;
}

void FreshBlocks::change(u32 first, u32 blocks, Step step) {
  if (blocks == 0) return;
  const u32 last = blocks - 1 > ~0u - first ? ~0u : first + (blocks - 1);
  Windows gone;
  {
    const SpinGuard<IrqSave> guard{lock_};
    if (step == Step::Remove) ++changes_;
    for (auto at = windows_.lower_bound(first / kWindow); at != windows_.end() && at->number <= last / kWindow;) {
      Window& window = *at++;
      const u64 bits = marks(window, first, last), written = window.in_flight & bits;
      if (step == Step::Begin) {
        window.in_flight |= window.fresh & bits;
      } else {
        window.in_flight &= ~bits;
        if (step == Step::EndWell) window.fresh &= ~written;
        if (step == Step::Remove) window.fresh &= ~bits;
      }
      if (window.fresh != 0) continue;
      windows_.erase(Windows::s_iterator_to(window));
      gone.insert(window);
    }
  }
  gone.clear_and_dispose([](Window* window) {
    std::destroy_at(window);
    kfree(window);
  });
}

void FreshBlocks::remove(u32 first, u32 blocks) { change(first, blocks, Step::Remove); }
void FreshBlocks::begin(u32 first, u32 blocks) { change(first, blocks, Step::Begin); }
void FreshBlocks::end(u32 first, u32 blocks, Result<> result) {
  change(first, blocks, result ? Step::EndWell : Step::EndBadly);
}

}  // namespace paean
