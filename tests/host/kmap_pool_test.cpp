// KmapPool on a machine of three pretended CPUs: slots are reused only after flushes, and everything is found again.
#include "mm/kmap_pool.hpp"
#include "mm/parked_blocks.hpp"

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "support.hpp"

using namespace paean;

namespace {

constexpr u32 kCpus = 3;

struct FakeMachine {
  struct Place {
    u32 number = 0;
  };
  Place place(u32 number) { return {number}; }
  void map(const Place& place, u32 key) {
    CHECK(entries[place.number] == 0);
    // No CPU may still have what was there before.
    for (u32 cpu = 0; cpu < kCpus; ++cpu) CHECK(flushed[cpu] >= cleared_before[place.number]);
    entries[place.number] = key / 4;  // the frame
  }
  void unmap(const Place& place) {
    CHECK(entries[place.number] != 0);
    entries[place.number] = 0;
    cleared_before[place.number] = generation + 1;
  }
  u32 new_generation() { return ++generation; }
  bool is_done(u32 stamp) const {
    for (const u32 have : flushed) {
      if (static_cast<i32>(have - stamp) < 0) return false;
    }
    return true;
  }
  void flush(u32 cpu) { flushed[cpu] = generation; }

  u32 entries[1024]{};
  u32 cleared_before[1024]{};
  u32 generation = 1;
  u32 flushed[kCpus]{1, 1, 1};
};

using Pool = KmapPool<FakeMachine>;

/// Of a frame.
constexpr u32 key(u32 frame) { return frame * Pool::kKeyStep; }

/// A clean slot, without recycling.
Pool::Slot* take(Pool& pool, u32 key, u32 cpu = 0) {
  Pool::Share* home = pool.share_of_cpu(cpu);
  return pool.take(key, home, [&] { return pool.share_with_clean(home); });
}
/// As kmap does it.
Pool::Slot* take_or_recycle(Pool& pool, u32 key, u32 cpu = 0) {
  Pool::Share* home = pool.share_of_cpu(cpu);
  return pool.take(key, home, [&] { return pool.refill(home); });
}

std::unique_ptr<Pool> make_pool(u32 slots) {
  auto pool = std::make_unique<Pool>();
  pool->init(slots);
  return pool;
}

}  // namespace

