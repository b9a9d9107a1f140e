// Random work on cached files against a model of plain bytes, and the cache as large as memory allows.
#include <algorithm>
#include <array>
#include <bit>

#include "fake_store.hpp"
#include "kernel/test/fail_nth.hpp"
#include "kernel/test/ktest.hpp"
#include "mm/zone.hpp"

namespace paean {

namespace {

constexpr u32 kModelBytes = 48 * kPageSize;

/// A file and what it must contain.
class ModelFile {
 public:
  explicit ModelFile(u32 seed) : noise_(seed | 1), file_(kModelBytes, 0) {
    model_ = static_cast<u8*>(*vzalloc(kModelBytes));
    buffer_ = static_cast<u8*>(*vzalloc(kModelBytes));
  }
  ~ModelFile() {
    vfree(buffer_);
    vfree(model_);
  }
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  FakeFile& file() { return *file_; }
  u32 wrong() const { return wrong_; }

  void step() {
    const u32 at = below(kModelBytes),
              bytes = 1 + below(below(8) == 0 ? kModelBytes - at : std::min(9000u, kModelBytes - at));
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
      case 3: return write(at, bytes);
      case 4: return truncate(below(3) == 0 ? at : std::max(at, size_));
      case 5: return sync();
      case 6: (void)file_->space.invalidate(); return;
      case 7: (void)file_->space.start_write_back(below(20)); return;
      case 8: (void)shrink_page_cache(below(10)); return;
      default: return read(at, bytes);
    }
  }
  void compare_all() {
    sync();
    for (u32 i = 0; i < size_; ++i) wrong_ += file_->store.medium()[i] != model_[i] ? 1 : 0;
    read(0, kModelBytes);
  }

 private:
  u32 below(u32 bound) {
    noise_ ^= noise_ << 13, noise_ ^= noise_ >> 17, noise_ ^= noise_ << 5;
    return static_cast<u32>(u64{noise_} * bound >> 32);
  }
  void sync() {
    if (!file_->space.sync()) ++wrong_;
  }
  void write(u32 at, u32 bytes) {
    const u8 value = static_cast<u8>(below(256));
    for (u32 i = 0; i < bytes; ++i) buffer_[i] = static_cast<u8>(value + i);
    if (file_->space.write(at, {buffer_, bytes}) != bytes) ++wrong_;
    __builtin_memcpy(model_ + at, buffer_, bytes);
    size_ = std::max(size_, at + bytes);
  }
  void truncate(u32 size) {
    if (!file_->space.truncate(size)) ++wrong_;
    // As a file system frees the blocks behind the last one.
    const u32 kept = static_cast<u32>(pages_for(size).bytes());
    std::ranges::fill(file_->store.medium().subspan(kept), u8{0});
    if (size < size_) __builtin_memset(model_ + size, 0, kModelBytes - size);
    size_ = size;
    if (file_->space.size() != size_) ++wrong_;
  }
  void read(u32 at, u32 bytes) {
    const u32 wanted = at >= size_ ? 0 : std::min(bytes, size_ - at);
    if (file_->space.read(at, {buffer_, bytes}, below(2) == 0 ? &ahead_ : nullptr) != wanted) ++wrong_;
    for (u32 i = 0; i < wanted; ++i) wrong_ += buffer_[i] != model_[at + i] ? 1 : 0;
  }

  u32 noise_;
  FileHolder file_;
  u8 *model_ = nullptr, *buffer_ = nullptr;
  u32 size_ = 0, wrong_ = 0;
  ReadAhead ahead_;
};

/// Ends the transfers of several stores until it is told to stop.
struct Disturber {
  FakeStore* stores[4]{};
  u32 stop = 0;
  static void run(void* argument) {
    auto& me = *static_cast<Disturber*>(argument);
    while (load(me.stop) == 0) {
      bool moved = false;
      for (FakeStore* fake : me.stores) moved = (fake != nullptr && fake->answer()) || moved;
      if (!moved) thread_yield();
    }
  }
};

struct Worker {
  ModelFile model;
  u32 steps;
  static void run(void* argument) {
    auto& me = *static_cast<Worker*>(argument);
    for (u32 i = 0; i < me.steps; ++i) me.model.step();
    me.model.compare_all();
  }
};

u32 low_pages_used() { return (low_totals().total - low_totals().free).count(); }

/// Lowmem for 1 GiB of cached pages whose contents nobody touches, in KiB.
u32 lowmem_for_a_gib(TestContext& test, Order largest) {
  constexpr u32 kPages = kGiB >> kPageShift;
  const FileHolder file{0, kGiB};
  file->store.largest = largest;
  ReadAhead ahead;
  settle_memory();
  const u32 before = low_pages_used();
  for (u32 i = 0; i < kPages; ++i) {
    if (!file->space.read_page(i, &ahead)) {
      EXPECT_EQ(i, kPages);
      return 0;
    }
  }
  EXPECT_EQ(file->space.pages(), kPages);
  return (low_pages_used() - before) * (kPageSize / kKiB);
}

}  // namespace

