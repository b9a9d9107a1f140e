// Benchmarks that register themselves.
//
//   KBENCH(alloc_free_high, "allocate and free one highmem page") {
//     bench.run([&] { free_page(*alloc_page(...)); });          // the body inlines into the measured loop
//   }
//   KBENCH(alloc_batch_2048, "2048 high pages, then free them", .iterations = 100) { ... }
//   KBENCH(boot, "entry to prompt") { bench.report(BenchValue::whole(boot_cost()), bench.unit()); }
//
// run() warms up, turns interrupts off, and counts the clock over the loop; what the same loop costs with an empty body
// is subtracted. Under `-icount shift=0,sleep=off` the clock is the guest's instruction count and the figure repeats
// exactly; otherwise it is TSC cycles. The unit is always printed.
// Values that the body captures are read again for each call; constants cost nothing.
// keep(value) makes the compiler believe that a value is needed, so that work for it is not optimised away.
// Context: a kernel thread. The body runs with interrupts off: it must not sleep.
#pragma once

#include <string_view>
#include <type_traits>

#include "arch/irq.hpp"
#include "arch/tsc.hpp"
#include "kernel/bench/report.hpp"

namespace paean {

template <typename T>
[[gnu::always_inline]] inline void keep(const T& value) {
  if constexpr (std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(u32)) {  // NOLINT: T may be a pointer
    asm volatile("" : : "r,m"(value) : "memory");
  } else {
    asm volatile("" : : "m"(value) : "memory");
  }
}

struct BenchOptions {
  u32 iterations = 20'000;  // at least 1
  u32 warm_up = 16;         // fills caches, per-CPU stacks and the emulator's translations
};

/// What a running benchmark measures with. Made by the runner, one for each benchmark.
class BenchContext {
 public:
  BenchContext(std::string_view name, BenchOptions options, Sink& out) : name_(name), options_(options), out_(out) {}

  /// Measures the body and writes the line. The value is for one call of the body.
  template <typename Body>
  void run(Body&& body) {
    for (u32 i = 0; i < options_.warm_up; ++i) body();
    const u64 loop = measure(options_.iterations, [] {});
    const u64 total = measure(options_.iterations, body);
    report(BenchValue::ratio(total > loop ? total - loop : 0, options_.iterations), unit());
  }
  /// The same with interrupts on, for what may sleep; a tick comes once in ten million instructions and does not show.
  /// The value is for one of the `parts` that a call of the body does.
  template <typename Body>
  void run_with_interrupts(u32 parts, Body body) {
    for (u32 i = 0; i < options_.warm_up; ++i) body();
    const u64 loop = clock_of(options_.iterations, [] {});
    const u64 total = clock_of(options_.iterations, body);
    report(BenchValue::ratio(total > loop ? total - loop : 0, options_.iterations * parts), unit());
  }

  /// Writes a line for a benchmark that measured itself.
  void report(BenchValue value, std::string_view unit);
  /// The same for a line with more than a value and its unit: `BENCH name text`.
  void report(std::string_view text);
  /// A line of explanation.
  template <typename... Values>
  void note(FormatString<std::type_identity_t<Values>...> format, const Values&... values) {
    out_.write("# ");
    format_to(out_, format, values...);
    out_.write("\n");
  }
  /// Says why this machine cannot run it.
  void skip(const char* why);
  /// The unit of run(): insn/op or cycles/op.
  std::string_view unit() const;

  u32 iterations() const { return options_.iterations; }
  /// Lines written; a benchmark that ends with none and was not skipped has failed.
  u32 reports() const { return reports_; }
  bool skipped() const { return skipped_; }

 private:
  template <typename Body>
  [[gnu::noinline]] static u64 measure(u32 iterations, Body&& body) {
    const arch::IrqsOffGuard irqs_off;
    return loop_of(iterations, body);
  }
  template <typename Body>
  [[gnu::noinline]] static u64 clock_of(u32 iterations, Body body) {
    return loop_of(iterations, body);
  }
  // Inlined into functions that are not, so that the empty body is measured in exactly the loop that the real one gets.
  template <typename Body>
  [[gnu::always_inline]] static u64 loop_of(u32 iterations, Body&& body) {
    const u64 begin = arch::read_tsc();
    u32 left = iterations;
    bool again = true;
    do {
      body();
      // In memory and written out, so that every loop costs the same two instructions however many registers its body
      // needs, and so that an empty one is not optimised away.
      asm volatile("decl %0" : "+m"(left), "=@ccnz"(again) : : "memory");
    } while (again);
    return arch::read_tsc() - begin;
  }

  std::string_view name_;
  BenchOptions options_;
  Sink& out_;
  u32 reports_ = 0;
  bool skipped_ = false;
};

/// One entry of linker section `kbenches`. The alignment keeps the linker's concatenation an array; the macro
/// repeats it, because g++ would align a variable of 32 bytes to 32.
struct alignas(16) BenchCase {
  const char* name;
  const char* what;
  void (*body)(BenchContext& bench);
  BenchOptions options{};
};

struct BenchTotals {
  u32 ran = 0;
  u32 failed = 0;
  u32 skipped = 0;
};

/// Runs every KBENCH that the comma-separated globs (or `all`) select. A selection that chooses nothing fails.
BenchTotals run_benches(std::string_view selection, Sink& sink);

}  // namespace paean

#define KBENCH(bench_name, what_text, ...)                                                            \
  static void kbench_##bench_name(::paean::BenchContext& bench);                                      \
  [[gnu::used, gnu::section("kbenches"),                                                              \
    gnu::aligned(16)]] static constinit const ::paean::BenchCase kbench_case_##bench_name = {         \
      .name = #bench_name, .what = what_text, .body = kbench_##bench_name, .options = {__VA_ARGS__}}; \
  static void kbench_##bench_name([[maybe_unused]] ::paean::BenchContext& bench)
