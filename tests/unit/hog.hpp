// Lowmem that tests take away, so that it becomes short.
#pragma once

#include <utility>

#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

/// Lowmem that a test takes away, and gives back at its end.
class Hog {
 public:
  Hog() = default;
  ~Hog() { let_go(); }
  void let_go() {
    while (first_ != nullptr) {
      Page* page = first_;
      {
        const KmapLocal map{page};
        first_ = *map.as<Page*>();
      }
      free_page(page);
    }
  }
  Hog(const Hog&) = delete;
  Hog& operator=(const Hog&) = delete;
  /// False if that would need somebody's help.
  bool take() {
    Page* page = take_block_quietly(AllocFlags::Kernel, Order{0}, Owner::Test);
    return page != nullptr && (keep(page), true);
  }
  /// Asking for help, if that is needed.
  bool take_with_help() {
    const Result<Page*> page = alloc_page(AllocFlags::Kernel | AllocFlags::NoWarn, Owner::Test);
    return page && (keep(*page), true);
  }

 private:
  void keep(Page* page) {
    const KmapLocal map{page};
    *map.as<Page*>() = first_;
    first_ = page;
  }
  Page* first_ = nullptr;
};

}  // namespace paean