KTEST(page_cache_stress, random_work_equals_plain_bytes) {
  ModelFile model{test.random()};
  for (u32 i = 0; i < 1500 && model.wrong() == 0; ++i) model.step();
  model.compare_all();
  EXPECT_EQ(model.wrong(), 0u);
}

KTEST(page_cache_stress, two_cpus_and_slow_stores, .flags = TestFlag::Slow) {
  Worker first{ModelFile{test.random()}, 600}, second{ModelFile{test.random()}, 600};
  Disturber disturber;
  u32 count = 0;
  for (Worker* worker : {&first, &second}) {
    FakeStore& fake = worker->model.file().store;
    fake.answers_reads = fake.answers_writes = Answer::Later;
    disturber.stores[count++] = &fake;
  }
  {
    Crew<2> workers;
    Crew<1> others;
    REQUIRE(others.add("disturber", Disturber::run, &disturber, elsewhere()));
    EXPECT(workers.add("first", Worker::run, &first, here()));
    EXPECT(workers.add("second", Worker::run, &second, elsewhere()));
    workers.join();
    for (Worker* worker : {&first, &second}) (void)worker->model.file().space.truncate(0);
    store(disturber.stop, 1);
  }
  EXPECT_EQ(first.model.wrong() + second.model.wrong(), 0u);
}

KTEST(page_cache_stress, two_cpus_on_one_file, .flags = TestFlag::Slow) {
  using Bytes = std::array<u8, sizeof(u32)>;
  struct Half {
    AddressSpace& space;
    u32 parity, seed;
    u32 wrong = 0;
    static void run(void* argument) {
      auto& me = *static_cast<Half*>(argument);
      u32 values[16]{};
      for (u32 i = 0; i < 3000; ++i) {
        me.seed = me.seed * 1'664'525 + 1'013'904'223;
        const u32 n = me.seed >> 28, offset = (n / 4 * kPageSize) + n % 4 * 1000 + me.parity * 500;
        Bytes got{};
        if (me.space.read(offset, got, nullptr) != 4u || std::bit_cast<u32>(got) != values[n]) ++me.wrong;
        values[n] = me.seed;
        if (me.space.write(offset, std::bit_cast<Bytes>(me.seed)) != 4u) ++me.wrong;
        if (i % 16 == 0) (void)me.space.start_write_back(~0u);
        if (i % 64 == 0) (void)shrink_page_cache(4);
        if (i % 256 == 0 && !me.space.sync()) ++me.wrong;
      }
    }
  };
  const FileHolder file{4 * kPageSize, u64{4} * kPageSize};
  Half even{file->space, 0, test.random()}, odd{file->space, 1, test.random()};
  Crew<2> crew;
  REQUIRE(crew.add("even", Half::run, &even, here()) && crew.add("odd", Half::run, &odd, elsewhere()));
  crew.join();
  EXPECT_EQ(even.wrong + odd.wrong, 0u);
}

