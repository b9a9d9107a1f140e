// The Multiboot memory map walker against a walker with offsets, on an exact heap copy so that a read beyond shows.
#include <cstring>
#include <memory>
#include <vector>

#include "entry.hpp"
#include "mm/multiboot_mmap.hpp"

namespace paean::fuzz {

namespace {

/// Mostly entries with good sizes; what a byte asks for may be anything.
std::vector<std::byte> make_blob(Input& input) {
  std::vector<std::byte> blob;
  const auto put = [&blob](u64 value, u32 bytes) {
    for (u32 i = 0; i < bytes; ++i) blob.push_back(static_cast<std::byte>(value >> (8 * i)));
  };
  while (!input.empty()) {
    constexpr u32 kSizes[] = {20, 20, 20, 24, 28, 64, 21, 0, 19, 0xffffffff, 0xfffffffc, 200};
    const u32 choice = input.below(64);
    const u32 size = choice < std::size(kSizes) ? kSizes[choice] : 20;
    put(size, 4);
    put(input.wide(), 8);
    put(input.wide(), 8);
    put(input.byte(), 4);
    const u32 extra = choice == 63 ? input.below(40) : (size >= 20 && size < 256 ? size - 20 : 0);
    for (u32 i = 0; i < extra; ++i) blob.push_back(static_cast<std::byte>(input.byte()));
  }
  return blob;
}

template <typename T>
T load(const std::vector<std::byte>& blob, usize at) {
  T value;
  std::memcpy(&value, blob.data() + at, sizeof value);
  return value;
}

}  // namespace

void fuzz_one(Input& input) {
  std::vector<std::byte> blob = make_blob(input);
  blob.shrink_to_fit();

  std::vector<E820Entry> expected;
  MmapEnd end = MmapEnd::Complete;
  u64 at = 0;
  while (at != blob.size()) {
    if (expected.size() == 256) {
      end = MmapEnd::TooMany;
      break;
    }
    if (at + 24 > blob.size() || load<u32>(blob, at) < 20 || at + 4 + u64{load<u32>(blob, at)} > blob.size()) {
      end = MmapEnd::Malformed;
      break;
    }
    const usize offset = static_cast<usize>(at);
    expected.push_back({load<u64>(blob, offset + 4), load<u64>(blob, offset + 12), load<u32>(blob, offset + 20)});
    at += 4 + load<u32>(blob, offset);
  }

  const auto map = std::make_unique<MemoryMap>();
  std::vector<E820Entry> entries;
  const MmapWalk walk = parse_multiboot_mmap(blob, [&](const E820Entry& entry) {
    entries.push_back(entry);
    map->add_firmware_entry(entry);
  });
  CHECK(entries == expected);
  CHECK(walk.entries == expected.size());
  CHECK(walk.end == end);
  map->seal();
  CHECK(map->ignored_entries() == 0);
}

}  // namespace paean::fuzz
