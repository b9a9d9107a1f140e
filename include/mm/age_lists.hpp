// Which cached folios go first: two lists by age, a second chance, and ageing that never stops.
//
//   new --> | inactive | -- used twice since it came --> | active |
//              |  oldest first                              |  oldest first: one is looked at for every inactive one,
//              v                                            v  two while the active list is the longer one
//       take(): may go                          back to inactive, unless used meanwhile
//
// What was read once leaves before what was used again, so that one pass over a large file does not sweep the cache.
// And because the active list ages as fast as pages go, what nobody wants any more leaves it in one turn, whatever its
// length: a new working set of up to the whole memory is cached after that, as under exact LRU.
//
// `Aged` says how to look at an element: pages(T&), test_and_clear_used(T&), age(T&), set_age(T&, Age), and has the
// List, a LinkedList through the element.
//
// Context: the owner serialises. Pure.
// Source: the active and inactive lists of Linux; 2Q (Johnson and Shasha); the ageing is CLOCK's.
#pragma once

#include "lib/assert.hpp"
#include "mm/linked_list.hpp"

namespace paean {

enum class Age : u8 { Inactive, Active };

template <typename T, typename Aged>
class AgeLists {
 public:
  /// The newest, not used yet.
  void add(T& item) {
    inactive_.push_back(item);
    pages_ += Aged::pages(item);
  }
  void remove(T& item) {
    const u32 pages = Aged::pages(item);
    pages_ -= pages;
    if (Aged::age(item) == Age::Active) {
      active_pages_ -= pages;
      active_.erase(item);
      Aged::set_age(item, Age::Inactive);
    } else {
      inactive_.erase(item);
    }
  }
  /// The oldest, which has left the lists, if it has not been used twice; nullptr if it has, and stays. If it cannot go
  /// yet, the owner adds it again.
  T* take() {
    age_active();
    if (active_pages_ > inactive_pages()) age_active();
    T* item = inactive_.first();
    if (item == nullptr) return nullptr;
    if (Aged::test_and_clear_used(*item)) {
      activate(*item);
      return nullptr;
    }
    inactive_.erase(*item);
    pages_ -= Aged::pages(*item);
    return item;
  }

  u32 pages() const { return pages_; }
  u32 active_pages() const { return active_pages_; }
  u32 inactive_pages() const { return pages_ - active_pages_; }
  /// Elements of both lists.
  u32 count() const { return active_.count() + inactive_.count(); }
  /// Pages that have gone from list to list so far.
  u32 activated() const { return activated_; }
  u32 deactivated() const { return deactivated_; }

 private:
  void activate(T& item) {
    inactive_.erase(item);
    Aged::set_age(item, Age::Active);
    active_.push_back(item);
    active_pages_ += Aged::pages(item);
    activated_ += Aged::pages(item);
  }
  /// Looks at the oldest one that was in use.
  void age_active() {
    T* item = active_.first();
    if (item == nullptr) return;
    if (Aged::test_and_clear_used(*item)) return active_.move_to_back(*item);
    active_.erase(*item);
    Aged::set_age(*item, Age::Inactive);
    inactive_.push_back(*item);
    active_pages_ -= Aged::pages(*item);
    deactivated_ += Aged::pages(*item);
  }

  typename Aged::List inactive_, active_;
  u32 pages_ = 0, active_pages_ = 0;
  u32 activated_ = 0, deactivated_ = 0;
};

}  // namespace paean
