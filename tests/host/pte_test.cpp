// The order in which page-table entries are written and read, seen from the middle of it.
//
// An entry lies across a page border, its low half at the end of one page and its high half at the start of the next.
// Taking a page's rights away stops set(), clear(), load() and exchange() between their two halves: the signal handler
// is the other CPU, which looks at the entry or changes it through a second mapping of the same memory.
#include "arch/pte.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <csignal>
#include <cstring>

#include "support.hpp"

namespace paean::host {

namespace {

using arch::PteValue;

constexpr u64 kOld = 0x8000000123456067;
constexpr u64 kNew = 0x800000fedcba9063;

/// What the other CPU saw, and what it is to do when it looks.
struct Observer {
  u8* faulting = nullptr;  // the page without rights
  u8* alias = nullptr;     // both pages, always writable
  u64 seen = 0;
  u32 stops = 0;
  enum class Deed : u8 { Look, Replace, SetDirty } deed = Deed::Look;

  u64 value() const {
    u64 bits;
    std::memcpy(&bits, alias + kPageSize - 4, sizeof bits);
    return bits;
  }
  void put(u64 bits) const { std::memcpy(alias + kPageSize - 4, &bits, sizeof bits); }
} observer;

void on_fault(int, siginfo_t*, void*) {
  ++observer.stops;
  mprotect(observer.faulting, kPageSize, PROT_READ | PROT_WRITE);
  observer.seen = observer.value();
  if (observer.deed == Observer::Deed::Replace) observer.put(kNew);
  if (observer.deed == Observer::Deed::SetDirty) observer.put(observer.seen | arch::pte_bits::kDirty);
}

/// Two pages mapped twice.
class SplitEntry {
 public:
  SplitEntry() {
    const int memory = memfd_create("entry", 0);
    REQUIRE(memory >= 0);
    REQUIRE(ftruncate(memory, 2 * kPageSize) == 0);
    at_ = map(memory);
    observer = Observer{};
    observer.alias = map(memory);
    close(memory);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~SplitEntry() {
    sigaction(SIGSEGV, &before_, nullptr);
    munmap(at_, 2 * kPageSize);
    munmap(observer.alias, 2 * kPageSize);
  }
  SplitEntry(const SplitEntry&) = delete;
  SplitEntry& operator=(const SplitEntry&) = delete;

  arch::Pte& entry() const { return *reinterpret_cast<arch::Pte*>(at_ + kPageSize - 4); }
  void stop_at_low(int rights) const { stop(at_, rights); }
  void stop_at_high(int rights) const { stop(at_ + kPageSize, rights); }

 private:
  static u8* map(int memory) {
    void* at = mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    REQUIRE(at != MAP_FAILED);
    return static_cast<u8*>(at);
  }
  static void stop(u8* page, int rights) {
    observer.faulting = page;
    mprotect(page, kPageSize, rights);
  }
  u8* at_ = nullptr;
  struct sigaction before_{};
};

}  // namespace

TEST_SUITE("pte") {
  TEST_CASE("set writes the high half first") {
    const SplitEntry split;
    split.stop_at_low(PROT_READ);
    split.entry().set(PteValue{kNew});
    CHECK(observer.stops == 1);
    CHECK(observer.seen == (kNew & 0xffffffff00000000));  // the high half is there, the entry is not present
    CHECK(observer.value() == kNew);
  }

  TEST_CASE("set has written nothing before the high half") {
    const SplitEntry split;
    split.stop_at_high(PROT_READ);
    split.entry().set(PteValue{kNew});
    CHECK(observer.stops == 1);
    CHECK(observer.seen == 0);
    CHECK(observer.value() == kNew);
  }

  TEST_CASE("clear writes the low half first") {
    const SplitEntry split;
    observer.put(kOld);
    split.stop_at_high(PROT_READ);
    split.entry().clear();
    CHECK(observer.stops == 1);
    CHECK(observer.seen == (kOld & 0xffffffff00000000));  // already not present
    CHECK(observer.value() == 0);
  }

  TEST_CASE("load never joins halves of two values") {
    const SplitEntry split;
    observer.put(kOld);
    observer.deed = Observer::Deed::Replace;
    split.stop_at_low(PROT_NONE);
    CHECK(split.entry().load().raw() == kNew);
    CHECK(observer.stops == 1);

    observer.put(kOld);
    split.stop_at_high(PROT_NONE);
    CHECK(split.entry().load().raw() == kNew);
    CHECK(observer.stops == 2);
  }

  TEST_CASE("exchange returns bits that came between its read and its write") {
    const SplitEntry split;
    observer.put(kOld & ~arch::pte_bits::kDirty);
    observer.deed = Observer::Deed::SetDirty;
    split.stop_at_low(PROT_READ);  // reads pass, the write is stopped
    CHECK(split.entry().exchange(PteValue{kNew}).raw() == (kOld | arch::pte_bits::kDirty));
    CHECK(observer.stops == 1);
    CHECK(observer.value() == kNew);
  }

  TEST_CASE("take returns bits that come until the low half is gone, and takes the high half last") {
    const SplitEntry split;
    observer.put(kOld & ~arch::pte_bits::kDirty);
    observer.deed = Observer::Deed::SetDirty;
    split.stop_at_low(PROT_READ);
    CHECK(split.entry().take().raw() == (kOld | arch::pte_bits::kDirty));
    CHECK(observer.value() == 0);

    observer.put(kOld);
    observer.deed = Observer::Deed::Look;
    split.stop_at_high(PROT_READ);
    CHECK(split.entry().take().raw() == kOld);
    CHECK(observer.stops == 2);
    CHECK(observer.seen == (kOld & 0xffffffff00000000));
    CHECK(observer.value() == 0);
  }

  TEST_CASE("forbid_stores takes one bit and leaves those that come meanwhile") {
    const SplitEntry split;
    observer.put(kOld & ~arch::pte_bits::kDirty);
    observer.deed = Observer::Deed::SetDirty;
    split.stop_at_low(PROT_READ);
    split.entry().forbid_stores();
    CHECK(observer.stops == 1);
    CHECK(observer.value() == ((kOld | arch::pte_bits::kDirty) & ~arch::pte_bits::kWritable));
  }
}

}  // namespace paean::host
