// A file server's day: clients that replay a mix of operations, each in a directory of its own.
//
// The mix is that of dbench's load file, in shares of its operations: opening files to write (and creating them) or to
// read, pieces of 1 to 64 KiB, looking at files, listing directories, asking how full it is, renaming, removing,
// flushing. Each client plays it from numbers of its own until time is over. What counts is bytes read and written in
// a second, all clients together, and the largest share of lowmem that was in use meanwhile.
// On /mnt if something is mounted there, else on a tmpfs of its own.
// Source: dbench 4.0 (Tridgell); the claim to beat is that 250 clients work as fast as 25.
#include <algorithm>

#include "arch/tlb.hpp"
#include "kernel/bench/kbench.hpp"
#include "kernel/fs/mount_table.hpp"
#include "kernel/fs/path.hpp"
#include "mm/kmalloc.hpp"
#include "mm/kmap.hpp"

namespace paean {

namespace {

constexpr u32 kMostClients = 250, kMilliseconds = 2000, kFilesOfClient = 6;
constexpr u32 kSmallest = 1024, kDoublings = 6;  // pieces of 1 to 64 KiB
constexpr u32 kBufferBytes = 4096;

enum class Operation : u8 { WriteFile, ReadFile, Look, List, HowFull, Rename, Remove, Flush };

/// Shares of a thousand.
struct Share {
  Operation operation;
  u32 share;
};
constexpr Share kMix[] = {{Operation::WriteFile, 130}, {Operation::ReadFile, 350}, {Operation::Look, 300},
                          {Operation::List, 80},       {Operation::HowFull, 35},   {Operation::Rename, 15},
                          {Operation::Remove, 65},     {Operation::Flush, 25}};

/// What all clients of one run share.
struct Run {
  std::string_view folder;
  std::span<const u8> pattern;
  u32 stop = 0;
};

struct Client {
  Run* run = nullptr;
  u32 number = 0, seed = 0;
  u32 operations = 0, kib = 0;
  u32 failures = 0;
  Thread* thread = nullptr;
  std::span<u8> buffer{};

