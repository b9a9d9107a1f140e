// Virtio disks that do not do what they should. The device is a fake in this file.
#include <new>

#include "block.hpp"
#include "kernel/block/virtio_disk.hpp"
#include "kernel/fs/folio_io.hpp"
#include "kernel/sync.hpp"
#include "mm/kmalloc.hpp"
#include "threads.hpp"

namespace paean {

namespace {

constexpr u32 kRingSize = 64, kSectors = 2048, kTimeoutMs = 1000;
constexpr u64 kFlush = 1u << 9;

/// The other side of the ring: the test says what it answers.
class FakeTransport final : public VirtioTransport {
 public:
  bool is_modern() const override { return true; }
  u64 device_features() override { return virtio::kVersion1 | kFlush; }
  void accept_features(u64) override {}
  u8 status() override { return stays_up ? u8{virtio::kDriverOk} : status_; }
  void set_status(u8 status) override {
    status_ = status;
    if (status != 0) return;
    ++resets;
    seen_ = given_ = 0;
  }
  u32 queue_size() override { return kRingSize; }
  void set_queue(u32, const VirtioQueuePlace& place) override { place_ = place; }
  void notify() override {}
  u8 interrupt_reason() override { return reason; }
  u32 config(u32 offset) override {
    if (offset == 4 && restless) return ++asked_;
    return offset == 0 ? kSectors : 0;
  }
  void forbid_dma() override { ++forbidden; }
  void destroy() override {}
  void ask_for_reset() { status_ |= virtio::kNeedsReset; }

  /// The head of the next chain; kRingSize if there is none.
  u32 take() {
    const u16* available = memory<u16>(place_.available);
    if (available[1] == seen_) return kRingSize;
    return available[2 + seen_++ % kRingSize];
  }
  /// Its status byte gets a value, and what it reads is zeros; `missing` bytes less are said to be written.
  void answer(VirtioDisk& disk, u32 head, u8 verdict, u32 missing = 0) {
    u32 at = head, writable = 0;
    for (;; at = descriptor(at).next) {
      const Descriptor& part = descriptor(at);
      if ((part.flags & 2) != 0) writable += part.bytes;
      if ((part.flags & 1) == 0) break;
      if ((part.flags & 2) != 0) zero(part.address, part.bytes);
    }
    *memory<u8>(descriptor(at).address) = verdict;
    give(disk, head, writable - missing);
  }
  void give(VirtioDisk& disk, u32 head, u32 bytes) {
    u32* entry = memory<u32>(place_.used + 4) + 2 * (given_ % kRingSize);
    entry[0] = head;
    entry[1] = bytes;
    memory<u16>(place_.used)[1] = ++given_;
    interrupt(disk);
  }
  void interrupt(VirtioDisk& disk) {
    if (loses_interrupts) return;
    const arch::IrqsOffGuard off;
    (void)VirtioDisk::on_interrupt(&disk);
  }

  u8 reason = virtio::kQueueInterrupt;
  u32 resets = 0, forbidden = 0;
  bool stays_up = false;
  bool loses_interrupts = false;
  bool restless = false;  // its capacity changes at every look

 private:
  struct Descriptor {
    PhysAddr address;
    u32 bytes;
    u16 flags, next;
  };
  template <typename T>
  static T* memory(PhysAddr at) {
    return pointer_to<T>(to_low(to_pfn(at))->address() + at.page_offset());
  }
  static void zero(PhysAddr at, u32 bytes) {
    for (u32 done = 0; done < bytes; done += kSectorBytes)
      zero_user(pfn_to_page(to_pfn(at + done)), (at + done).page_offset(), kSectorBytes);
  }
  const Descriptor& descriptor(u32 number) const { return memory<Descriptor>(place_.descriptors)[number % kRingSize]; }

