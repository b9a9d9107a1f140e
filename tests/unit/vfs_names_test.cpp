// Names: making, removing, linking, moving, and every way in which that is refused.
#include "kernel/fs/name_cache.hpp"
#include "kernel/fs/path.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

bool exists(std::string_view path) { return status_of(path, Links::DoNotFollow).has_value(); }
u32 links_of(std::string_view path) {
  const Result<FileStatus> status = status_of(path, Links::DoNotFollow);
  return status ? status->links : 0;
}

}  // namespace

KTEST(vfs, directories_come_and_go) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  EXPECT(make_directory("/t/a"));
  EXPECT(make_directory("/t/a/b/"));
  EXPECT_EQ(links_of("/t/a"), 3);
  EXPECT_EQ(links_of("/t"), 3);
  EXPECT(fails_with(make_directory("/t/a"), Error::Exists));
  EXPECT(fails_with(make_directory("/t/a/."), Error::Exists));
  EXPECT(fails_with(make_directory("/"), Error::Exists));
  EXPECT(fails_with(make_directory("/t/none/b"), Error::NotFound));
  EXPECT(fails_with(remove_directory("/t/a"), Error::NotEmpty));
  EXPECT(fails_with(remove_directory("/t/a/b/."), Error::InvalidArgument));
  EXPECT(fails_with(remove_directory("/t/a/b/.."), Error::NotEmpty));
  EXPECT(fails_with(remove_directory("/"), Error::Busy));
  EXPECT(fails_with(remove_directory("/t"), Error::Busy));
  EXPECT(fails_with(remove_directory("/t/none"), Error::NotFound));
  EXPECT(fails_with(remove_file("/t/a"), Error::IsDirectory));
  EXPECT(remove_directory("/t/a/b"));
  EXPECT_EQ(links_of("/t/a"), 2);
  EXPECT(remove_directory("/t/a/"));
  EXPECT(!exists("/t/a"));
}

KTEST(vfs, files_come_and_go) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  EXPECT(write_text("/t/f", ""));
  EXPECT(fails_with(open_file("/t/f", OpenMode::Write | OpenMode::Create | OpenMode::Exclusive), Error::Exists));
  EXPECT(fails_with(open_file("/t/none", OpenMode::Read), Error::NotFound));
  EXPECT(fails_with(open_file("/t/none/", OpenMode::Write | OpenMode::Create), Error::IsDirectory));
  EXPECT(fails_with(open_file("/t", OpenMode::Write), Error::IsDirectory));
  EXPECT(fails_with(open_file("/t/f", OpenMode::Read | OpenMode::Directory), Error::NotDirectory));
  EXPECT(fails_with(open_file("/t/f/", OpenMode::Read), Error::NotDirectory));
  EXPECT(fails_with(open_file("/t/f/x", OpenMode::Read), Error::NotDirectory));
  EXPECT(fails_with(open_file("/t/f", OpenMode::Truncate), Error::InvalidArgument));
  EXPECT(fails_with(open_file("/t/f", OpenMode::Read | OpenMode::Truncate), Error::InvalidArgument));
  EXPECT(fails_with(make_directory("/t/f"), Error::Exists));
  EXPECT(fails_with(remove_directory("/t/f"), Error::NotDirectory));
  EXPECT(fails_with(remove_file("/t/f/"), Error::NotDirectory));
  EXPECT(fails_with(remove_file("/t/none"), Error::NotFound));
  EXPECT(remove_file("/t/f"));
  EXPECT(fails_with(remove_file("/t/f"), Error::NotFound));
}

KTEST(vfs, links_count) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(write_text("/t/one", ""));
  EXPECT(link_file("/t/one", "/t/two"));
  EXPECT_EQ(links_of("/t/one"), 2);
  EXPECT_EQ(status_of("/t/one")->inode, status_of("/t/two")->inode);
  EXPECT(fails_with(link_file("/t/one", "/t/two"), Error::Exists));
  EXPECT(fails_with(link_file("/t", "/t/three"), Error::IsDirectory));
  EXPECT(fails_with(link_file("/t/one", "/t/three/"), Error::NotFound));
  EXPECT(fails_with(link_file("/t/one", "/elsewhere"), Error::CrossDevice));
  EXPECT(remove_file("/t/one"));
  EXPECT_EQ(links_of("/t/two"), 1);
  EXPECT(!exists("/t/one"));
}

