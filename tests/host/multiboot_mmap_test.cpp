#include "mm/multiboot_mmap.hpp"

#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

using Blob = std::vector<std::byte>;

void put(Blob& blob, u64 value, u32 bytes) {
  for (u32 i = 0; i < bytes; ++i) blob.push_back(static_cast<std::byte>(value >> (8 * i)));
}

/// One entry; `size` may lie about what follows, `stored` is what really does.
void put_entry(Blob& blob, u32 size, E820Entry entry, u32 stored) {
  put(blob, size, 4);
  put(blob, entry.base, 8);
  put(blob, entry.length, 8);
  put(blob, entry.type, 4);
  for (u32 i = 20; i < stored; ++i) blob.push_back(std::byte{0xa5});
}

struct Outcome {
  std::vector<E820Entry> entries;
  MmapEnd end;
};

/// Walks an exact heap copy, so that the sanitizer sees a read beyond it.
Outcome walk(const Blob& blob) {
  const Blob copy(blob.begin(), blob.end());
  Outcome outcome{};
  const MmapWalk result = parse_multiboot_mmap(copy, [&](const E820Entry& entry) { outcome.entries.push_back(entry); });
  CHECK(result.entries == outcome.entries.size());
  outcome.end = result.end;
  return outcome;
}

}  // namespace

TEST_SUITE("multiboot_mmap") {
  TEST_CASE("entry sizes of 20, 24, 28 and 64") {
    Blob blob;
    const E820Entry first{0x123456789abcdef0, 0xfedcba9876543210, 0x80000001};
    put_entry(blob, 20, first, 20);
    put_entry(blob, 24, {1, 2, 3}, 24);
    put_entry(blob, 28, {4, 5, 6}, 28);
    put_entry(blob, 64, {7, 8, 9}, 64);
    put_entry(blob, 21, {10, 11, 12}, 21);
    const Outcome outcome = walk(blob);
    CHECK(outcome.end == MmapEnd::Complete);
    CHECK(outcome.entries == std::vector<E820Entry>{first, {1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}});
  }

  TEST_CASE("nothing is complete") {
    CHECK(walk({}).end == MmapEnd::Complete);
    CHECK(walk({}).entries.empty());
  }

  TEST_CASE("sizes that cannot be stop the walk and keep what came before") {
    for (const u32 size : {0u, 1u, 16u, 19u, 41u, 0x7fffffffu, 0xfffffffcu, 0xffffffffu}) {
      CAPTURE(size);
      Blob blob;
      put_entry(blob, 20, {1, 2, 1}, 20);
      put_entry(blob, size, {3, 4, 1}, 40);
      const Outcome outcome = walk(blob);
      CHECK(outcome.end == MmapEnd::Malformed);
      CHECK(outcome.entries.size() == 1);
    }
  }

  TEST_CASE("every truncation is malformed and reads nothing beyond") {
    Blob whole;
    put_entry(whole, 20, {1, 2, 1}, 20);
    put_entry(whole, 24, {3, 4, 1}, 24);
    for (usize length = 0; length < whole.size(); ++length) {
      CAPTURE(length);
      const Outcome outcome = walk(Blob(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
      CHECK(outcome.entries.size() == (length >= 24 ? 1 : 0));
      CHECK((outcome.end == MmapEnd::Complete) == (length == 0 || length == 24));
    }
  }

  TEST_CASE("the walk ends after 256 entries") {
    Blob blob;
    for (u64 i = 0; i < 256; ++i) put_entry(blob, 20, {i, 1, 1}, 20);
    CHECK(walk(blob).end == MmapEnd::Complete);
    CHECK(walk(blob).entries.size() == 256);
    put_entry(blob, 20, {256, 1, 1}, 20);
    CHECK(walk(blob).end == MmapEnd::TooMany);
    CHECK(walk(blob).entries.size() == 256);
  }
}

}  // namespace paean::host
