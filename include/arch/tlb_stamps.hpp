// What was unmapped when: the memory of the checker in tlb_checker.hpp, without any hardware.
//
// A table of fixed size, by the low bits of the key. Of two keys that share a place the younger is remembered, so the
// checker may miss a mistake, but never reports one that is none. Memory is the caller's; so is the lock.
#pragma once

#include <span>

#include "lib/types.hpp"

namespace paean::arch {

class TlbStamps {
 public:
  /// No CPU has flushed for itself what was unmapped.
  static constexpr u8 kNoCpu = 0xff;
  struct Stamp {
    u32 key = 0;         // of a page or a frame
    u32 generation = 0;  // every CPU must have flushed at or after it
    u8 cpu = kNoCpu;     // but for this one
    u8 cpus = 0;         // that were online; later ones have nothing old. 0: this place is empty
  };

  /// `places` must be a power of two.
  constexpr explicit TlbStamps(std::span<Stamp> places) : places_(places) {}

  void put(const Stamp& stamp) { place_of(stamp.key) = stamp; }
  /// nullptr if nothing is known of the key.
  const Stamp* find(u32 key) const {
    const Stamp& stamp = place_of(key);
    return stamp.cpus != 0 && stamp.key == key ? &stamp : nullptr;
  }
  void forget(u32 key) {
    if (find(key) != nullptr) place_of(key) = Stamp{};
  }

 private:
  Stamp& place_of(u32 key) const { return places_[key & (places_.size() - 1)]; }
  std::span<Stamp> places_;
};

/// True if `cpu`, which has flushed up to `flushed`, may still use what the stamp is about. A CPU that idles flushes on
/// its way out, but only for generations that exist: `newest` is the last of them.
enum class CpuState : u8 { Running, Idle };
constexpr bool may_be_stale(const TlbStamps::Stamp& stamp, u32 cpu, u32 flushed, CpuState state, u32 newest) {
  if (cpu == stamp.cpu || cpu >= stamp.cpus) return false;
  if (state == CpuState::Idle && static_cast<i32>(newest - stamp.generation) >= 0) return false;
  return static_cast<i32>(flushed - stamp.generation) < 0;
}

}  // namespace paean::arch
