#include "kernel/fs/map_file.hpp"

#include <new>

#include "kernel/fs/open_file.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

class InodeMap final : public MappedFile {
 public:
  InodeMap(InodeRef inode, Writable writable) : MappedFile(*inode->contents, writable), inode_(std::move(inode)) {}

  static Result<MappedFile*> make(OpenFile& file) {
    void* memory = TRY(kmalloc(sizeof(InodeMap), AllocFlags::Kernel));
    return new (memory) InodeMap(file.inode.clone(), file.has(OpenMode::Write) ? Writable::Yes : Writable::No);
  }

 private:
  void end() override {
    this->~InodeMap();
    kfree(this);
  }
  InodeRef inode_;
};

}  // namespace

Result<MappedFile*> map_file(OpenFile& file) {
  if (!file.has(OpenMode::Read)) return std::unexpected(Error::NoAccess);
  if (file.inode->type != FileType::Regular || file.inode->contents == nullptr)
    return std::unexpected(Error::NotSupported);
  return InodeMap::make(file);
}

}  // namespace paean
