// Rules that other kernels had, in the place of this one's: for tests, which show what a rule is good for by the harm
// that the other one does. One at a time; nothing but a test sets one.
#pragma once

#include <atomic>

#include "lib/types.hpp"

namespace paean {

enum class OldRule : u32 {
  None,
  NodeWideLists,      // cached pages of all zones in one pair of lists: Linux since 4.8
  LowmemDirtyLimits,  // only lowmem counts as memory that may be dirty: Linux without highmem_is_dirtyable
  TablesInLowmem,     // page tables of programs and their directories lie in lowmem: Linux without CONFIG_HIGHPTE
  CachePinsInodes,    // an inode with cached pages does not leave: Linux before 2.4.19
};

inline constinit std::atomic<OldRule> old_rule{OldRule::None};

inline bool follows(OldRule rule) { return old_rule.load(std::memory_order_relaxed) == rule; }

/// In its scope; nothing may be cached when it begins or ends, and no program of the test's may live.
class [[nodiscard]] FollowOldRule {
 public:
  explicit FollowOldRule(OldRule rule) { old_rule.store(rule); }
  ~FollowOldRule() { old_rule.store(OldRule::None); }
  FollowOldRule(const FollowOldRule&) = delete;
  FollowOldRule& operator=(const FollowOldRule&) = delete;
};

}  // namespace paean
