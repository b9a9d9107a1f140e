// Out of memory: the last thing that is tried before a request fails.
//
//   cache, shrinkers, ... gave nothing --> OomTurn --> somebody else's turn meanwhile? look again
//                                             |
//                                             +--> kill(): who ends programs chooses one, kills it, and waits for its
//                                                  memory: look again. Nobody left to kill: the request fails
//
// Only requests of programs, for pages from anywhere: those that may wait, for single pages and small blocks, and would
// complain if they failed; who says NoWarn has another way. Where lowmem is short no size of a program says who is to
// blame, and a request for it is an error that its caller hands on. So is a new address space: fork fails.
// mm knows no processes: kernel/process/oom.cpp does, and says so at boot.
// Waiting is bounded everywhere, because whoever asks may hold a lock that the victim needs in order to end.
// Source: Linux's OOM killer.
#pragma once

#include "mm/page_alloc.hpp"

namespace paean {

/// Larger blocks are not worth a life; Linux's PAGE_ALLOC_COSTLY_ORDER.
inline constexpr u32 kWorthALife = 3;

/// Ends a program for a request. True if a look is worth while: memory has come back, or the next call will find
/// another victim. False: there is nobody, or it is the caller itself that has to end. Thread that may sleep.
using OomKiller = bool (*)(AllocFlags flags, Order order);
/// Boot, once.
void set_oom_killer(OomKiller killer);

/// One thread at a time decides; for a scope. Empty for whom nobody is killed.
class [[nodiscard]] OomTurn {
 public:
  OomTurn(AllocFlags flags, Order order);
  ~OomTurn();
  OomTurn(const OomTurn&) = delete;
  OomTurn& operator=(const OomTurn&) = delete;
  explicit operator bool() const { return mine_; }
  /// As OomKiller says.
  bool kill(AllocFlags flags, Order order);

 private:
  bool mine_ = false;
};

/// What memory looks like, as Linux reports it when it kills: zones, free blocks, cache; and the ledger's largest
/// owners.
void print_memory_report(Sink& out);

}  // namespace paean
