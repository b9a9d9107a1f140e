// Arguments and environment of a program that is about to start.
//
//   pages in highmem   | argv[0] 0 argv[1] 0 ... | envp[0] 0 ... |
//   stack of the new   argc | argv pointers 0 | envp pointers 0 | auxiliary vector | ... | the same bytes | end
//
// They are kept outside of any address space while the old one goes and the new one comes.
// Errors: TooLarge beyond kMostBytes (E2BIG), OutOfMemory, BadAddress.
#pragma once

#include "lib/addr.hpp"
#include "lib/result.hpp"
#include "mm/page.hpp"

namespace paean {

class ArgumentPages {
 public:
  static constexpr u32 kMostPages = 64, kMostBytes = kMostPages * kPageSize;

  ArgumentPages() = default;
  ~ArgumentPages();
  ArgumentPages(const ArgumentPages&) = delete;
  ArgumentPages& operator=(const ArgumentPages&) = delete;

  /// The next string. All arguments first; what comes after begin_environment() is environment.
  Result<> add(std::string_view text);
  void begin_environment() { arguments_ = strings_; }
  /// A list of pointers that ends with 0, in the running program; 0 is an empty list.
  Result<> add_user_list(VirtAddr list);

  u32 arguments() const { return arguments_; }
  u32 environment() const { return strings_ - arguments_; }
  u32 bytes() const { return bytes_; }
  /// All strings to `to`; then their addresses to `argv` and `envp`, each list with its 0.
  Result<> copy_out(VirtAddr to, VirtAddr argv, VirtAddr envp) const;

 private:
  Result<> append(std::string_view text);
  Result<> add_user(VirtAddr string);
  Result<> end_string();
  u32 length_at(u32 at) const;

  Page* pages_[kMostPages]{};
  u32 bytes_ = 0, strings_ = 0, arguments_ = 0;
};

}  // namespace paean
