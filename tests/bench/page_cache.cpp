// What a page of a cached file costs, 1,024 instructions of which are the copy.
#include "mm/page_cache.hpp"
#include "kernel/bench/kbench.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kFilePages = 256;

/// Pages that are filled by saying so.
class NoStore final : public BackingStore {
 public:
  void read_folio(AddressSpace& /*space*/, Folio& folio) override { folio.end_read({}); }
  void write_folio(AddressSpace& /*space*/, Folio& folio) override { folio.end_write({}); }
  Result<> prepare_write(AddressSpace& /*space*/, u64 /*offset*/, u32 /*bytes*/) override { return {}; }
};

/// Copies whole pages between the file and lowmem, page after page, all of them cached.
template <typename Transfer>
void each_page(BenchContext& bench, Transfer transfer) {
  NoStore store;
  AddressSpace file{store, PageCount{kFilePages}.bytes()};
  const Result<void*> memory = kmalloc(kPageSize, AllocFlags::Kernel);
  if (!memory) return bench.skip("no memory");
  const std::span<u8> buffer{static_cast<u8*>(*memory), kPageSize};
  ReadAhead ahead;
  for (u32 i = 0; i < kFilePages; ++i) ASSERT(file.read(PageCount{i}.bytes(), buffer, &ahead).has_value());
  u32 page = 0;
  bench.run([&] { transfer(file, PageCount{page++ % kFilePages}.bytes(), buffer, ahead); });
  ASSERT(file.truncate(0).has_value());
  kfree(*memory);
}

}  // namespace

KBENCH(cache_read_page, "a cached page of a file, through read(), page after page") {
  each_page(bench, [](AddressSpace& file, u64 offset, std::span<u8> buffer, ReadAhead& ahead) {
    keep(*file.read(offset, buffer, &ahead));
  });
}

KBENCH(cache_write_page, "a cached page of a file that is dirty already, through write()", .iterations = 2000) {
  each_page(bench, [](AddressSpace& file, u64 offset, std::span<u8> buffer, ReadAhead& /*ahead*/) {
    keep(*file.write(offset, buffer));
  });
}

}  // namespace paean
