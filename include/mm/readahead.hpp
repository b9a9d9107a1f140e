// How far to read ahead of a reader: pure arithmetic on the state of one open file.
//
//   read so far    |<- window ->|  asked for already
//   ---------------+------------+
//                  ^ mark        ^ ahead_to
//
// A reader who continues where he was gets a window of pages at once, of 4 pages first and then twice as many each
// time, up to 128 (512 KiB: what one command of a disk carries). When he comes to the mark, a window before the end of
// what has been asked for, the next window is started, so that the device works while he reads. Whoever jumps gets the
// page that he wanted; the next window after that is small again. Folios grow with the window: 16 pages from 64 on.
//
// Context: any; the owner of the open file serialises, and if he does not, a wrong guess is the worst that comes of it.
// Source: Linux's ondemand read-ahead, without its history look-up in the cache.
#pragma once

#include "lib/addr.hpp"

namespace paean {

/// Of one open file: how far it has come and how much it asks for at a time.
struct ReadAhead {
  u32 next = 0;      // page index that would continue the sequence
  u32 ahead_to = 0;  // first page index that has not been asked for
  u32 window = 0;    // pages asked for last time; 0: not sequential
};

inline constexpr u32 kFirstWindow = 4, kMaxWindow = 128;

/// What to ask the store for.
struct ReadPlan {
  u32 start = 0;
  u32 pages = 0;
  Order largest{};  // no folio is larger
};

constexpr Order order_for_window(u32 window) {
  u32 order = 0;
  while (order < 4 && (kFirstWindow << (order + 1)) <= window) ++order;
  return Order{order};
}

/// The same page again, a part of it at a time, is no jump.
constexpr bool continues(const ReadAhead& state, u32 index) { return index == state.next || index + 1 == state.next; }

constexpr u32 next_window(u32 window) {
  if (window == 0) return kFirstWindow;
  return window >= kMaxWindow / 2 ? kMaxWindow : window * 2;
}

/// The page `index`, below `file_pages`, is not there; the reader wants `wanted` pages from it on, at least 1.
constexpr ReadPlan plan_for_miss(ReadAhead& state, u32 index, u32 wanted, u32 file_pages) {
  const bool sequential = continues(state, index) || (state.window != 0 && index == state.ahead_to);
  state.window = sequential ? next_window(state.window) : 0;
  u32 pages = state.window == 0 ? 1 : state.window;
  if (wanted > pages) pages = wanted < kMaxWindow ? wanted : kMaxWindow;
  if (pages > file_pages - index) pages = file_pages - index;
  state.ahead_to = index + pages;
  state.next = index + 1;
  return {index, pages, order_for_window(pages > state.window ? pages : state.window)};
}

/// The page `index` is there. True if the next window should be started: plan_ahead().
constexpr bool note_hit(ReadAhead& state, u32 index, u32 file_pages) {
  if (!continues(state, index)) state.window = 0;
  state.next = index + 1;
  return state.window != 0 && index + state.window >= state.ahead_to && state.ahead_to < file_pages;
}

constexpr ReadPlan plan_ahead(ReadAhead& state, u32 file_pages) {
  state.window = next_window(state.window);
  const u32 start = state.ahead_to > state.next ? state.ahead_to : state.next;
  if (start >= file_pages) return {};
  const u32 pages = state.window < file_pages - start ? state.window : file_pages - start;
  state.ahead_to = start + pages;
  return {start, pages, order_for_window(state.window)};
}

}  // namespace paean
