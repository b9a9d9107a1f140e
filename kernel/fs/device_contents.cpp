#include <algorithm>
#include <new>

#include "kernel/fs/folio_io.hpp"
#include "kernel/sync.hpp"
#include "kernel/wait.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

/// A device as one long file.
class DeviceContents final : public BackingStore {
 public:
  explicit DeviceContents(BlockDevice& device) : device_(device), space_(*this, device.sectors() << kSectorShift) {}

  void read_folio(AddressSpace& space, Folio& folio) override { read_folios(space, {{&folio}}); }
  void read_folios(AddressSpace& /*space*/, std::span<Folio* const> folios) override {
    FolioRequests requests{device_};
    for (Folio* folio : folios) {
      const Extent extent = extent_of(*folio);
      requests.read(*folio, {&extent, 1});
    }
  }
  void write_folio(AddressSpace& space, Folio& folio) override { write_folios(space, {{&folio}}); }
  void write_folios(AddressSpace& /*space*/, std::span<Folio* const> folios) override {
    FolioRequests requests{device_};
    for (Folio* folio : folios) {
      const Extent extent = extent_of(*folio);
      requests.write(*folio, {&extent, 1});
    }
  }
  Result<> prepare_write(AddressSpace& /*space*/, u64 offset, u32 bytes) override {
    if (device_.read_only()) return std::unexpected(Error::ReadOnly);
    // A device does not grow.
    if (offset + bytes > device_.sectors() << kSectorShift) return std::unexpected(Error::NoSpace);
    return {};
  }
  AllocFlags page_flags() const override { return pages_for(device_); }

  BlockDevice& device() const { return device_; }
  AddressSpace& space() { return space_; }

  DeviceContents* next = nullptr;
  u32 users = 1;  // 0: the last one is closing it

 private:
  Extent extent_of(const Folio& folio) const {
    const u64 end = std::min(folio.end(), device_.sectors() << kSectorShift);
    return {.bytes = static_cast<u32>(end - folio.offset()), .sector = folio.offset() >> kSectorShift};
  }

  BlockDevice& device_;
  AddressSpace space_;
};

constinit Mutex contents_mutex{LockRank::FileSystem};
constinit DeviceContents* all_contents GUARDED_BY(contents_mutex) = nullptr;
constinit u32 closed = 0;  // contents so far; changes under the mutex
constinit WaitQueue one_closed;

/// What leads to the contents of this device, or to the end of the list.
DeviceContents** link_to(const BlockDevice& device) REQUIRES(contents_mutex) {
  DeviceContents** link = &all_contents;
  while (*link != nullptr && &(*link)->device() != &device) link = &(*link)->next;
  return link;
}

}  // namespace

u32 device_contents_pages() {
  const MutexGuard guard{contents_mutex};
  u32 pages = 0;
  for (DeviceContents* contents = all_contents; contents != nullptr; contents = contents->next) {
    pages += contents->space().pages();
  }
  return pages;
}

Result<AddressSpace*> open_device_contents(BlockDevice& device) {
  while (true) {
    u32 closed_before;
    {
      const MutexGuard guard{contents_mutex};
      DeviceContents** link = link_to(device);
      if (*link == nullptr) {
        void* memory = TRY(kmalloc(sizeof(DeviceContents), AllocFlags::Kernel));
        *link = new (memory) DeviceContents(device);
        return &(*link)->space();
      }
      if ((*link)->users != 0) {
        ++(*link)->users;
        return &(*link)->space();
      }
      closed_before = closed;
    }
    // What is being written must not be read from the disk meanwhile.
    one_closed.wait([closed_before] { return __atomic_load_n(&closed, __ATOMIC_ACQUIRE) != closed_before; });
  }
}

/// The disk is waited for without the mutex, so that others need not.
Result<> close_device_contents(BlockDevice& device) {
  DeviceContents* contents;
  {
    const MutexGuard guard{contents_mutex};
    contents = *link_to(device);
    ASSERT(contents != nullptr && contents->users != 0);
    if (--contents->users != 0) return {};
  }
  const Result<> written = contents->space().sync();
  (void)contents->space().truncate(0);
  {
    const MutexGuard guard{contents_mutex};
    *link_to(device) = contents->next;
    __atomic_fetch_add(&closed, 1, __ATOMIC_RELEASE);
  }
  (void)one_closed.wake_all();
  contents->~DeviceContents();
  kfree(contents);
  return written;
}

}  // namespace paean
