// What every host test needs: text as std::string, values that doctest can print, failing assertions as exceptions.
#pragma once

#include <doctest/doctest.h>

#include <ostream>
#include <stdexcept>
#include <string>

#include "lib/assert.hpp"
#include "lib/format.hpp"

namespace paean {

inline std::ostream& operator<<(std::ostream& out, PhysAddr addr) { return out << "phys:0x" << std::hex << addr.raw(); }
inline std::ostream& operator<<(std::ostream& out, VirtAddr addr) { return out << "virt:0x" << std::hex << addr.raw(); }
inline std::ostream& operator<<(std::ostream& out, Pfn pfn) { return out << "pfn:0x" << std::hex << pfn.raw(); }
inline std::ostream& operator<<(std::ostream& out, PageCount pages) { return out << pages.count() << " pages"; }
inline std::ostream& operator<<(std::ostream& out, Order order) { return out << "order " << order.value(); }

}  // namespace paean

namespace paean::host {

/// Everything that was written.
class StringSink final : public Sink {
 public:
  void write(std::string_view text) override { text_ += text; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

template <typename... Args>
std::string formatted(FormatString<std::type_identity_t<Args>...> format, const Args&... args) {
  StringSink sink;
  format_to(sink, format, args...);
  return sink.text();
}

/// What a failed assertion or panic throws while an ExpectPanic lives.
struct Panic : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// In its scope a panic throws Panic instead of aborting, so that a test can look at it:
///   ExpectPanic armed;
///   CHECK_THROWS_AS(zone.free(twice), Panic);
class ExpectPanic {
 public:
  ExpectPanic();
  ~ExpectPanic();
  ExpectPanic(const ExpectPanic&) = delete;
  ExpectPanic& operator=(const ExpectPanic&) = delete;
};

}  // namespace paean::host
