// Failures on demand, so that the ways out of every error are walked before they are needed.
//
//   FAULT_SITE(page_alloc, "a block of the frame allocator");           // once, at namespace scope of a source
//   if (must_fail(fault_page_alloc)) return std::unexpected(Error::OutOfMemory);
//
// A site stands where a resource is taken. While nothing is armed a passage costs a compare and a jump; as soon as
// anything is, every site counts its passages. Two ways to arm:
//
//   fault=page_alloc:3      (boot line, and `fault page_alloc 3` on the console) the third passage from now fails;
//   fault=page_alloc:3+     it and all that follow
//   fault=page_alloc:1/1000 each by chance, one in a thousand; the same ones in every run with the same passages
//   FaultPlan plan{n, FaultMode::Once};      the n-th passage of this thread through any site, while the plan lives
//
// The plan is what tests use: run an operation with n = 1, 2, ... until it comes through without having met a failure;
// then every site that it passes has failed once.
// Context: sites may stand anywhere, interrupts included; passages in interrupts never count for a plan. Arming: any
// thread; one plan at a time (asserted). Source: fail-nth of Linux's fault injection, sites in a linker section.
#pragma once

#include <atomic>
#include <string_view>

#include "kernel/cmdline.hpp"
#include "lib/format.hpp"
#include "lib/hot_path.hpp"

namespace paean {

enum class FaultMode : u8 { Once, FromThenOn, Sometimes };

/// One entry of linker section `fault_sites`.
struct alignas(32) FaultSite {
  const char* name;
  const char* what;
  std::atomic<u32> passages{0};  // while anything was armed
  std::atomic<u32> failures{0};
  std::atomic<u32> left{0};  // the passage that fails, counted down, or one in so many; 0: not armed by name
  FaultMode mode = FaultMode::Once;
};

/// How many sites and plans are armed.
extern std::atomic<u32> faults_armed;

/// In one comparison with memory, because it stands in the hottest paths.
[[gnu::always_inline]] inline bool any_fault_armed() { return !word_is(faults_armed, 0); }
bool passes_armed(FaultSite& site);
/// True if this passage is to fail.
[[gnu::always_inline]] inline bool must_fail(FaultSite& site) { return any_fault_armed() && passes_armed(site); }

/// Fails the n-th passage, n from 1, of the thread that made it.
class [[nodiscard]] FaultPlan {
 public:
  FaultPlan(u32 n, FaultMode mode);
  ~FaultPlan();
  FaultPlan(const FaultPlan&) = delete;
  FaultPlan& operator=(const FaultPlan&) = delete;
  /// Has anything failed because of it?
  bool fired() const;
};

/// The site of that name; nullptr if there is none.
FaultSite* find_fault_site(std::string_view name);
void arm_fault(FaultSite& site, u32 n, FaultMode mode);
/// Disarms what was armed by name.
void disarm_faults();
/// fn(FaultSite&) for each, in no order.
template <typename Fn>
void for_each_fault_site(Fn fn);

/// `3`, `3+` or `1/3`; n from 1.
struct FaultSpec {
  u32 n;
  FaultMode mode;
};
std::optional<FaultSpec> parse_fault_spec(std::string_view text);

/// fault=site:n[+][,site:1/n...]. Malformed parts and unknown sites are named in `complaints`. Boot, once.
void arm_faults(const CommandLine& options, Sink& complaints);

/// A line a site, for the command.
void print_faults(Sink& out);

extern "C" FaultSite __start_fault_sites[], __stop_fault_sites[];

template <typename Fn>
void for_each_fault_site(Fn fn) {
  for (FaultSite* site = __start_fault_sites; site != __stop_fault_sites; ++site) fn(*site);
}

}  // namespace paean

#define FAULT_SITE(site_name, what_text)                                                                        \
  [[gnu::used, gnu::section("fault_sites"), gnu::aligned(32)]] constinit ::paean::FaultSite fault_##site_name { \
    .name = #site_name, .what = what_text                                                                       \
  }
