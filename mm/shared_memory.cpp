#include "mm/shared_memory.hpp"

#include <new>

#include "mm/highmem.hpp"
#include "mm/slab.hpp"

namespace paean {

namespace {

/// A page that is read first has no contents yet.
class ZeroStore final : public BackingStore {
 public:
  void read_folio(AddressSpace&, Folio& folio) override {
    for (u32 i = 0; i < folio.pages(); ++i) clear_highpage(folio.page(i));
    folio.end_read({});
  }
  void write_folio(AddressSpace&, Folio&) override { panic("a page of shared memory is to be written"); }
  Result<> prepare_write(AddressSpace&, u64, u32) override { return {}; }
  Order largest_folio() const override { return Order{0}; }
  bool writes_back() const override { return false; }
};
constinit ZeroStore store;

class SharedMemory final : public MappedFile {
 public:
  explicit SharedMemory(u64 bytes) : MappedFile(pages_, Writable::Yes), pages_(store, bytes) {}
  std::string_view name() const override { return "(shared)"; }

 private:
  void end() override;
  AddressSpace pages_;
};

constinit ObjectCache memories;

void SharedMemory::end() {
  (void)pages_.truncate(0);  // cuts no page in two, so it cannot fail
  this->~SharedMemory();
  give_object(memories, this);
}

}  // namespace

Result<MappedFile*> make_shared_memory(u64 bytes) {
  void* memory = TRY(take_object(memories, AllocFlags::Kernel));
  return new (memory) SharedMemory(bytes);
}

void init_shared_memory() {
  ASSERT(memories.init({.name = "shared_memory", .size = sizeof(SharedMemory), .align = alignof(SharedMemory)})
             .has_value());
}

}  // namespace paean
