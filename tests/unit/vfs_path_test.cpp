// Paths: a tree, and what two hundred ways through it lead to.
#include "tmpfs_space.hpp"

namespace paean {

namespace {

// /t
//   a/        b/  c (file)
//   a/b/      d (file)  up -> ..  top -> /t  deep -> ../../a/b
//   l -> a    ll -> l/b    file -> a/c    m/ (mounted: n/ (directory), o (file))
Result<> grow_tree() {
  TRY(make_directory("/t/a"));
  TRY(make_directory("/t/a/b"));
  TRY(write_text("/t/a/c", ""));
  TRY(write_text("/t/a/b/d", ""));
  TRY(make_symlink("..", "/t/a/b/up"));
  TRY(make_symlink("/t", "/t/a/b/top"));
  TRY(make_symlink("../../a/b", "/t/a/b/deep"));
  TRY(make_symlink("a", "/t/l"));
  TRY(make_symlink("l/b", "/t/ll"));
  TRY(make_symlink("a/c", "/t/file"));
  TRY(make_directory("/t/m"));
  TRY(mount({}, "/t/m", "tmpfs", MountMode::ReadWrite));
  TRY(make_directory("/t/m/n"));
  return write_text("/t/m/o", "");
}

struct Way {
  std::string_view path, same_as;  // empty: NotFound; "!": NotDirectory
};

// Each is walked as it is, with a slash behind, with `/.` behind, and with doubled slashes.
constexpr Way kWays[] = {
    {"/", "/"},
    {"//", "/"},
    {"/.", "/"},
    {"/..", "/"},
    {"/../..", "/"},
    {"t", "/t"},
    {"./t", "/t"},
    {"../t", "/t"},
    {"/t/..", "/"},
    {"/t/../t", "/t"},
    {"/t/a", "/t/a"},
    {"/t/./a", "/t/a"},
    {"/t/a/..", "/t"},
    {"/t/a/../..", "/"},
    {"/t/a/b/../../a", "/t/a"},
    {"/t/a/b/up", "/t/a"},
    {"/t/a/b/up/..", "/t"},
    {"/t/a/b/up/b/up", "/t/a"},
    {"/t/a/b/top", "/t"},
    {"/t/a/b/top/..", "/"},
    {"/t/a/b/deep", "/t/a/b"},
    {"/t/a/b/deep/deep/deep", "/t/a/b"},
    {"/t/a/b/deep/..", "/t/a"},
    {"/t/l", "/t/a"},
    {"/t/l/..", "/t"},
    {"/t/l/b", "/t/a/b"},
    {"/t/l/b/..", "/t/a"},
    {"/t/ll", "/t/a/b"},
    {"/t/ll/..", "/t/a"},
    {"/t/ll/up/l", ""},
    {"/t/ll/top/l", "/t/a"},
    {"/t/ll/top/ll/top/ll", "/t/a/b"},
    {"/t/m", "/t/m"},
    {"/t/m/n", "/t/m/n"},
    {"/t/m/..", "/t"},
    {"/t/m/n/..", "/t/m"},
    {"/t/m/n/../..", "/t"},
    {"/t/m/n/../../a", "/t/a"},
    {"/t/m/n/../../m/n", "/t/m/n"},
    {"/t/m/../m/../m", "/t/m"},
    {"/t/x", ""},
    {"/t/x/..", ""},
    {"/x", ""},
    {"/t/a/x", ""},
    {"/t/l/x", ""},
    {"/t/m/a", ""},
    {"/t/a/c/x", "!"},
    {"/t/a/c/..", "!"},
    {"/t/file/x", "!"},
    {"/t/m/o/..", "!"},
};

Result<FileStatus> look(std::string_view path) { return status_of(path); }

void check_way(TestContext& test, std::string_view path, std::string_view same_as) {
  const Result<FileStatus> found = look(path);
  bool good;
  if (same_as.empty()) {
    good = fails_with(found, Error::NotFound);
  } else if (same_as == "!") {
    good = fails_with(found, Error::NotDirectory);
  } else {
    const Result<FileStatus> wanted = look(same_as);
    good = found && wanted && found->inode == wanted->inode && found->modified == wanted->modified &&
           found->links == wanted->links;
  }
  if (!good) test.note("{} is not {}", path, same_as);
  EXPECT(good);
}

}  // namespace

KTEST(vfs, two_hundred_paths) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(grow_tree());
  u32 walked = 0;
  for (u32 round = 0; round < 2; ++round) {  // with cold names, and with cached ones
    for (const Way& way : kWays) {
      char text[128];
      check_way(test, way.path, way.same_as);
      BufferSink path{text};
      format_to(path, "{}/", way.path);
      check_way(test, path.view(), way.same_as);
      path.clear();
      format_to(path, "{}/.", way.path);
      check_way(test, path.view(), way.same_as);
      path.clear();
      for (const char c : way.path) {
        path.write({&c, 1});
        if (c == '/') path.write("/");
      }
      check_way(test, path.view(), way.same_as);
      walked += 4;
    }
  }
  EXPECT(walked >= 200);
  EXPECT(status_of("/t/a/c").has_value());
  EXPECT(status_of("/t/file").has_value());
  EXPECT(fails_with(status_of("/t/a/c/"), Error::NotDirectory));
  EXPECT(fails_with(status_of("/t/file/"), Error::NotDirectory));
  EXPECT(unmount("/t/m"));
  EXPECT(fails_with(status_of("/t/m/n"), Error::NotFound));
}

}  // namespace paean
