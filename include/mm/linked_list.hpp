// A doubly linked list through two members of its elements, for lists that must exist before any constructor runs.
//
// An element is in one list of a kind at most. All is O(1). The owner serialises. Pure.
#pragma once

#include "lib/types.hpp"

namespace paean {

template <typename T, T* T::* kBefore, T* T::* kBehind>
class LinkedList {
 public:
  bool empty() const { return first_ == nullptr; }
  u32 count() const { return count_; }
  T* first() const { return first_; }
  T* last() const { return last_; }
  static T* behind(const T& element) { return element.*kBehind; }
  static T* before(const T& element) { return element.*kBefore; }

  void push_back(T& element) {
    element.*kBefore = last_;
    element.*kBehind = nullptr;
    (last_ == nullptr ? first_ : last_->*kBehind) = &element;
    last_ = &element;
    ++count_;
  }
  void push_front(T& element) {
    element.*kBefore = nullptr;
    element.*kBehind = first_;
    (first_ == nullptr ? last_ : first_->*kBefore) = &element;
    first_ = &element;
    ++count_;
  }
  void erase(T& element) {
    T *before = element.*kBefore, *behind = element.*kBehind;
    (before == nullptr ? first_ : before->*kBehind) = behind;
    (behind == nullptr ? last_ : behind->*kBefore) = before;
    element.*kBefore = element.*kBehind = nullptr;
    --count_;
  }
  void move_to_front(T& element) {
    erase(element);
    push_front(element);
  }
  void move_to_back(T& element) {
    erase(element);
    push_back(element);
  }

 private:
  T *first_ = nullptr, *last_ = nullptr;
  u32 count_ = 0;
};

}  // namespace paean
