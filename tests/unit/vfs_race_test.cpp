// Several threads in one tree.
#include "threads.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

constexpr u32 kThreads = 4, kRounds = 400;

struct Racer {
  u32 seed = 0, number = 0;
  u32 failures = 0;
  u32 below(u32 bound) {
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return seed % bound;
  }
};

/// One of few names in one of two directories, so that they meet.
std::string_view some_name(Racer& racer, std::span<char> text) {
  BufferSink path{text};
  format_to(path, "/t/d{}/n{}", racer.below(2), racer.below(4));
  return path.view();
}

bool is_one_of(Error error, std::initializer_list<Error> errors) {
  for (const Error each : errors) {
    if (each == error) return true;
  }
  return false;
}

void make_and_break(void* argument) {
  Racer& racer = *static_cast<Racer*>(argument);
  char text[32], other[32];
  for (u32 round = 0; round < kRounds; ++round) {
    const std::string_view path = some_name(racer, text), to = some_name(racer, other);
    Result<> done{};
    switch (racer.below(6)) {
      case 0: done = write_text(path, "contents"); break;
      case 1: done = remove_file(path); break;
      case 2: done = rename_file(path, to); break;
      case 3: done = link_file(path, to); break;
      case 4: done = make_directory(path); break;
      default: done = remove_directory(path); break;
    }
    if (!done && !is_one_of(done.error(), {Error::NotFound, Error::Exists, Error::IsDirectory, Error::NotDirectory,
                                           Error::InvalidArgument})) {
      ++racer.failures;
    }
  }
}

/// Opens what is there; what it holds must be whole, whatever becomes of its names.
void open_and_read(void* argument) {
  Racer& racer = *static_cast<Racer*>(argument);
  char text[32];
  u8 bytes[16];
  for (u32 round = 0; round < kRounds; ++round) {
    const Result<OpenFile*> file = open_file(some_name(racer, text), OpenMode::Read);
    if (!file) continue;
    if (file_inode(**file).type == FileType::Regular) {
      const Result<u32> got = read_file(**file, bytes);
      if (!got || (*got != 0 && (*got != 8 || bytes[7] != 's'))) ++racer.failures;
    }
    close_file(*file);
  }
}

void mount_and_unmount(void* argument) {
  Racer& racer = *static_cast<Racer*>(argument);
  for (u32 round = 0; round < kRounds / 4; ++round) {
    if (!mount({}, "/t/m", "tmpfs", MountMode::ReadWrite)) ++racer.failures;
    (void)write_text("/t/m/f", "contents");
    while (!unmount("/t/m")) thread_yield();
  }
}

/// The directory below comes and goes: a mount that succeeds covers one that is there, and can be undone.
void mount_where_it_comes_and_goes(void* argument) {
  Racer& racer = *static_cast<Racer*>(argument);
  for (u32 round = 0; round < kRounds; ++round) {
    if (!mount({}, "/t/m", "tmpfs", MountMode::ReadWrite)) continue;
    Result<> done = unmount("/t/m");
    for (u32 again = 0; !done && done.error() == Error::Busy && again < kRounds; ++again) {
      thread_yield();
      done = unmount("/t/m");
    }
    if (!done) ++racer.failures;
  }
}

void make_and_remove(void*) {
  for (u32 round = 0; round < 2 * kRounds; ++round) {
    (void)make_directory("/t/m");
    (void)remove_directory("/t/m");
  }
}

void walk_through_mount(void* argument) {
  Racer& racer = *static_cast<Racer*>(argument);
  for (u32 round = 0; round < kRounds; ++round) {
    const Result<FileStatus> status = status_of("/t/m/f");
    if (!status && status.error() != Error::NotFound) ++racer.failures;
    if (status && status->type != FileType::Regular) ++racer.failures;
    if (!status_of("/t/m/..")) ++racer.failures;
  }
}

void run_racers(TestContext& test, std::span<const ThreadEntry> entries) {
  Racer racers[kThreads]{};
  {
    Crew<kThreads> crew;
    for (u32 i = 0; i < kThreads; ++i) {
      racers[i].seed = test.random() | 1;
      racers[i].number = i;
      REQUIRE(crew.add("racer", entries[i % entries.size()], &racers[i]));
    }
  }
  for (const Racer& racer : racers) EXPECT_EQ(racer.failures, 0);
}

/// Directories hold nothing deeper than themselves here, because nobody names anything in them.
void remove_all(TestContext& test, std::string_view directory) {
  char text[32];
  for (u32 i = 0; i < 4; ++i) {
    BufferSink path{text};
    format_to(path, "{}/n{}", directory, i);
    if (!remove_file(path.view())) (void)remove_directory(path.view());
  }
  EXPECT(remove_directory(directory));
}

}  // namespace

KTEST(vfs, names_race) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/d0"));
  REQUIRE(make_directory("/t/d1"));
  constexpr ThreadEntry kRoles[] = {make_and_break, make_and_break, make_and_break, open_and_read};
  run_racers(test, kRoles);
  for (u32 i = 0; i < 4; ++i) {
    char text[32];
    BufferSink path{text};
    format_to(path, "/t/d{}/n{}", i / 2, i);
    const Result<FileStatus> status = status_of(path.view());
    if (status && status->type == FileType::Directory) EXPECT_EQ(status->links, 2);
  }
  remove_all(test, "/t/d0");
  remove_all(test, "/t/d1");
  EXPECT_EQ(status_of("/t")->links, 2);
  EXPECT_EQ(statistics_of("/t")->free_inodes, NodeTable::kMaxNodes - 1);
}

KTEST(vfs, mounts_race) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  REQUIRE(make_directory("/t/m"));
  constexpr ThreadEntry kRoles[] = {mount_and_unmount, walk_through_mount, walk_through_mount, walk_through_mount};
  run_racers(test, kRoles);
}

KTEST(vfs, mounts_race_with_removal) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  constexpr ThreadEntry kRoles[] = {mount_where_it_comes_and_goes, make_and_remove, make_and_remove, make_and_remove};
  run_racers(test, kRoles);
  (void)remove_directory("/t/m");
  EXPECT_EQ(status_of("/t")->links, 2);
}

}  // namespace paean
