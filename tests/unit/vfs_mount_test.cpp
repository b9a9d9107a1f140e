// Mounting and unmounting.
#include "kernel/fs/mount_table.hpp"
#include "mm/shrink.hpp"
#include "mm/slab.hpp"
#include "tmpfs_space.hpp"

namespace paean {

KTEST(vfs, a_mount_covers_a_directory) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/m"));
  REQUIRE(write_text("/t/m/below", ""));
  REQUIRE(mount({}, "/t/m", "tmpfs", MountMode::ReadWrite));
  EXPECT(fails_with(status_of("/t/m/below"), Error::NotFound));
  EXPECT(fails_with(remove_directory("/t/m"), Error::Busy));
  EXPECT(fails_with(rename_file("/t/m", "/t/n"), Error::Busy));
  EXPECT(fails_with(unmount("/t"), Error::Busy));
  REQUIRE(mount({}, "/t/m", "tmpfs", MountMode::ReadWrite));  // on top of the first
  REQUIRE(write_text("/t/m/second", ""));
  EXPECT(status_of("/t/m/second").has_value());
  EXPECT_EQ(status_of("/t/m/..")->inode, status_of("/t")->inode);
  EXPECT(unmount("/t/m"));
  EXPECT(fails_with(status_of("/t/m/second"), Error::NotFound));
  EXPECT(unmount("/t/m/"));
  EXPECT(status_of("/t/m/below").has_value());
  EXPECT(fails_with(unmount("/t/m"), Error::InvalidArgument));
}

KTEST(vfs, what_cannot_be_mounted) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(write_text("/t/f", ""));
  EXPECT(fails_with(mount({}, "/t/none", "tmpfs", MountMode::ReadWrite), Error::NotFound));
  EXPECT(fails_with(mount({}, "/t/f", "tmpfs", MountMode::ReadWrite), Error::NotDirectory));
  EXPECT(fails_with(mount({}, "/t", "nofs", MountMode::ReadWrite), Error::NotSupported));
  EXPECT(!mount("nodisk", "/t", {}, MountMode::ReadWrite));
  EXPECT(fails_with(unmount("/"), Error::Busy));
  EXPECT(fails_with(unmount("/t/f"), Error::InvalidArgument));
}

KTEST(vfs, a_busy_file_system_stays) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/m"));
  REQUIRE(mount({}, "/t/m", "tmpfs", MountMode::ReadWrite));
  REQUIRE(write_text("/t/m/f", ""));
  const Result<OpenFile*> file = open_file("/t/m/f", OpenMode::Read);
  REQUIRE(file.has_value());
  EXPECT(fails_with(unmount("/t/m"), Error::Busy));
  EXPECT(remove_file("/t/m/f"));
  EXPECT(fails_with(unmount("/t/m"), Error::Busy));
  close_file(*file);
  const Result<OpenFile*> root = open_file("/t/m", OpenMode::Read);
  REQUIRE(root.has_value());
  EXPECT(fails_with(unmount("/t/m"), Error::Busy));
  close_file(*root);
  EXPECT(unmount("/t/m"));
}

KTEST(vfs, read_only_means_that) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/m"));
  REQUIRE(mount({}, "/t/m", "tmpfs", MountMode::ReadOnly));
  EXPECT(fails_with(make_directory("/t/m/d"), Error::ReadOnly));
  EXPECT(fails_with(open_file("/t/m/f", OpenMode::Write | OpenMode::Create), Error::ReadOnly));
  EXPECT(fails_with(make_symlink("x", "/t/m/s"), Error::ReadOnly));
  EXPECT(fails_with(remove_file("/t/m/f"), Error::NotFound));
  EXPECT(unmount("/t/m"));
}

KTEST(vfs, shrinkers_give_memory_back) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  constexpr u32 kFiles = 2000;
  char text[32];
  BufferSink path{text};
  for (u32 i = 0; i < kFiles; ++i) {
    path.clear();
    format_to(path, "/t/file{}", i);
    REQUIRE(write_text(path.view(), ""));
  }
  const FileCaches full = file_caches();
  EXPECT(full.unused_inodes >= kFiles);
  EXPECT(full.names >= kFiles);
  const u32 slabs = slab_pages().count(), reclaimable = reclaimable_slab_pages().count();
  // Each has an inode and a name there.
  EXPECT(reclaimable >= kFiles * (sizeof(Inode) + 40) / kPageSize);
  EXPECT(reclaimable < slabs);
  EXPECT(run_shrinkers(0) >= 2 * kFiles);
  shrink_caches();
  EXPECT(slab_pages().count() + 60 < slabs);
  // Nothing else had been in them.
  EXPECT(reclaimable_slab_pages().count() <= 8);
  const FileCaches empty = file_caches();
  EXPECT(empty.unused_inodes <= 1);
  EXPECT(empty.names <= 1);
  EXPECT(status_of("/t/file77").has_value());  // comes back from the file system
  test.note("{} inodes and {} names gone, {} pages", full.inodes - empty.inodes, full.names - empty.names,
            slabs - slab_pages().count());
}

}  // namespace paean
