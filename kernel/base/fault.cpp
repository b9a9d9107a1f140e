#include "kernel/fault.hpp"

#include "kernel/preempt.hpp"
#include "kernel/thread.hpp"
#include "lib/assert.hpp"
#include "lib/parse.hpp"

namespace paean {

constinit std::atomic<u32> faults_armed{0};

namespace {

/// The plan of the thread that has one. `left` counts down to the passage that fails.
struct Plan {
  std::atomic<const Thread*> thread{nullptr};
  std::atomic<u32> left{0};
  FaultMode mode = FaultMode::Once;
  std::atomic<bool> fired{false};
};
constinit Plan plan;

/// Counts a passage off; true if it is the one that fails, or one after it where those fail too.
bool is_due(std::atomic<u32>& left, FaultMode mode) {
  u32 now = left.load();
  do {
    if (now == 0) return false;
    if (now == 1 && mode == FaultMode::FromThenOn) return true;
  } while (!left.compare_exchange_weak(now, now - 1));
  return now == 1;
}

/// Of one in `n`: a number that looks like chance (the finalizer of MurmurHash3) follows from the passage alone.
bool is_drawn(u32 passage, u32 n) {
  u32 mixed = passage * 0x85ebca6b;
  mixed = (mixed ^ mixed >> 13) * 0xc2b2ae35;
  return n != 0 && (mixed ^ mixed >> 16) % n == 0;
}

bool plan_is_due() {
  const Thread* thread = plan.thread.load();
  if (thread == nullptr || thread != current_thread() || in_interrupt()) return false;
  if (!is_due(plan.left, plan.mode)) return false;
  plan.fired = true;
  return true;
}

void complain(Sink& complaints, std::string_view part, const char* what) {
  format_to(complaints, "fault=");
  write_escaped(complaints, part);
  format_to(complaints, " {}\n", what);
}

void arm_part(std::string_view part, Sink& complaints) {
  const usize colon = part.find(':');
  if (colon == std::string_view::npos) return complain(complaints, part, "has no :n behind the site, ignored");
  FaultSite* site = find_fault_site(part.substr(0, colon));
  if (site == nullptr) return complain(complaints, part, "names no site, ignored");
  const std::optional<FaultSpec> spec = parse_fault_spec(part.substr(colon + 1));
  if (!spec) return complain(complaints, part, "has no number from 1 on, ignored");
  arm_fault(*site, spec->n, spec->mode);
}

}  // namespace

bool passes_armed(FaultSite& site) {
  const u32 passage = ++site.passages;
  const bool sometimes = site.mode == FaultMode::Sometimes;
  const bool by_name = sometimes ? is_drawn(passage, site.left.load()) : is_due(site.left, site.mode);
  if (by_name && site.mode == FaultMode::Once) --faults_armed;  // it has had its failure
  const bool fails = plan_is_due() || by_name;
  if (fails) ++site.failures;
  return fails;
}

FaultPlan::FaultPlan(u32 n, FaultMode mode) {
  ASSERT(n != 0 && plan.thread.load() == nullptr);
  plan.left = n;
  plan.mode = mode;
  plan.fired = false;
  plan.thread = current_thread();
  ++faults_armed;
}

FaultPlan::~FaultPlan() {
  --faults_armed;
  plan.thread = nullptr;
}

bool FaultPlan::fired() const { return plan.fired; }

FaultSite* find_fault_site(std::string_view name) {
  FaultSite* found = nullptr;
  for_each_fault_site([&](FaultSite& site) {
    if (name == site.name) found = &site;
  });
  return found;
}

void arm_fault(FaultSite& site, u32 n, FaultMode mode) {
  site.mode = mode;
  if (site.left.exchange(n) == 0) ++faults_armed;
}

void disarm_faults() {
  for_each_fault_site([](FaultSite& site) {
    if (site.left.exchange(0) != 0) --faults_armed;
  });
}

std::optional<FaultSpec> parse_fault_spec(std::string_view text) {
  FaultSpec spec{0, FaultMode::Once};
  if (text.ends_with('+')) {
    spec.mode = FaultMode::FromThenOn;
    text.remove_suffix(1);
  } else if (text.starts_with("1/")) {
    spec.mode = FaultMode::Sometimes;
    text.remove_prefix(2);
  }
  const std::optional<u64> n = parse_number(text);
  if (!n || *n == 0 || *n > 0xffffffff) return std::nullopt;
  spec.n = static_cast<u32>(*n);
  return spec;
}

void arm_faults(const CommandLine& options, Sink& complaints) {
  options.for_each("fault", [&](std::string_view list) {
    while (!list.empty()) {
      const usize comma = list.find(',');
      arm_part(list.substr(0, comma), complaints);
      list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    }
  });
}

void print_faults(Sink& out) {
  format_to(out, "{:<16}{:>10}{:>10}{:>10}  what\n", "site", "armed", "passages", "failures");
  for_each_fault_site([&](const FaultSite& site) {
    const u32 left = site.left.load();
    constexpr char kModes[] = {' ', '+', '/'};  // of an armed one: that passage, it and all later ones, one in so many
    format_to(out, "{:<16}{:>9}{}{:>10}{:>10}  {}\n", site.name, left,
              left == 0 ? ' ' : kModes[std::to_underlying(site.mode)], site.passages.load(), site.failures.load(),
              site.what);
  });
  if (faults_armed.load() == 0) format_to(out, "nothing is armed, so passages are not counted\n");
}

}  // namespace paean