  u32 asked_ = 0;
  u8 status_ = 0;
  VirtioQueuePlace place_{};
  u16 seen_ = 0, given_ = 0;
};

/// A disk with a fake device, registered as vdz.
class FakeDisk {
 public:
  FakeDisk() : disk_(transport) {
    Crew<1> crew;
    if (!disk_.init('z', kTimeoutMs) || !crew.add("register", enter, this)) return;
    // The layer looks for partitions meanwhile.
    while (load(entered_) == 0) answer_all();
    crew.join();
  }
  ~FakeDisk() {
    if (good()) (void)unregister_block_device(disk_);
    disk_.release();
  }
  FakeDisk(const FakeDisk&) = delete;
  FakeDisk& operator=(const FakeDisk&) = delete;
  bool good() { return load(entered_) == kEntered; }
  VirtioDisk& operator*() { return disk_; }

  void answer_all() {
    const u32 head = transport.take();
    if (head != kRingSize) return transport.answer(disk_, head, 0);
    thread_sleep_ms(1);
  }

  FakeTransport transport;

 private:
  static constexpr u32 kEntered = 1, kRefused = 2;
  static void enter(void* self) {
    auto& me = *static_cast<FakeDisk*>(self);
    store(me.entered_, register_block_device(me.disk_) ? kEntered : kRefused);
  }
  VirtioDisk disk_;
  u32 entered_ = 0;
};

struct Request : BlockRequest {
  Completion completion;
  bool failed = false;
  Error error{};
};

void note(BlockRequest& request, Result<> result) {
  auto& mine = static_cast<Request&>(request);
  mine.failed = !result;
  if (!result) mine.error = result.error();
  mine.completion.complete();
}

/// Requests of one page each, far enough from each other not to be merged.
struct Requests {
  static constexpr u32 kCount = 4;
  TestPages<kCount> pages;
  Request requests[kCount];