KTEST(vfs, symlinks_are_followed_or_not) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/d"));
  REQUIRE(write_text("/t/d/f", ""));
  EXPECT(make_symlink("d", "/t/rel"));
  EXPECT(make_symlink("/t/d/f", "/t/abs"));
  EXPECT(make_symlink("/t/new", "/t/dangling"));
  EXPECT(fails_with(make_symlink("", "/t/empty"), Error::NotFound));
  EXPECT(fails_with(make_symlink("x", "/t/rel"), Error::Exists));
  EXPECT_EQ(status_of("/t/rel/f")->inode, status_of("/t/d/f")->inode);
  EXPECT_EQ(status_of("/t/abs")->inode, status_of("/t/d/f")->inode);
  EXPECT_EQ(status_of("/t/abs", Links::DoNotFollow)->type, FileType::Symlink);
  EXPECT_EQ(status_of("/t/abs", Links::DoNotFollow)->size, 6);
  EXPECT_EQ(status_of("/t/rel/", Links::DoNotFollow)->type, FileType::Directory);
  char text[3]{};
  EXPECT_EQ(*read_symlink("/t/abs", text), 3);
  EXPECT_EQ((std::string_view{text, 3}), "/t/");
  EXPECT(fails_with(read_symlink("/t/d", text), Error::InvalidArgument));
  EXPECT(fails_with(status_of("/t/dangling"), Error::NotFound));
  EXPECT(fails_with(open_file("/t/dangling", OpenMode::Write | OpenMode::Create | OpenMode::Exclusive), Error::Exists));
  EXPECT(write_text("/t/dangling", ""));  // makes what it points to
  EXPECT(exists("/t/new"));
  EXPECT(make_symlink("loop", "/t/loop"));
  EXPECT(fails_with(status_of("/t/loop"), Error::TooManyLinks));
  EXPECT(remove_file("/t/loop"));
  EXPECT(remove_file("/t/abs"));
  EXPECT(exists("/t/d/f"));
}

KTEST(vfs, forty_links_and_no_more) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(write_text("/t/l0", ""));
  for (u32 i = 1; i <= 41; ++i) {
    char from[16], to[16];
    BufferSink target{from}, name{to};
    format_to(target, "l{}", i - 1);
    format_to(name, "/t/l{}", i);
    REQUIRE(make_symlink(target.view(), name.view()));
  }
  EXPECT(status_of("/t/l40").has_value());
  EXPECT(fails_with(status_of("/t/l41"), Error::TooManyLinks));
}

KTEST(vfs, moves_as_posix_says) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/a"));
  REQUIRE(make_directory("/t/a/b"));
  REQUIRE(make_directory("/t/c"));
  REQUIRE(write_text("/t/f", ""));
  REQUIRE(write_text("/t/g", ""));
  const u32 number = status_of("/t/f")->inode;
  EXPECT(fails_with(rename_file("/t/a", "/t/a/b/x"), Error::InvalidArgument));
  EXPECT(fails_with(rename_file("/t/a", "/t/a/x"), Error::InvalidArgument));
  EXPECT(fails_with(rename_file("/t/a/b", "/t/a"), Error::NotEmpty));
  EXPECT(fails_with(rename_file("/t/c", "/t/a"), Error::NotEmpty));
  EXPECT(fails_with(rename_file("/t/a", "/t/f"), Error::NotDirectory));
  EXPECT(fails_with(rename_file("/t/f", "/t/a"), Error::IsDirectory));
  EXPECT(fails_with(rename_file("/t/f", "/t/x/"), Error::NotDirectory));
  EXPECT(fails_with(rename_file("/t/none", "/t/x"), Error::NotFound));
  EXPECT(fails_with(rename_file("/t/f", "/t/none/x"), Error::NotFound));
  EXPECT(fails_with(rename_file("/t/f", "/x"), Error::CrossDevice));
  EXPECT(fails_with(rename_file("/t", "/u"), Error::Busy));
  EXPECT(fails_with(rename_file("/t/f", "/t/."), Error::InvalidArgument));
  EXPECT(rename_file("/t/f", "/t/f"));
  EXPECT(rename_file("/t/f", "/t/g"));  // over a file
  EXPECT_EQ(status_of("/t/g")->inode, number);
  EXPECT(!exists("/t/f"));
  REQUIRE(link_file("/t/g", "/t/h"));
  EXPECT(rename_file("/t/g", "/t/h"));  // the same file: nothing happens
  EXPECT(exists("/t/g"));
  EXPECT_EQ(links_of("/t/h"), 2);
  EXPECT(rename_file("/t/a/b", "/t/c"));  // over an empty directory
  EXPECT_EQ(links_of("/t/a"), 2);
  EXPECT_EQ(links_of("/t"), 4);
  EXPECT(rename_file("/t/c/", "/t/a/c"));
  EXPECT_EQ(links_of("/t/a"), 3);
  EXPECT_EQ(links_of("/t"), 3);
  EXPECT_EQ(status_of("/t/a/c/..")->inode, status_of("/t/a")->inode);
}