  u32 below(u32 bound) {
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return static_cast<u32>((u64{seed} * bound) >> 32);
  }
};

using Path = std::array<char, 40>;

std::string_view directory_of(const Client& client, Path& text) {
  BufferSink path{text};
  format_to(path, "{}/c{}", client.run->folder, client.number);
  return path.view();
}

std::string_view some_file(Client& client, Path& text) {
  BufferSink path{text};
  format_to(path, "{}/c{}/file{}", client.run->folder, client.number, client.below(kFilesOfClient));
  return path.view();
}

Result<> write_whole(Client& client, std::string_view path) {
  OpenFile* file = TRY(open_file(path, OpenMode::Write | OpenMode::Create | OpenMode::Truncate));
  Result<u32> done = 0u;
  const u32 bytes = kSmallest << client.below(kDoublings + 1);
  for (u32 left = bytes; left != 0 && done;) {
    done = write_file(*file, client.run->pattern.first(std::min<usize>(left, client.run->pattern.size())));
    if (done) left -= *done;
  }
  if (done) client.kib += bytes / 1024;
  close_file(file);
  if (!done) return std::unexpected(done.error());
  return {};
}

Result<> write_some(Client& client) {
  Path text;
  return write_whole(client, some_file(client, text));
}

Result<> read_some(Client& client) {
  Path text;
  OpenFile* file = TRY(open_file(some_file(client, text), OpenMode::Read));
  Result<u32> got = 0u;
  u32 bytes = 0;
  do {
    got = read_file(*file, client.buffer);
    if (got) bytes += *got;
  } while (got && *got != 0);
  client.kib += bytes / 1024;
  close_file(file);
  if (!got) return std::unexpected(got.error());
  return {};
}

Result<> list(Client& client) {
  Path text;
  OpenFile* directory = TRY(open_file(directory_of(client, text), OpenMode::Read | OpenMode::Directory));
  const Result<> read = read_directory(*directory, [](void*, const DirectoryEntry&) { return true; }, nullptr);
  close_file(directory);
  return read;
}

Result<> flush(Client& client) {
  Path text;
  OpenFile* file = TRY(open_file(some_file(client, text), OpenMode::Write));
  const Result<> synced = sync_file(*file);
  close_file(file);
  return synced;
}

Result<> play(Client& client, Operation operation) {
  Path text, other;
  switch (operation) {
    case Operation::WriteFile: return write_some(client);
    case Operation::ReadFile: return read_some(client);
    case Operation::List: return list(client);
    case Operation::Flush: return flush(client);
    case Operation::Remove: return remove_file(some_file(client, text));
    case Operation::Rename: return rename_file(some_file(client, text), some_file(client, other));
    case Operation::Look: TRY(status_of(some_file(client, text))); return {};
    case Operation::HowFull: TRY(statistics_of(client.run->folder)); return {};
  }
  return {};
}

Operation next_operation(Client& client) {
  u32 at = client.below(1000);
  for (const Share& share : kMix) {
    if (at < share.share) return share.operation;
    at -= share.share;
  }
  return Operation::Look;
}

void be_client(void* argument) {
  Client& client = *static_cast<Client*>(argument);
  while (__atomic_load_n(&client.run->stop, __ATOMIC_RELAXED) == 0) {
    const Result<> done = play(client, next_operation(client));
    if (!done && done.error() != Error::NotFound) ++client.failures;
    ++client.operations;
  }
}

/// Tenths of a percent.
u32 lowmem_in_use() {
  const MemoryTotals low = low_totals();
  return (low.total.count() - low.free.count()) * 1000 / low.total.count();
}

class Day {
 public:
  explicit Day(u32 clients) : count_(clients) {}
  ~Day() {
    for (u32 i = 0; i < count_ && clients_ != nullptr; ++i) {
      kfree(clients_[i].buffer.data());
      clean_up(clients_[i]);
    }
    kfree(clients_);
    kfree(pattern_);
  }
  Day(const Day&) = delete;
  Day& operator=(const Day&) = delete;

  Result<> prepare(std::string_view folder) {
    run_.folder = folder;
    pattern_ = TRY(kmalloc(16 * kKiB, AllocFlags::Kernel | AllocFlags::Zero));
    run_.pattern = {static_cast<const u8*>(pattern_), 16 * kKiB};
    clients_ = static_cast<Client*>(TRY(kmalloc(count_ * sizeof(Client), AllocFlags::Kernel)));
    for (u32 i = 0; i < count_; ++i) { clients_[i] = Client{.run = &run_, .number = i, .seed = i * 2654435761u + 1}; }
    for (u32 i = 0; i < count_; ++i) {
      clients_[i].buffer = { static_cast<u8*>(TRY(kmalloc(kBufferBytes, AllocFlags::Kernel))), kBufferBytes };
      Path text;
      TRY(make_directory(directory_of(clients_[i], text)));
      TRY(write_all(clients_[i]));
    }
    return MountTable::sync();
  }

  /// The largest share of lowmem seen.
  u32 play_for(u32 milliseconds) {
    u32 most = 0;
    for (u32 i = 0; i < count_; ++i) {
      const Result<Thread*> thread = thread_create("client", be_client, &clients_[i]);
      if (thread)
        clients_[i].thread = *thread;
      else
        ++clients_[i].failures;
    }
    // What counts is what is done between two looks at the clock, with everybody at work.
    const u64 begin = arch::read_tsc(), before = sum(&Client::kib);
    while ((arch::read_tsc() - begin) / arch::tsc_khz() < milliseconds) {
      thread_sleep_ms(100);
      most = std::max(most, lowmem_in_use());
    }
    kib_ = sum(&Client::kib) - before;
    microseconds_ = (arch::read_tsc() - begin) * 1000 / arch::tsc_khz();
    __atomic_store_n(&run_.stop, 1, __ATOMIC_RELAXED);
    for (u32 i = 0; i < count_; ++i) {
      if (clients_[i].thread != nullptr) thread_join(clients_[i].thread);
    }
    return most;
  }