  bool take() { return pages.take(kCount, AllocFlags::HighUser); }
  void submit_one(VirtioDisk& disk, BlockOp op, u32 number) {
    Request& request = requests[number];
    request.op = op;
    request.sector = u64{64} * number;
    request.segments = {&pages[number], 1};
    request.done = note;
    submit(disk, request);
  }
  bool submit_to(VirtioDisk& disk, BlockOp op) {
    if (!take()) return false;
    for (u32 i = 0; i < kCount; ++i) submit_one(disk, op, i);
    return true;
  }
  /// All end with Io.
  void expect_all_failed(TestContext& test) {
    for (Request& request : requests) {
      EXPECT(request.completion.wait_for_ms(1000));
      EXPECT(request.failed && request.error == Error::Io);
    }
  }
};

/// Four reads are on their way, and the device has done `what` to the first.
template <typename What>
void expect_given_up(TestContext& test, What what) {
  static_assert(sizeof(FakeDisk) < 2 * kKiB);
  void* memory = *kmalloc(sizeof(FakeDisk), AllocFlags::Kernel);
  {
    auto* disk = new (memory) FakeDisk;
    REQUIRE(disk->good());
    Requests requests;
    REQUIRE(requests.submit_to(**disk, BlockOp::Read));
    what(disk->transport, **disk, disk->transport.take());
    requests.expect_all_failed(test);
    EXPECT_EQ(disk->transport.forbidden, 1u);
    // Later ones as well, and the device is not asked any more.
    EXPECT(submit_and_wait(**disk, BlockOp::Flush, 0, {}).error() == Error::Io);
    EXPECT(submit_and_wait(**disk, BlockOp::Write, 8, requests.pages.segments()).error() == Error::Io);
    disk->~FakeDisk();
  }
  kfree(memory);
}

}  // namespace

KTEST(virtio, a_head_that_does_not_exist) {
  expect_given_up(test, [](FakeTransport& device, VirtioDisk& disk, u32) { device.give(disk, 0x10000, 1); });
}

KTEST(virtio, a_head_that_is_not_in_flight) {
  expect_given_up(test, [](FakeTransport& device, VirtioDisk& disk, u32 head) { device.give(disk, head + 1, 1); });
}

KTEST(virtio, more_bytes_than_there_was_room_for) {
  expect_given_up(test,
                  [](FakeTransport& device, VirtioDisk& disk, u32 head) { device.give(disk, head, kPageSize + 2); });
}

KTEST(virtio, a_device_that_asks_for_a_reset) {
  expect_given_up(test, [](FakeTransport& device, VirtioDisk& disk, u32) {
    device.ask_for_reset();
    device.reason = virtio::kConfigInterrupt;
    device.interrupt(disk);
  });
}

KTEST(virtio, a_change_of_configuration_is_only_logged) {
  FakeDisk disk;
  REQUIRE(disk.good());
  disk.transport.reason = virtio::kConfigInterrupt;
  disk.transport.interrupt(*disk);
  EXPECT_EQ(disk.transport.forbidden, 0u);
}

KTEST(virtio, a_capacity_that_never_holds_still) {
  FakeTransport transport;
  transport.restless = true;
  VirtioDisk disk{transport};
  const Result<> result = disk.init('z', kTimeoutMs);
  EXPECT(!result && result.error() == Error::NotSupported);
  disk.release();
}

KTEST(virtio, one_that_fails_is_repeated_alone) {
  Requests requests;  // longer than the disk, which waits for them
  FakeDisk disk;
  REQUIRE(disk.good());
  REQUIRE(requests.submit_to(*disk, BlockOp::Read));
  u32 heads[Requests::kCount];
  for (u32& head : heads) head = disk.transport.take();
  disk.transport.answer(*disk, heads[0], 1);
  EXPECT_EQ(disk.transport.take(), kRingSize);  // not before the others are back
  disk.transport.answer(*disk, heads[1], 1);
  disk.transport.answer(*disk, heads[2], 0);
  disk.transport.answer(*disk, heads[3], 0, 1);  // a byte too few
  const u32 first = disk.transport.take();
  REQUIRE(first != kRingSize);
  EXPECT_EQ(disk.transport.take(), kRingSize);  // one at a time
  disk.transport.answer(*disk, first, 0);
  disk.transport.answer(*disk, disk.transport.take(), 1);
  disk.transport.answer(*disk, disk.transport.take(), 0);
  u32 failed = 0;
  for (Request& request : requests.requests) {
    REQUIRE(request.completion.wait_for_ms(1000));
    failed += request.failed ? 1 : 0;
  }
  EXPECT_EQ(failed, 1u);
}

namespace {

struct Reader {
  AddressSpace* contents;
  Result<u32> got{0};
  u8 bytes[8]{1};