TEST_SUITE("kmap_pool") {
  TEST_CASE("a page keeps its slot while it is cached") {
    const auto pool = make_pool(8);
    CHECK(pool->get(key(5)) == nullptr);
    Pool::Slot* slot = take(*pool, key(5));
    REQUIRE(slot != nullptr);
    CHECK(pool->get(key(5)) == slot);
    CHECK(slot->users() == 2);
    CHECK(Pool::put(slot) == Pool::Put::StillUsed);
    CHECK(Pool::put(slot) == Pool::Put::Unused);
    CHECK(slot->is_cached());
    CHECK(pool->get(key(5)) == slot);
    CHECK(Pool::put(slot) == Pool::Put::Unused);
    CHECK(pool->taken() == 1);
  }

  TEST_CASE("one put too many is seen") {
    const auto pool = make_pool(8);
    Pool::Slot* slot = take(*pool, key(5));
    CHECK(Pool::put(slot) == Pool::Put::Unused);
    CHECK(Pool::put(slot) == Pool::Put::NotMapped);
  }

  TEST_CASE("recycled slots wait for the last CPU") {
    const auto pool = make_pool(8);
    FakeMachine& machine = pool->machine();
    for (u32 i = 1; i <= 8; ++i) CHECK(Pool::put(take(*pool, key(i))) == Pool::Put::Unused);
    CHECK(take(*pool, key(9)) == nullptr);
    CHECK(pool->recycle(8) == 8);
    CHECK(pool->get(key(3)) == nullptr);
    for (u32 cpu = 0; cpu < kCpus; ++cpu) {
      CHECK(take(*pool, key(9)) == nullptr);
      machine.flush(cpu);
    }
    CHECK(take(*pool, key(9)) != nullptr);
    CHECK(pool->has_clean(7));
    CHECK(!pool->has_clean(8));
  }

  TEST_CASE("used slots are not recycled") {
    const auto pool = make_pool(4);
    Pool::Slot* used = take(*pool, key(1));
    for (u32 i = 2; i <= 4; ++i) CHECK(Pool::put(take(*pool, key(i))) == Pool::Put::Unused);
    CHECK(pool->recycle(4) == 3);
    CHECK(pool->recycle(4) == 0);
    CHECK(pool->get(key(1)) == used);
  }

  TEST_CASE("who finds a slot recycled takes his increment back from its next user") {
    const auto pool = std::make_unique<Pool>();
    pool->init(1);
    Pool::Slot* slot = take(*pool, key(1));
    CHECK(Pool::put(slot) == Pool::Put::Unused);
    CHECK(pool->recycle(1) == 1);
    for (u32 cpu = 0; cpu < kCpus; ++cpu) pool->machine().flush(cpu);
    slot->count.fetch_add(1);  // by a reader who saw page 1 in it
    CHECK(slot->users() == 0);
    CHECK(take(*pool, key(2)) == slot);
    slot->count.fetch_sub(1);
    CHECK(slot->users() == 1);
    CHECK(Pool::put(slot) == Pool::Put::Unused);
  }

  TEST_CASE("a freed page loses its cached map, and only that") {
    const auto pool = make_pool(8);
    Pool::Slot* slot = take(*pool, key(1));
    CHECK(pool->forget(key(1)) == Forget::InUse);
    CHECK(Pool::put(slot) == Pool::Put::Unused);
    CHECK(pool->forget(key(2)) == Forget::NotMapped);
    CHECK(pool->forget(key(1)) == Forget::Dropped);
    CHECK(pool->forget(key(1)) == Forget::NotMapped);
    CHECK(pool->parked() == 8);
  }

  TEST_CASE("a page may be seen until the last CPU has flushed, however it lost its slot") {
    const auto pool = make_pool(8);
    FakeMachine& machine = pool->machine();
    for (u32 i = 1; i <= 4; ++i) CHECK(Pool::put(take(*pool, key(i))) == Pool::Put::Unused);
    CHECK(pool->forget(key(2)) == Forget::Dropped);
    CHECK(pool->may_be_seen(key(2), 1));
    CHECK(pool->may_be_seen(key(0), 4));
    CHECK(!pool->may_be_seen(key(3), 2));  // still mapped: that is not the question
    for (u32 cpu = 0; cpu < kCpus; ++cpu) {
      CHECK(pool->may_be_seen(key(2), 1));
      machine.flush(cpu);
    }
    CHECK(!pool->may_be_seen(key(2), 1));
    CHECK(pool->recycle(8) == 3);
    CHECK(pool->may_be_seen(key(3), 1));
    CHECK(pool->forget(key(3)) == Forget::NotMapped);
    for (u32 cpu = 0; cpu < kCpus; ++cpu) machine.flush(cpu);
    CHECK(!pool->may_be_seen(key(0), 100));
    CHECK(pool->waiting() == 0);
  }

  TEST_CASE("parked_blocks: come out in order, each after its generation") {
    ParkedBlocks<8> blocks;
    u32 done = 0;
    const auto is_done = [&](u32 stamp) { return static_cast<i32>(done - stamp) >= 0; };
    CHECK(!blocks.take_settled(is_done));
    blocks.park(Pfn{10}, 0xfffffffe);
    blocks.park(Pfn{11}, 1);
    blocks.park(Pfn{12}, 0);  // older than its neighbour: waits with it
    CHECK(blocks.newest() == 1);
    done = 0xfffffffd;
    CHECK(!blocks.take_settled(is_done));
    done = 0;
    CHECK(blocks.take_settled(is_done)->head == Pfn{10});
    CHECK(!blocks.take_settled(is_done));
    done = 1;
    CHECK(blocks.take_settled(is_done)->head == Pfn{11});
    CHECK(blocks.take_settled(is_done)->head == Pfn{12});
    CHECK(blocks.count() == 0);
    for (u32 round = 0; round < 100; ++round) {
      for (u32 i = 0; !blocks.full(); ++i) blocks.park(Pfn{i}, round);
      CHECK(blocks.count() == ParkedBlocks<8>::kCapacity);
      done = round;
      for (u32 i = 0; blocks.count() != 0; ++i) CHECK(blocks.take_settled(is_done)->head == Pfn{i});
    }
  }

  TEST_CASE("generations may wrap") {
    const auto pool = make_pool(4);
    FakeMachine& machine = pool->machine();
    machine.generation = 0xffffffff;
    for (u32& flushed : machine.flushed) flushed = 0xffffffff;
    for (u32 round = 0; round < 3; ++round) {
      for (u32 i = 1; i <= 4; ++i) {
        Pool::Slot* slot = take(*pool, key(i + 4 * round));
        REQUIRE(slot != nullptr);
        CHECK(Pool::put(slot) == Pool::Put::Unused);
      }
      for (u32& cleared : machine.cleared_before) cleared = 0;
      CHECK(pool->recycle(4) == 4);
      for (u32& cleared : machine.cleared_before) cleared = 0;
      CHECK(take(*pool, key(99)) == nullptr);
      for (u32 cpu = 0; cpu < kCpus; ++cpu) machine.flush(cpu);
    }
  }

  TEST_CASE("random work against a model") {
    for (u32 seed = 1; seed <= 40; ++seed) {
      std::mt19937 random{seed};
      const u32 slots = 1 + random() % 64;
      const auto pool = make_pool(seed % 2 == 0 ? slots : slots + 512);
      if (seed % 2 != 0) REQUIRE(pool->share_out(1 + random() % 8));
      FakeMachine& machine = pool->machine();
      std::map<u32, u32> users;  // by page
      std::vector<std::pair<u32, Pool::Slot*>> held;
      for (u32 step = 0; step < 5000; ++step) {
        const u32 page = 1 + random() % (2 * slots + 3);
        switch (random() % 8) {
          case 0:
          case 1:
          case 2: {
            Pool::Slot* slot = pool->get(key(page));
            if (users[page] != 0) REQUIRE(slot != nullptr);
            if (slot == nullptr) slot = take_or_recycle(*pool, key(page), random() % kCpus);
            if (slot == nullptr) break;

            REQUIRE(machine.entries[slot->place.number] == page);
            REQUIRE(slot->users() == ++users[page]);
            held.emplace_back(page, slot);
            break;
          }
          case 3:
          case 4:
          case 5: {
            if (held.empty()) break;
            const u32 which = random() % held.size();
            const auto [held_page, slot] = held[which];
            held.erase(held.begin() + which);
            REQUIRE(machine.entries[slot->place.number] == held_page);
            REQUIRE(Pool::put(slot) == (--users[held_page] == 0 ? Pool::Put::Unused : Pool::Put::StillUsed));
            break;
          }
          case 6: machine.flush(random() % kCpus); break;
          default:
            if (random() % 2 == 0) {
              (void)pool->recycle(1 + random() % slots);
            } else {
              REQUIRE((pool->forget(key(page)) == Forget::InUse) == (users[page] != 0));
            }
        }
        u32 used = 0, cached = 0;
        for (u32 i = 0; i < pool->slots(); ++i) {
          used += pool->slot(i).users() != 0 ? 1 : 0;
          cached += pool->slot(i).is_cached() ? 1 : 0;
        }
        REQUIRE(used + cached + pool->parked() == pool->slots());
      }
    }
  }

  TEST_CASE("each CPU takes from its share, then from what nobody uses, then recycles its own") {
    const auto pool = make_pool(512);
    REQUIRE(pool->share_out(2));
    CHECK(pool->share_of_cpu(0) == pool->share_of_cpu(2));
    const auto number_of = [&](const Pool::Slot* slot) { return slot->place.number; };
    CHECK(number_of(take_or_recycle(*pool, key(1), 0)) == 0);
    CHECK(number_of(take_or_recycle(*pool, key(2), 1)) == 256);
    CHECK(number_of(take_or_recycle(*pool, key(3), 0)) == 1);
    CHECK(!pool->share_out(1));  // they are not clean
    Pool::Share* share = pool->share_of_cpu(0);
    u32 borrowed = 0;
    for (u32 i = 4; i < 400; ++i) {
      Pool::Slot* slot = pool->take(key(i), share, [&] { return share = pool->refill(pool->share_of_cpu(0)); });
      REQUIRE(slot != nullptr);
      borrowed += number_of(slot) >= 256 ? 1 : 0;
    }
    CHECK(borrowed > 64);
    CHECK(pool->taken() == 399);
  }

  TEST_CASE("whoever has no share left gets the last slot of the others") {
    const auto pool = make_pool(256);
    REQUIRE(pool->share_out(2));
    for (u32 i = 1; i <= 256; ++i) REQUIRE(take_or_recycle(*pool, key(i), 0) != nullptr);
    CHECK(take_or_recycle(*pool, key(257), 0) == nullptr);
    CHECK(take_or_recycle(*pool, key(257), 1) == nullptr);
    CHECK(pool->parked() == 0);
  }

  TEST_CASE("a stream of misses on CPUs that flush themselves never runs dry") {
    const auto pool = make_pool(64);
    FakeMachine& machine = pool->machine();
    u32 seen[kCpus]{}, forced = 0;
    for (u32 i = 1; i <= 100'000; ++i) {
      const u32 cpu = i % kCpus;
      Pool::Slot* slot = take_or_recycle(*pool, key(i), cpu);
      if (slot == nullptr) {
        ++forced;
        (void)pool->recycle(64);
        for (u32 other = 0; other < kCpus; ++other) machine.flush(other);
        slot = take(*pool, key(i));
      }
      REQUIRE(slot != nullptr);

      if (seen[cpu] != pool->newest()) {
        seen[cpu] = pool->newest();
        machine.flush(cpu);
      }
      REQUIRE(Pool::put(slot) == Pool::Put::Unused);
    }
    CHECK(forced == 0);
  }
}