  u64 kib() const { return kib_; }
  u64 operations() const { return sum(&Client::operations); }
  u64 failures() const { return sum(&Client::failures); }
  u64 microseconds() const { return microseconds_; }

 private:
  u64 sum(u32 Client::* field) const {
    u64 total = 0;
    for (u32 i = 0; i < count_; ++i) total += clients_[i].*field;
    return total;
  }
  static std::string_view file_of(const Client& client, u32 index, Path& text) {
    BufferSink path{text};
    format_to(path, "{}/c{}/file{}", client.run->folder, client.number, index);
    return path.view();
  }
  /// The day begins with all files there and on the disk, however many clients share it; that does not count.
  static Result<> write_all(Client& client) {
    Path text;
    for (u32 i = 0; i < kFilesOfClient; ++i) TRY(write_whole(client, file_of(client, i, text)));
    client.kib = 0;
    return {};
  }
  static void clean_up(Client& client) {
    Path text;
    for (u32 i = 0; i < kFilesOfClient; ++i) (void)remove_file(file_of(client, i, text));
    (void)remove_directory(directory_of(client, text));
  }

  u32 count_;
  Run run_{};
  Client* clients_ = nullptr;
  void* pattern_ = nullptr;
  u64 kib_ = 0, microseconds_ = 1;
};

/// A folder for the clients, and whether a tmpfs was mounted for it.
class Ground {
 public:
  Ground() {
    const Result<InodeRef> mnt = resolve("/mnt", Links::Follow);
    if (mnt && MountTable::is_root(**mnt)) {
      folder_ = "/mnt";
      type_ = (*mnt)->super->type();
    } else if (make_directory(folder_)) {
      own_ = mount({}, folder_, "tmpfs", MountMode::ReadWrite).has_value();
    }
  }
  ~Ground() {
    if (own_) (void)unmount(folder_);
    if (folder_ != "/mnt") (void)remove_directory(folder_);
  }
  Ground(const Ground&) = delete;
  Ground& operator=(const Ground&) = delete;
  std::string_view folder() const { return folder_; }
  std::string_view type() const { return type_; }

 private:
  std::string_view folder_ = "/netbench", type_ = "tmpfs";
  bool own_ = false;
};

void run_netbench(BenchContext& bench, u32 clients) {
  if (arch::clock_unit() == arch::ClockUnit::Instructions) return bench.skip("the clock counts instructions, not time");
  const Ground ground;
  Day day{clients};
  if (!day.prepare(ground.folder())) return bench.skip("no memory for the clients");
  const KmapStatistics maps = kmap_statistics();
  const u32 flushes = arch::tlb_events().full_flushes;
  const u32 lowmem = day.play_for(kMilliseconds);
  if (day.failures() != 0) {
    bench.note("{} operations failed", day.failures());
    return;  // nothing reported: the benchmark has failed
  }
  const KmapStatistics then = kmap_statistics();
  const u64 hits = then.hits - maps.hits, all = hits + then.misses - maps.misses;
  // Bytes in a microsecond are MB in a second.
  const u64 tenths = day.kib() * 10'240 / day.microseconds();
  char text[64];
  BufferSink line{text};
  format_to(line, "{}.{} MB/s lowmem {}.{} %", tenths / 10, tenths % 10, lowmem / 10, lowmem % 10);
  bench.report(line.view());
  bench.note("{}: {} operations, {} kmaps of which {} % hit, {} total flushes", ground.type(), day.operations(), all,
             all == 0 ? 100 : hits * 100 / all, arch::tlb_events().full_flushes - flushes);
}

}  // namespace

KBENCH(netbench_1, "one client of a file server") { run_netbench(bench, 1); }
KBENCH(netbench_25, "25 clients of a file server at once") { run_netbench(bench, 25); }
KBENCH(netbench_250, "250 clients of a file server at once") { run_netbench(bench, kMostClients); }

}  // namespace paean
