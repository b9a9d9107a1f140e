// Every operation with every allocation on its way failing, once and from then on: the call says so, no half of
// anything is left, and all memory comes back.
#include "kernel/test/fail_nth.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

/// Names in /t, `.` and `..` left out.
u32 names_in_space() {
  const Result<OpenFile*> directory = open_file("/t", OpenMode::Read | OpenMode::Directory);
  if (!directory) return ~0u;
  u32 names = 0;
  const DirectoryVisitor visit = [](void* count, const DirectoryEntry& entry) {
    if (!entry.name.starts_with('.')) ++*static_cast<u32*>(count);
    return true;
  };
  (void)read_directory(**directory, visit, &names);
  close_file(*directory);
  return names;
}

using Operation = Result<> (*)();

/// `operation` makes /t/x, or leaves nothing. Failures met.
u32 survives(TestContext& test, const char* what, Operation operation, u32 names_made) {
  constexpr u32 kNamesBefore = 2, kMostSites = 100;
  u32 met = 0;
  settle_memory();
  const LedgerMark before;
  for (const FaultMode mode : {FaultMode::Once, FaultMode::FromThenOn}) {
    for (u32 n = 1; n < kMostSites; ++n) {
      bool fired, good;
      {
        const FaultPlan plan{n, mode};
        good = operation().has_value();
        fired = plan.fired();
      }
      EXPECT(fired || good);
      const u32 names = names_in_space();
      const bool whole = names == kNamesBefore + (good ? names_made : 0);
      if (!status_of("/t/file")) (void)rename_file("/t/x", "/t/file");
      (void)remove_file("/t/x");
      (void)remove_directory("/t/x");
      settle_memory();
      const bool given_back = before == LedgerMark{};
      if (!whole || !given_back) test.note("{}: failure {} leaves {} names", what, n, names);
      EXPECT(whole);
      EXPECT(given_back);
      if (!fired) break;
      ++met;
    }
  }
  test.note("{}: {} failures met", what, met);
  return met;
}

}  // namespace

KTEST(vfs, no_memory_leaves_nothing_half_made) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/kept"));
  REQUIRE(write_text("/t/file", "contents"));
  u32 met = 0;
  met += survives(test, "mkdir", [] { return make_directory("/t/x"); }, 1);
  met += survives(test, "symlink", [] { return make_symlink("somewhere", "/t/x"); }, 1);
  met += survives(test, "link", [] { return link_file("/t/file", "/t/x"); }, 1);
  met += survives(
      test, "create",
      []() -> Result<> {
        OpenFile* file = TRY(open_file("/t/x", OpenMode::Write | OpenMode::Create));
        close_file(file);
        return {};
      },
      1);
  met += survives(
      test, "look",
      []() -> Result<> {
        TRY(status_of("/t/kept/../file"));
        return {};
      },
      0);
  met += survives(test, "rename", [] { return rename_file("/t/file", "/t/x"); }, 0);
  met += survives(
      test, "mount",
      []() -> Result<> {
        TRY(mount({}, "/t/kept", "tmpfs", MountMode::ReadWrite));
        return unmount("/t/kept");
      },
      0);
  EXPECT(met >= 20);
}

KTEST(vfs, a_write_without_memory_gives_it_back) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/kept"));
  REQUIRE(write_text("/t/file", "contents"));
  // The name may stay, as with any write that fails; what was charged and taken may not.
  for (u32 n = 1; n < 100; ++n) {
    bool fired;
    {
      const FaultPlan plan{n, FaultMode::Once};
      (void)write_text("/t/x", "text");
      fired = plan.fired();
    }
    (void)remove_file("/t/x");
    EXPECT_EQ(statistics_of("/t")->free_blocks + 1, statistics_of("/t")->blocks);
    if (!fired) break;
    EXPECT(n < 99);
  }
}

}  // namespace paean
