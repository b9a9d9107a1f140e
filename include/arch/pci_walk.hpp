// What can be said about configuration space without a machine: the list of capabilities, the length behind a base
// address register. Pure; `read8(offset)` reads a byte of the device's 256.
// Source: PCI Local Bus Specification 3.0, sections 6.2.5.1 and 6.7.
#pragma once

#include <optional>

#include "lib/types.hpp"

namespace paean::arch {

inline constexpr u32 kPciCapabilities = 0x34, kPciFirstCapability = 0x40;
/// As many as fit, four bytes each: a list that goes on after these is a loop.
inline constexpr u32 kPciMostCapabilities = (256 - kPciFirstCapability) / 4;

/// The capability `id` that has `earlier` others of its kind in front of it. A pointer into the header ends the list.
/// Counting from the start, instead of going on behind one that was found, lets a loop end for every caller.
template <typename Read8>
std::optional<u32> find_pci_capability(Read8 read8, u8 id, u32 earlier) {
  u32 at = read8(kPciCapabilities) & 0xfcu;
  for (u32 seen = 0; at >= kPciFirstCapability && seen < kPciMostCapabilities; ++seen) {
    if (read8(at) == id && earlier-- == 0) return at;
    at = read8(at + 1) & 0xfcu;
  }
  return std::nullopt;
}

/// Bytes that a register decodes, from what it kept of ones in its address bits; 0 if that is no power of two.
constexpr u64 pci_bar_bytes(u64 kept) {
  const u64 lowest = kept & (~kept + 1);
  return kept + lowest == 0 ? lowest : 0;  // the bits above the lowest must all be writable
}

}  // namespace paean::arch