KTEST(vfs, names_have_limits) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  static constinit char text[kPageSize + 64]{};
  for (char& c : text) c = 'n';
  std::string_view name{text, 255};
  BufferSink path{{text + 512, 300}};
  format_to(path, "/t/{}", name);
  EXPECT(make_directory(path.view()));
  EXPECT(exists(path.view()));
  BufferSink longer{{text + 1024, 300}};
  format_to(longer, "/t/{}n", name);
  EXPECT(fails_with(make_directory(longer.view()), Error::NameTooLong));
  for (char& c : text) c = '/';
  text[4094] = 't';
  EXPECT(status_of({text, 4095}).has_value());
  EXPECT(fails_with(status_of({text, 4096}), Error::NameTooLong));
  EXPECT(fails_with(status_of(""), Error::NotFound));
}

KTEST(vfs, a_removed_directory_in_use_is_dead) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/d"));
  const Result<OpenFile*> held = open_file("/t/d", OpenMode::Read | OpenMode::Directory);
  REQUIRE(held.has_value());
  EXPECT(remove_directory("/t/d"));
  u32 seen = 0;
  EXPECT(read_directory(
      **held, [](void* count, const DirectoryEntry&) { return ++*static_cast<u32*>(count) != 0; }, &seen));
  EXPECT_EQ(seen, 0);
  EXPECT_EQ(status_of(**held).links, 0);
  REQUIRE(make_directory("/t/d"));  // another one: nothing of the old one shows
  EXPECT(status_of("/t/d")->inode != status_of(**held).inode);
  close_file(*held);
}

KTEST(vfs, numbers_are_used_again_and_nothing_is_mistaken) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  // Its files have the numbers of others in the file system around it, which must not have their names.
  constexpr const char* kNames[] = {"/t/n1", "/t/n2", "/t/n3", "/t/n4", "/t/n5", "/t/n6", "/t/n7", "/t/n8"};
  for (const char* name : kNames) {
    REQUIRE(write_text(name, ""));
    EXPECT(!exists(name + std::string_view{"/t"}.size()));
  }
  for (const char* name : kNames) REQUIRE(remove_file(name));
  REQUIRE(make_directory("/t/d"));
  const u32 number = status_of("/t/d")->inode;
  EXPECT(!exists("/t/d/x"));  // now known as absent
  REQUIRE(remove_directory("/t/d"));
  REQUIRE(make_directory("/t/e"));
  EXPECT_EQ(status_of("/t/e")->inode, number);
  REQUIRE(write_text("/t/e/x", ""));
  EXPECT(exists("/t/e/x"));
  REQUIRE(remove_file("/t/e/x"));
  REQUIRE(remove_directory("/t/e"));
  REQUIRE(make_directory("/t/p"));
  REQUIRE(make_directory("/t/q"));
  const u32 inner = [] {
    (void)make_directory("/t/p/d");
    const Result<FileStatus> status = status_of("/t/p/d");
    (void)status_of("/t/p/d/..");  // now known: the parent of this number is p
    return status ? status->inode : 0;
  }();
  REQUIRE(remove_directory("/t/p/d"));
  REQUIRE(make_directory("/t/q/e"));
  EXPECT_EQ(status_of("/t/q/e")->inode, inner);
  EXPECT_EQ(status_of("/t/q/e/..")->inode, status_of("/t/q")->inode);
  REQUIRE(remove_directory("/t/q/e"));
  REQUIRE(remove_directory("/t/q"));
  REQUIRE(remove_directory("/t/p"));
  REQUIRE(write_text("/t/f", ""));  // the same number again, as a file
  EXPECT_EQ(status_of("/t/f")->inode, number);
  EXPECT_EQ(status_of("/t/f")->type, FileType::Regular);
}

KTEST(vfs, nothing_lies_above_a_directory_that_was_removed) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  for (const bool replaced : {false, true}) {
    REQUIRE(make_directory("/t/d"));
    REQUIRE(make_directory("/t/e"));
    Result<InodeRef> held = resolve("/t/d", Links::Follow);
    REQUIRE(held.has_value());
    EXPECT(step_to(**held, "..").has_value());
    EXPECT(replaced ? rename_file("/t/e", "/t/d") : remove_directory("/t/d"));
    EXPECT(fails_with(step_to(**held, ".."), Error::NotFound));
    (void)remove_directory("/t/d");
    (void)remove_directory("/t/e");
  }
}

}  // namespace paean