  static void run(void* self) {
    auto& me = *static_cast<Reader*>(self);
    me.got = me.contents->read(0, me.bytes, nullptr);
  }
};

/// Reads the disk's first bytes, while the device answers `times` commands with so many bytes too few.
Reader read_with_answers(FakeDisk& disk, AddressSpace* contents, u32 times, u32 missing) {
  Reader reader{contents};
  Crew<1> crew;
  if (!crew.add("reader", Reader::run, &reader)) times = 0;
  for (; times != 0; --times) {
    u32 head = kRingSize;
    if (!within_ms(2000, [&] { return (head = disk.transport.take()) != kRingSize; })) break;
    disk.transport.answer(*disk, head, 0, missing);
  }
  crew.join();
  return reader;
}

}  // namespace

KTEST(virtio, a_read_that_is_too_short_is_an_error_and_leaves_no_page) {
  FakeDisk disk;
  REQUIRE(disk.good());
  const Result<AddressSpace*> contents = open_device_contents(*disk);
  REQUIRE(contents.has_value());
  for (const u32 missing : {1u, kSectorBytes}) {
    const Reader failed = read_with_answers(disk, *contents, 2, missing);  // once more alone
    EXPECT(!failed.got && failed.got.error() == Error::Io);
    EXPECT_EQ(failed.bytes[0], 1);  // the caller's memory is as it was
  }
  const Reader whole = read_with_answers(disk, *contents, 1, 0);  // the device is asked again
  EXPECT(whole.got && *whole.got == sizeof whole.bytes);
  EXPECT_EQ(whole.bytes[0], 0);
  EXPECT(close_device_contents(*disk).has_value());
}

KTEST(virtio, after_an_abort_the_others_begin_anew, .flags = TestFlag::Slow) {
  Requests requests;  // longer than the disk, which waits for them
  FakeDisk disk;
  REQUIRE(disk.good());
  REQUIRE(requests.take());
  const u32 resets = disk.transport.resets;
  requests.submit_one(*disk, BlockOp::Write, 0);
  thread_sleep_ms(kTimeoutMs / 2);  // the others are not late yet when the first one is
  for (u32 i = 1; i < Requests::kCount; ++i) requests.submit_one(*disk, BlockOp::Write, i);
  for (u32 i = 0; i < Requests::kCount; ++i) EXPECT(disk.transport.take() != kRingSize);
  const bool answered = requests.requests[0].completion.wait_for_ms(15 * kTimeoutMs);
  thread_sleep_ms(3 * kTimeoutMs / 4);  // they would be late if they had not been given to the device again
  for (u32 i = 1; i < Requests::kCount; ++i) {
    const u32 head = disk.transport.take();
    EXPECT(head != kRingSize);
    if (head != kRingSize) disk.transport.answer(*disk, head, 0);
  }
  REQUIRE(answered);
  EXPECT(requests.requests[0].failed && requests.requests[0].error == Error::TimedOut);
  for (u32 i = 1; i < Requests::kCount; ++i) {
    EXPECT(requests.requests[i].completion.wait_for_ms(1000));
    EXPECT(!requests.requests[i].failed);
  }
  EXPECT_EQ(disk.transport.resets, resets + 1);
  EXPECT_EQ(disk.transport.forbidden, 0u);
}

KTEST(virtio, a_lost_interrupt_costs_time_only, .flags = TestFlag::Slow) {
  Requests requests;  // longer than the disk, which waits for them
  FakeDisk disk;
  REQUIRE(disk.good());
  REQUIRE(requests.submit_to(*disk, BlockOp::Write));
  const u32 resets = disk.transport.resets;
  disk.transport.loses_interrupts = true;
  for (u32 i = 0; i < Requests::kCount; ++i) disk.transport.answer(*disk, disk.transport.take(), 0);
  for (Request& request : requests.requests) {
    EXPECT(request.completion.wait_for_ms(15 * kTimeoutMs));
    EXPECT(!request.failed);
  }
  EXPECT_EQ(disk.transport.resets, resets);
  EXPECT_EQ(block_statistics(*disk).timeouts, 0u);
  disk.transport.loses_interrupts = false;
}

KTEST(virtio, a_device_that_stays_in_its_reset_is_given_up, .flags = TestFlag::Slow) {
  Requests requests;  // longer than the disk, which waits for them
  FakeDisk disk;
  REQUIRE(disk.good());
  REQUIRE(requests.take());
  requests.submit_one(*disk, BlockOp::Read, 0);
  thread_sleep_ms(kTimeoutMs / 2);
  for (u32 i = 1; i < Requests::kCount; ++i) requests.submit_one(*disk, BlockOp::Read, i);
  disk.transport.stays_up = true;
  for (Request& request : requests.requests) {
    EXPECT(request.completion.wait_for_ms(20 * kTimeoutMs));
    EXPECT(request.failed);
  }
  EXPECT(requests.requests[0].error == Error::TimedOut);
  EXPECT(requests.requests[1].error == Error::Io);
  EXPECT_EQ(disk.transport.forbidden, 1u);
  disk.transport.stays_up = false;
}

}  // namespace paean
