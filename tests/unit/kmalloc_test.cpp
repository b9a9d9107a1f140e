// kmalloc: every size with every flag, the edges, and running out.
#include <algorithm>

#include "lending.hpp"
#include "mm/vcompound.hpp"
#include "mm/vmalloc.hpp"
#include "slab_faults.hpp"

namespace paean {

namespace {

u32 slab_pages_in_ledger() {
  u32 sum = 0;
  for (const ZoneId id : kAllZones) sum += ledger_pages(id, Owner::Slab).count();
  return sum;
}

bool all_are(const void* at, u32 bytes, u8 value) {
  const auto* byte = static_cast<const u8*>(at);
  for (u32 i = 0; i < bytes; ++i) {
    if (byte[i] != value) return false;
  }
  return true;
}

struct Chain {
  Chain* next;
};

}  // namespace

KTEST(kmalloc, sizes_and_flags) {
  constexpr AllocFlags kFlags[] = {AllocFlags::Kernel, AllocFlags::Atomic, AllocFlags::Kernel | AllocFlags::Zero,
                                   AllocFlags::Dma | AllocFlags::Zero, AllocFlags::NoIo | AllocFlags::Kernel};
  for (u32 size = 1; size <= 64 * kKiB; size += size < 300 ? 1 : size / 7) {
    for (const AllocFlags flags : kFlags) {
      for (u32 round = 0; round < 2; ++round) {  // the second finds what the first wrote
        const Result<void*> object = kmalloc(size, flags);
        REQUIRE(object.has_value());
        REQUIRE(ksize(*object) >= size);
        REQUIRE(address_of(*object).is_aligned(size <= 8 ? 8 : 16));
        if (flags.has(AllocFlags::Zero)) REQUIRE(all_are(*object, size, 0));
        __builtin_memset(*object, 0xdb, ksize(*object));
        kfree(*object);
      }
    }
  }
}

KTEST(kmalloc, constant_sizes_choose_like_others) {
  const auto check = [&](Result<void*> object, u32 size) {
    REQUIRE(object.has_value());
    EXPECT(cache_of(*object) == &kmalloc_caches[kmalloc_class(size)]);
    kfree(*object);
  };
  check(kmalloc(8, AllocFlags::Kernel), 8);
  check(kmalloc(9, AllocFlags::Kernel), 9);
  check(kmalloc(64, AllocFlags::Kernel), 64);
  check(kmalloc(65, AllocFlags::Kernel), 65);
  check(kzalloc(1024, AllocFlags::Kernel), 1024);
  check(kmalloc(8192, AllocFlags::Atomic), 8192);
  for (u32 size = 1; size <= kKmallocLimit; size += 97) check(kmalloc(size, AllocFlags::Kernel), size);
}

KTEST(kmalloc, nothing_and_too_much) {
  const Result<void*> nothing = kmalloc(0, AllocFlags::Kernel);
  REQUIRE(nothing.has_value());
  EXPECT(*nothing == kZeroSize);
  EXPECT_EQ(ksize(*nothing), 0);
  kfree(*nothing);
  kfree(nullptr);
  const AllocFlags quiet = AllocFlags::Kernel | AllocFlags::NoWarn;
  for (const u32 size : {kKmallocMaximum + 1, 0x7fff'ffffu, 0x8000'0000u, 0xffff'f000u, 0xffff'f001u, 0xffff'ffffu}) {
    u32 variable = size;
    asm("" : "+r"(variable));
    EXPECT_EQ(kmalloc(variable, quiet).error(), Error::TooLarge);
  }
  EXPECT_EQ(kmalloc(0xffff'ffff, quiet).error(), Error::TooLarge);
  const Result<void*> most = kmalloc(kKmallocMaximum, quiet);
  if (most) {
    EXPECT_EQ(ksize(*most), kKmallocMaximum);
    kfree(*most);
  }
}

KTEST(kmalloc, whole_pages_are_in_the_ledger) {
  shrink_caches();
  const u32 before = slab_pages_in_ledger();
  const Result<void*> large = kmalloc(40'000, AllocFlags::Kernel);
  REQUIRE(large.has_value());
  EXPECT_EQ(slab_pages_in_ledger(), before + 16);
  static constinit char text[4000];
  BufferSink owners{text};
  print_slab_owners(owners);
  EXPECT(contains(owners.view(), "kmalloc, whole pages"));
  EXPECT(contains(owners.view(), "exact"));
  {
    FaultListener faults;
    kfree(static_cast<u8*>(*large) + kPageSize);
    EXPECT(faults.heard(SlabFaultKind::PageAddress));
    kfree(static_cast<u8*>(*large) + 16);
    EXPECT(faults.heard(SlabFaultKind::PageAddress));
  }
  kfree(*large);
  EXPECT_EQ(slab_pages_in_ledger(), before);
}

KTEST(kmalloc, reallocation_keeps_contents) {
  Result<void*> object = krealloc(nullptr, 10, AllocFlags::Kernel);
  REQUIRE(object.has_value());
  __builtin_memset(*object, 0x3c, 10);
  u32 have = 10;
  for (const u32 size : {20u, 21u, 500u, 9000u, 40'000u, 100u, 5u, 64u}) {
    object = krealloc(*object, size, AllocFlags::Kernel);
    REQUIRE(object.has_value());
    EXPECT(ksize(*object) >= size);
    EXPECT(all_are(*object, std::min(have, size), 0x3c));
    __builtin_memset(*object, 0x3c, size);
    have = size;
  }
  EXPECT_EQ(krealloc(*object, 0xffff'ffff, AllocFlags::Kernel).error(), Error::TooLarge);
  EXPECT(all_are(*object, have, 0x3c));
  kfree(*object);
}

KTEST(kmalloc, running_out_is_an_error_and_leaves_nothing, .flags = TestFlag::Slow) {
  TakenMemory rest;  // a gigabyte of small objects takes seconds
  REQUIRE(rest.valid());
  rest.take_lowmem_but((128 * kMiB) / kPageSize);
  const u64 free = low_totals().free.bytes();
  for (const u32 size : {8192u, 1024u}) {
    Chain* chain = nullptr;
    u32 count = 0;
    Error error{};
    for (;;) {
      const Result<void*> object = kmalloc(size, AllocFlags::Kernel | AllocFlags::NoWarn);
      if (!object) {
        error = object.error();
        break;
      }
      auto* link = static_cast<Chain*>(*object);
      link->next = chain;
      chain = link;
      ++count;
    }
    EXPECT_EQ(error, Error::OutOfMemory);
    test.note("{} objects of {} bytes", count, size);
    EXPECT(u64{count} * size > free * 2 / 5);  // checked ones are larger
    while (chain != nullptr) {
      Chain* link = chain;
      chain = chain->next;
      kfree(link);
    }
    shrink_caches();
  }
}

KTEST(kmalloc, random_sizes_keep_their_contents) {
  struct Held {
    u8* at;
    u32 size;
  };
  static constinit Held held[512]{};
  for (Held& slot : held) slot = {};
  for (u32 step = 0; step < 20'000; ++step) {
    const u32 which = test.random_below(std::size(held));
    Held& slot = held[which];
    if (slot.at != nullptr) {
      REQUIRE(all_are(slot.at, slot.size, static_cast<u8>(which)));
      kfree(slot.at);
      slot.at = nullptr;
      continue;
    }
    const u32 size = 1 + test.random_below(test.random_below(8) == 0 ? 12'000 : 300);
    const Result<void*> object = kmalloc(size, AllocFlags::Kernel);
    REQUIRE(object.has_value());
    slot = {static_cast<u8*>(*object), size};
    __builtin_memset(slot.at, static_cast<i32>(which), size);
  }
  for (Held& slot : held) {
    if (slot.at != nullptr) kfree(slot.at);
  }
}

// What kmalloc has for sizes that need slabs of several pages goes on without blocks.
KTEST(kmalloc, without_blocks) {
  constexpr u32 kSize = 6000, kObjects = 60;
  const ObjectCache& cache = kmalloc_caches[kmalloc_class(kSize)];
  REQUIRE(cache.layout().order != Order{0});
  u8* objects[kObjects]{};
  u32 in_areas = 0;
  {
    const ForceVFallback force;
    for (u32 i = 0; i < kObjects; ++i) {
      const Result<void*> object = kmalloc(kSize, AllocFlags::Kernel | AllocFlags::Zero);
      REQUIRE(object);
      objects[i] = static_cast<u8*>(*object);
      EXPECT_EQ(objects[i][kSize - 1], 0);
      objects[i][0] = objects[i][kSize - 1] = static_cast<u8>(i);
      in_areas += is_vmalloc_addr(objects[i]) ? 1 : 0;
      EXPECT(cache_of(objects[i]) == &cache);
    }
  }
  EXPECT(in_areas >= kObjects / 2);  // some may have lain free in slabs that are there
  for (u32 i = 0; i < kObjects; ++i) {
    EXPECT(objects[i][0] == static_cast<u8>(i) && objects[i][kSize - 1] == static_cast<u8>(i));
    kfree(objects[i]);
  }
  (void)shrink_caches();  // some empty slabs are kept
}

}  // namespace paean
