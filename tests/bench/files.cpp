// What a page costs that is read through an open file.
#include "kernel/bench/kbench.hpp"
#include "kernel/fs/file.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

KBENCH(tmpfs_read_page, "read_file() of 4 KiB that are cached, of which 1,024 instructions are the copy") {
  constexpr std::string_view kPath = "/tmpfs_read_page";
  constexpr u32 kPages = 64;
  const Result<OpenFile*> file = open_file(kPath, OpenMode::Read | OpenMode::Write | OpenMode::Create);
  const Result<void*> place = kmalloc(kPageSize, AllocFlags::Kernel | AllocFlags::Zero);
  if (!file || !place) return bench.skip("no memory for a file");
  const std::span<u8> page{static_cast<u8*>(*place), kPageSize};
  bool good = true;
  for (u32 i = 0; i < kPages; ++i) good = good && write_file(**file, page);
  if (good) {
    u32 left = 0;
    bench.run([&] {
      if (left == 0) {
        (void)seek_file(**file, 0, SeekFrom::Start);
        left = kPages;
      }
      --left;
      keep(read_file(**file, page).has_value());
    });
  }
  close_file(*file);
  (void)remove_file(kPath);
  kfree(*place);
}

}  // namespace paean
