// Who goes through the mounted file systems while one of them waits for its disk, or goes.
#include "ext2_space.hpp"
#include "kernel/sync.hpp"
#include "threads.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

struct Look {
  Completion done;
  u32 mounts = 0;
};

void look_at(void* context, const MountInfo& mount) {
  if (mount.super.statistics().has_value()) ++static_cast<Look*>(context)->mounts;
}

/// What `df` does, and a file system that comes and goes.
void look_at_all(void* argument) {
  auto& look = *static_cast<Look*>(argument);
  {
    const TmpfsSpace another;
    for_each_mount(look_at, &look);
  }
  look.done.complete();
}

void look_up(void*) { (void)status_of("/e/none"); }
void sync_all(void*) { (void)sync_file_systems(); }

/// A visitor of /t that stays there.
struct Visitor {
  Completion came, may_go;
  bool saw_its_path = false;
};

void stay_at(void* context, const MountInfo& mount) {
  auto& visitor = *static_cast<Visitor*>(context);
  if (mount.path != "/t") return;
  visitor.came.complete();
  visitor.may_go.wait();
  visitor.saw_its_path = mount.path == "/t";
}
void visit(void* argument) { for_each_mount(stay_at, argument); }

/// A file of /e that is made and synced.
struct Syncer {
  const char* path;
  bool synced = false;
};
void make_and_sync(void* argument) {
  auto& syncer = *static_cast<Syncer*>(argument);
  const Result<OpenFile*> file = open_file(syncer.path, OpenMode::Write | OpenMode::Create);
  if (!file) return;
  syncer.synced = sync_file(**file).has_value();
  close_file(*file);
}

struct Leaving {
  u32 over = 0;
  Result<> result{};
};
void leave(void* argument) {
  auto& leaving = *static_cast<Leaving*>(argument);
  leaving.result = unmount("/t");
  store(leaving.over, 1);
}

}  // namespace

KTEST(vfs, a_slow_disk_holds_up_no_other_file_system) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  Look look;
  Crew<3> crew;
  space.disk.hold();
  const u32 commands = space.disk.commands;
  REQUIRE(crew.add("lookup", look_up, nullptr));
  const bool waits = within_ms(2000, [&] { return load(space.disk.commands) != commands; });
  const bool both = crew.add("sync", sync_all, nullptr);
  thread_sleep_ms(30);  // it has come to the volume that somebody works on
  const bool all = crew.add("look", look_at_all, &look);
  const bool looked = all && look.done.wait_for_ms(3000);
  space.disk.let_go();
  crew.join();
  EXPECT(waits && both);
  EXPECT(looked);
  EXPECT(look.mounts >= 3);
}

// Who comes while somebody syncs cannot use that sync, which may have passed the tables already; but all can use the
// next one.
KTEST(vfs, who_waits_for_a_sync_shares_the_next_one) {
  Ext2Space space{64};
  REQUIRE(space.ready());
  Syncer syncers[] = {{"/e/a"}, {"/e/b"}, {"/e/c"}, {"/e/d"}};
  Crew<4> crew;
  const u32 flushes = space.disk.flushes, commands = space.disk.commands;
  space.disk.hold();
  bool all = crew.add("sync", make_and_sync, &syncers[0], here());
  const bool waits = within_ms(2000, [&] { return load(space.disk.commands) != commands; });
  for (u32 i = 1; i < 4; ++i) all = crew.add("sync", make_and_sync, &syncers[i], here()) && all;
  thread_sleep_ms(50);  // on this CPU, so that they have come to where they wait
  space.disk.let_go();
  crew.join();
  EXPECT(all && waits);
  for (const Syncer& syncer : syncers) EXPECT(syncer.synced);
  EXPECT_EQ(space.disk.flushes - flushes, 2u);
}

KTEST(vfs, what_is_looked_at_stays_mounted) {
  REQUIRE(make_directory("/t"));
  REQUIRE(mount({}, "/t", "tmpfs", MountMode::ReadWrite));
  Visitor visitor;
  Leaving leaving;
  Crew<2> crew;
  REQUIRE(crew.add("visitor", visit, &visitor));
  visitor.came.wait();
  const bool began = crew.add("leave", leave, &leaving);
  thread_sleep_ms(50);
  EXPECT_EQ(load(leaving.over), 0u);
  visitor.may_go.complete();
  crew.join();
  EXPECT(began && leaving.result);
  EXPECT(visitor.saw_its_path);
  EXPECT(remove_directory("/t"));
}

}  // namespace paean