KTEST(page_cache_stress, every_failure_is_survived) {
  static constinit u8 bytes[3 * kPageSize]{};
  const u32 met = fail_nth(test, "file", []() -> Result<> {
    class Zeros final : public BackingStore {
     public:
      void read_folio(AddressSpace& /*space*/, Folio& folio) override { folio.end_read({}); }
      void write_folio(AddressSpace& /*space*/, Folio& folio) override { folio.end_write({}); }
      Result<> prepare_write(AddressSpace& /*space*/, u64 /*offset*/, u32 /*bytes*/) override { return {}; }
    } zeros;
    struct File {
      explicit File(BackingStore& store) : space(store, u64{100} * kPageSize) {}
      ~File() { (void)space.truncate(0); }
      AddressSpace space;
    } file{zeros};
    ReadAhead ahead;
    const Result<u32> read = file.space.read(u64{70} * kPageSize, bytes, &ahead);
    TRY(file.space.write(0, bytes));
    TRY(file.space.write(u64{1} << 40, {bytes, 10}));
    TRY(file.space.update(u64{5} * kPageSize, 4, [](std::span<u8>) {}));
    TRY(file.space.sync());
    TRY(read);
    return {};
  });
  test.note("{} failures", met);
  EXPECT(met >= 20);
}

KTEST(page_cache_stress, lowmem_for_a_gib_of_cache, .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
#ifdef PAEAN_DEBUG
  SKIP("objects have red zones");
#endif
  if (high_totals().free.bytes() < kGiB + u64{256} * kMiB) SKIP("too little memory");
  const u32 single = lowmem_for_a_gib(test, Order{0}), large = lowmem_for_a_gib(test, Order{4});
  test.note("{} KiB with single pages, {} KiB with folios of up to 16", single, large);
  EXPECT(single != 0 && single <= 14 * 1024);
  EXPECT(large != 0 && large <= 5 * 1024);
}

KTEST(page_cache_stress, dirty_high_pages_do_not_count_against_lowmem,
      .flags = TestFlag::Slow | TestFlag::NeedsHighmem) {
  const u32 pages = high_totals().free.count() / 4 < 1'000'000 ? 200'000 : 1'000'000;
  if (high_totals().free.count() < pages * 4) SKIP("too little memory");
  const FileHolder file{0, PageCount{pages}.bytes()};
  file->store.largest = Order{0};
  file->store.answers_writes = Answer::Later;  // however long it takes, nothing becomes clean
  set_dirty_limit(pages * 5 / 2);
  const u32 before = page_cache_totals().throttled;
  u32 wrong = 0;
  for (u32 i = 0; i < pages; ++i) {
    if (i != 0 && i % 200'000 == 0) test.note("{} dirty pages", i);
    // A new page for a new byte, whose contents are not touched.
    if (!file->space.update(PageCount{i}.bytes(), 1, [](std::span<u8>) {})) ++wrong;
  }
  EXPECT_EQ(wrong, 0u);
  const PageCacheTotals totals = page_cache_totals();
  EXPECT_EQ(totals.dirty + totals.write_back, pages);
  EXPECT_EQ(totals.throttled, before);
  EXPECT(free_pages_in(ZoneId::Normal) > zone(ZoneId::Normal).high);
  test.note("{} dirty pages; {} kB of lowmem free", pages, low_totals().free.kib());
  set_dirty_limit(0);
  file->store.answers_writes = Answer::AtOnce;
  while (file->store.answer()) {}
  EXPECT(file->space.sync().has_value());
}

KTEST(page_cache_stress, kernel_memory_is_found_while_files_fill_all_of_it, .flags = TestFlag::Slow) {
  if ((low_totals().free + high_totals().free).mib() > 5 * 1024) SKIP("would take long");
  const FileHolder file{0, u64{64} * kGiB};
  const u32 failures = allocation_failures(), evicted = page_cache_totals().evicted;
  ReadAhead ahead;
  u32 index = 0;
  // The totals cost more than a page.
  while (index % 64 != 0 || page_cache_totals().evicted - evicted < 2000) {
    if (!file->space.read_page(index++, &ahead)) break;
  }
  test.note("{} pages cached, {} kB of lowmem free", file->space.pages(), low_totals().free.kib());
  EXPECT(page_cache_totals().evicted - evicted >= 2000);
  struct Chain {
    Chain* next;
  };
  Chain* chain = nullptr;
  u32 got = 0;
  for (; got < 3000; ++got) {
    const Result<void*> block = kmalloc(got % 5 == 0 ? 8192 : 2000, AllocFlags::Kernel);
    if (!block) break;
    chain = new (*block) Chain{chain};
  }
  EXPECT_EQ(got, 3000u);
  EXPECT_EQ(allocation_failures(), failures);
  while (chain != nullptr) kfree(std::exchange(chain, chain->next));
}

}  // namespace paean
