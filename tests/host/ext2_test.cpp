// ext2 against mke2fs and e2fsck: images of all block sizes are read, changed, and judged by the host's own tools.
#include "ext2_image.hpp"

#include <map>
#include <memory>
#include <random>

#include "support.hpp"

using namespace paean;
using namespace paean::host;

namespace {

/// A mounted volume; clean() unmounts it and asks e2fsck.
struct Mounted {
  explicit Mounted(std::vector<u8> image) : store(std::move(image)), fs(store) {
    REQUIRE(!store.image().empty());
    const Result<> mounted = fs.mount(store.image().size(), Ext2Mode::ReadWrite);
    REQUIRE(mounted);
    REQUIRE(!fs.read_only());
  }
  bool clean() {
    const bool unmounted = fs.unmount().has_value();
    INFO(store.complaint());
    CHECK(store.complaints() == 0);
    return unmounted && check_image(store.image()) == 0;
  }
  u32 file(u32 directory, std::string_view name, std::string_view text) {
    const Result<u32> inode = fs.create(directory, name, kExt2ModeFile | 0644);
    REQUIRE(inode);
    REQUIRE(write(*inode, 0, text));
    return *inode;
  }
  Result<> write(u32 inode, u64 offset, std::string_view text) {
    return write_at(fs, store, inode, offset, {reinterpret_cast<const u8*>(text.data()), text.size()});
  }
  std::string text(u32 inode) { return contents_of(fs, store, inode).value_or("error"); }
  ImageStore store;
  Ext2 fs;
};

std::string pattern(u32 bytes, u32 seed) {
  std::mt19937 numbers(seed);
  std::string text(bytes, '\0');
  for (char& byte : text) byte = static_cast<char>(numbers());
  return text;
}

/// Everything that mke2fs can vary and we accept.
const char* const kShapes[] = {
    "-b 1024",
    "-b 2048",
    "-b 4096",
    "-b 1024 -I 128",
    "-b 4096 -I 128 -O ^dir_index,^resize_inode",
    "-b 1024 -r 0 -O none",
    "-b 1024 -g 512 -N 1024",
    "-b 4096 -O ^filetype",
    "-b 2048 -O ^sparse_super,^resize_inode -g 1024",
};

void make_source_folder() {
  const std::string folder = ScratchFolder::path() + "/source";
  run_tool("mkdir -p " + folder + "/deep/er");
  std::ofstream(folder + "/big", std::ios::binary) << pattern(700'000, 1);
  std::ofstream(folder + "/deep/er/small") << "hello\n";
  run_tool("ln -sf deep/er/small " + folder + "/short; ln -sf " + std::string(100, 'x') + " " + folder +
           "/long; ln -f " + folder + "/big " + folder + "/again; for i in $(seq 300); do echo $i > " + folder +
           "/deep/file-$i; done");
}

}  // namespace

TEST_SUITE("ext2") {
  TEST_CASE("what mke2fs -d wrote is read, for every shape of image") {
    make_source_folder();
    for (const char* shape : {"-b 1024", "-b 2048", "-b 4096", "-b 1024 -I 128 -O ^filetype"}) {
      CAPTURE(shape);
      Mounted disk{make_image(std::string(shape) + " -d " + ScratchFolder::path() + "/source", 8192)};
      const Result<u32> big = disk.fs.lookup(kExt2RootInode, "big");
      REQUIRE(big);
      CHECK(disk.text(*big) == pattern(700'000, 1));
      CHECK(disk.fs.lookup(kExt2RootInode, "again") == *big);
      CHECK(disk.fs.load(*big)->links == 2);
      const Result<u32> deep = disk.fs.lookup(kExt2RootInode, "deep");
      REQUIRE(deep);
      u32 names = 0;
      Ext2Entry entry;
      for (u64 cursor = 0; disk.fs.next_entry(*deep, cursor, entry);) {
        ++names;
        if (!entry.name().starts_with("file-")) continue;
        CHECK(disk.text(entry.inode) == std::string(entry.name().substr(5)) + "\n");
      }
      CHECK(names == 303);
      const u32 er = disk.fs.lookup(*deep, "er").value();
      CHECK(disk.text(disk.fs.lookup(er, "small").value()) == "hello\n");
      CHECK(disk.fs.lookup(er, "..") == *deep);
      char target[200];
      CHECK(disk.fs.read_link(disk.fs.lookup(kExt2RootInode, "short").value(), target) == 13u);
      CHECK(std::string_view(target, 13) == "deep/er/small");
      CHECK(disk.fs.read_link(disk.fs.lookup(kExt2RootInode, "long").value(), target) == 100u);
      CHECK(disk.clean());
    }
  }

  TEST_CASE("files, directories, links and names are made, moved and removed on every shape of image") {
    for (const char* shape : kShapes) {
      CAPTURE(shape);
      Mounted disk{make_image(shape, 8192)};
      Ext2& fs = disk.fs;
      const u32 before = fs.volume().free_blocks();
      const u32 a = fs.make_directory(kExt2RootInode, "a", 0755).value();
      const u32 b = fs.make_directory(a, "b", 0755).value();
      const std::string text = pattern(600'000, 2);
      const u32 file = disk.file(b, "file", text);
      CHECK(fs.create(b, "file", kExt2ModeFile | 0644) == std::unexpected(Error::Exists));
      CHECK(fs.make_directory(b, std::string(256, 'n'), 0755) == std::unexpected(Error::NameTooLong));
      CHECK(fs.create(b, std::string(255, 'n'), kExt2ModeFile | 0644).has_value());
      CHECK(fs.link(a, "hard", file));
      const u32 quick = fs.make_symlink(a, "quick", std::string(59, 'q')).value();
      const u32 slow = fs.make_symlink(a, "slow", std::string(60, 's')).value();
      char target[100];
      CHECK(fs.read_link(quick, target) == 59u);
      CHECK(fs.read_link(slow, target) == 60u);
      CHECK(fs.load(slow)->blocks_512 == fs.geometry().sectors_per_block());
      CHECK(fs.rename(a, "b", kExt2RootInode, "moved", b));
      CHECK(fs.lookup(b, "..") == kExt2RootInode);
      CHECK(fs.load(a)->links == 2);
      CHECK(fs.load(kExt2RootInode)->links == 5);
      CHECK(fs.remove_directory(kExt2RootInode, "moved", b) == std::unexpected(Error::NotEmpty));
      CHECK(fs.unlink(a, "hard", file));
      CHECK(disk.text(file) == text);
      const u32 empty = fs.make_directory(a, "empty", 0755).value();
      CHECK(fs.rename(kExt2RootInode, "moved", a, "empty", b));
      CHECK(fs.evict(empty));
      CHECK(fs.lookup(b, "..") == a);
      const u32 other = disk.file(a, "other", "other");
      CHECK(fs.rename(b, "file", a, "other", file));
      CHECK(fs.evict(other));
      CHECK(fs.lookup(a, "other") == file);
      CHECK(disk.text(file) == text);
      CHECK(truncate_to(fs, disk.store, file, 300'001));
      CHECK(truncate_to(fs, disk.store, file, 400'000));
      CHECK(disk.text(file) == text.substr(0, 300'001) + std::string(99'999, '\0'));
      CHECK(fs.unlink(a, "other", file));
      CHECK(fs.evict(file));
      CHECK(disk.clean());
      CHECK(fs.volume().free_blocks() + 4 >= before - fs.geometry().block_bytes() / 1024);
    }
  }

  TEST_CASE("holes and files up to triple indirection") {
    Mounted disk{make_image("-b 1024", 16384)};
    const u32 file = disk.file(kExt2RootInode, "sparse", "start");
    const u64 places[] = {12 * kKiB - 3, 268 * kKiB - 3, 65804ull * kKiB - 3, 200ull * kMiB + 17, 3ull * kGiB};
    for (const u64 place : places) REQUIRE(disk.write(file, place, "middle"));
    CHECK(disk.fs.load(file)->size_high == 0);
    REQUIRE(disk.write(file, 5ull * kGiB, "far"));
    CHECK(Ext2Inodes::size_of(disk.fs.load(file).value()) == 5ull * kGiB + 3);
    const Ext2InodeRecord record = disk.fs.load(file).value();
    for (const u64 place : places) {
      const Ext2Run run = disk.fs.map(record, static_cast<u32>(place >> 10), 1).value();
      REQUIRE(run.block != 0);
      CHECK(std::memcmp(disk.store.image().data() + (u64{run.block} << 10) + (place & 1023), "mid", 3) == 0);
    }
    CHECK(disk.fs.map(record, 100'000, 64)->block == 0);
    CHECK(disk.write(file, 17ull * kGiB, "beyond").error() == Error::TooLarge);
    SUBCASE("kept") { CHECK(disk.clean()); }
    SUBCASE("cut in the middle of each tree") {
      for (const u64 size :
           {4ull * kGiB, 200ull * kMiB + 1, 65'805ull * kKiB, 300ull * kKiB, 13ull * kKiB, 1ull, 0ull}) {
        REQUIRE(truncate_to(disk.fs, disk.store, file, size));
      }
      CHECK(disk.fs.load(file)->blocks_512 == 0);
      CHECK(disk.clean());
    }
    SUBCASE("removed") {
      REQUIRE(disk.fs.unlink(kExt2RootInode, "sparse", file));
      REQUIRE(disk.fs.evict(file));
      CHECK(disk.clean());
    }
  }

  TEST_CASE("sequential writes lie beside each other") {
    Mounted disk{make_image("-b 4096", 16384)};
    const u32 file = disk.file(kExt2RootInode, "file", pattern(4 * kMiB, 3));
    const Ext2InodeRecord record = disk.fs.load(file).value();
    u32 runs = 0;
    for (u32 at = 0; at < 1024; ++runs) at += disk.fs.map(record, at, 1024 - at)->blocks;
    CHECK(runs <= 5);  // direct blocks, one run behind each block of pointers, and the change of group
    CHECK(disk.clean());
  }

  TEST_CASE("a full disk and a lack of inodes leave nothing half done") {
    for (const char* shape : {"-b 1024 -N 64", "-b 4096 -N 64"}) {
      CAPTURE(shape);
      Mounted disk{make_image(shape, 1024)};
      Ext2& fs = disk.fs;
      const u32 file = fs.create(kExt2RootInode, "fills", kExt2ModeFile | 0644).value();
      const std::string block = pattern(fs.geometry().block_bytes(), 4);
      Result<> written;
      u32 blocks = 0;
      for (; (written = disk.write(file, u64{blocks} * block.size(), block)); ++blocks) REQUIRE(blocks < 2000);
      CHECK(written.error() == Error::NoSpace);
      CHECK(fs.volume().free_blocks() == 0);
      CHECK(fs.make_directory(kExt2RootInode, "d", 0755) == std::unexpected(Error::NoSpace));
      CHECK(fs.make_symlink(kExt2RootInode, "s", std::string(100, 's')) == std::unexpected(Error::NoSpace));
      CHECK(!fs.lookup(kExt2RootInode, "s"));
      Result<u32> made;
      u32 files = 0;
      for (; (made = fs.create(kExt2RootInode, "n" + std::to_string(files), kExt2ModeFile | 0644)); ++files) {
        REQUIRE(files < 100);
      }
      CHECK(made.error() == Error::NoSpace);
      CHECK(fs.unlink(kExt2RootInode, "fills", file));
      CHECK(fs.evict(file));
      while (fs.create(kExt2RootInode, "m" + std::to_string(files), kExt2ModeFile | 0644)) REQUIRE(++files < 100);
      CHECK(fs.volume().free_inodes() == 0);
      CHECK(disk.clean());
    }
  }

  TEST_CASE("a directory of 10,000 names") {
    for (const char* shape : {"-b 1024 -N 11000", "-b 4096 -N 11000"}) {
      CAPTURE(shape);
      Mounted disk{make_image(shape, 16384)};
      Ext2& fs = disk.fs;
      const u32 folder = fs.make_directory(kExt2RootInode, "many", 0755).value();
      const u32 first = disk.file(folder, "name-of-file-0", "x");
      for (u32 i = 1; i < 10'000; ++i) {
        if (i % 16 == 0) {
          REQUIRE(fs.create(folder, "name-of-file-" + std::to_string(i), kExt2ModeFile | 0644));
        } else {
          REQUIRE(fs.link(folder, "name-of-file-" + std::to_string(i), first));
        }
      }
      u32 names = 0;
      Ext2Entry entry;
      for (u64 cursor = 0; fs.next_entry(folder, cursor, entry);) ++names;
      CHECK(names == 10'002);
      const u32 size = fs.load(folder)->size;
      for (u32 i = 1; i < 10'000; i += 3) {
        const std::string name = "name-of-file-" + std::to_string(i);
        const u32 inode = fs.lookup(folder, name).value();
        REQUIRE(fs.unlink(folder, name, inode));
        if (inode != first) REQUIRE(fs.evict(inode));
      }
      for (u32 i = 0; i < 3'000; ++i) REQUIRE(fs.link(folder, "again-file-" + std::to_string(i), first));
      CHECK(fs.load(folder)->size == size);
      CHECK(disk.clean());
    }
  }

  TEST_CASE("a hashed directory of another system's is changed and becomes a plain one") {
    const std::string folder = ScratchFolder::path() + "/hashed";
    run_tool("mkdir -p " + folder + "/d; for i in $(seq 2000); do : > " + folder + "/d/a-rather-long-name-$i; done");
    make_image("-b 1024 -N 4000 -d " + folder, 8192);
    run_tool("e2fsck -fyD " + ScratchFolder::path() + "/made.img");
    const std::string made = text_of(ScratchFolder::path() + "/made.img");
    Mounted disk{{made.begin(), made.end()}};
    const u32 d = disk.fs.lookup(kExt2RootInode, "d").value();
    REQUIRE((disk.fs.load(d)->flags & kExt2FlagIndexed) != 0);
    for (u32 i = 1; i <= 2000; ++i) CHECK(disk.fs.lookup(d, "a-rather-long-name-" + std::to_string(i)));
    disk.file(d, "new", "new");
    CHECK((disk.fs.load(d)->flags & kExt2FlagIndexed) == 0);
    CHECK(disk.clean());
  }

  TEST_CASE("unclean, damaged and newer volumes are read-only or refused") {
    const auto open = [](const std::string& options, const std::string& commands) {
      make_image(options, 4096);
      const std::string path = ScratchFolder::path() + "/made.img";
      if (!commands.empty()) REQUIRE(run_tool("debugfs -w -R '" + commands + "' " + path) == 0);
      const std::string made = text_of(path);
      ImageStore store{{made.begin(), made.end()}};
      Ext2 fs{store};
      const Result<> mounted = fs.mount(made.size(), Ext2Mode::ReadWrite);
      if (!mounted) return std::string{error_name(mounted.error())};
      if (!fs.read_only()) return std::string{"read-write"};
      CHECK(fs.create(kExt2RootInode, "x", kExt2ModeFile | 0644) == std::unexpected(Error::ReadOnly));
      CHECK(fs.unmount());
      CHECK(store.changes() == 0);
      return std::string{"read-only"};
    };
    CHECK(open("", "") == "read-write");
    CHECK(open("", "set_super_value state 0") == "read-only");
    CHECK(open("", "set_super_value state 3") == "read-only");
    CHECK(open("-O extents", "") == "not supported");
    CHECK(open("-O flex_bg", "") == "not supported");
    CHECK(open("-O 64bit,extents", "") == "not supported");
    CHECK(open("-O has_journal", "") == "read-write");
    CHECK(open("-O has_journal", "feature needs_recovery") == "not supported");
    CHECK(open("-O huge_file", "") == "read-only");
  }

  TEST_CASE("a device that fails stops changes, and nothing is made up") {
    const std::vector<u8> image = make_image("-b 1024", 2048);
    for (u32 call = 1; call < 120; ++call) {
      Mounted disk{image};
      disk.store.fail_from(call);
      const Result<u32> inode = disk.fs.create(kExt2RootInode, "file", kExt2ModeFile | 0644);
      const Result<> written = inode ? disk.write(*inode, 20 * kKiB, "text") : Result<>{};
      if (inode && written) {
        CHECK(call > 20);
        break;
      }
      CHECK((disk.fs.read_only() || disk.store.complaints() == 0));
    }
  }

  TEST_CASE("files that are written at the same time lie in long runs, and a full disk is full") {
    constexpr u32 kFiles = 3, kBlocks = 200;
    Mounted disk{make_image("-b 1024 -g 1024", 4096)};
    u32 files[kFiles];
    for (u32& file : files)
      file = disk.file(kExt2RootInode, std::string(1, static_cast<char>('a' + (&file - files))), "");
    for (u32 i = 0; i < kBlocks; ++i) {
      for (const u32 file : files) REQUIRE(disk.fs.need_block(file, i, (u64{i} + 1) * kKiB));
    }
    for (const u32 file : files) {
      const Ext2InodeRecord record = disk.fs.load(file).value();
      u32 runs = 0;
      for (u32 at = 0; at < kBlocks; ++runs) at += disk.fs.map(record, at, kBlocks - at)->blocks;
      MESSAGE(kBlocks, " blocks in ", runs, " runs");
      CHECK(runs <= 16);
    }
    for (u32 i = kBlocks; disk.fs.need_block(files[0], i, (u64{i} + 1) * kKiB); ++i) {}
    CHECK(disk.fs.volume().free_blocks() == 0);
    CHECK(disk.clean());
  }

}  // TEST_SUITE
