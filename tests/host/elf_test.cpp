#include "kernel/process/elf.hpp"

#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

constexpr VirtAddr kLimit{0xc0000000};

/// A file as a linker would make it, to be spoilt.
struct File {
  std::vector<u8> bytes = std::vector<u8>(4096);
  u64 size = 100'000;
  u16 headers = 0;

  File() {
    const u8 ident[] = {0x7f, 'E', 'L', 'F', 1, 1, 1};
    std::copy(std::begin(ident), std::end(ident), bytes.begin());
    put(16, 2, 2), put(18, 3, 2), put(20, 1, 4), put(24, 0x8049000, 4);
    put(28, 52, 4), put(42, 32, 2);
  }
  void put(u32 at, u32 value, u32 count) {
    for (u32 i = 0; i < count; ++i) bytes[at + i] = static_cast<u8>(value >> 8 * i);
  }
  u32 add(u32 type, u32 offset, u32 address, u32 in_file, u32 in_memory, u32 flags) {
    const u32 at = 52 + headers++ * 32u;
    const u32 words[] = {type, offset, address, address, in_file, in_memory, flags, 4096};
    for (u32 i = 0; i < 8; ++i) put(at + 4 * i, words[i], 4);
    put(44, headers, 2);
    return at;
  }
  Result<ElfImage> parse(VirtAddr limit = kLimit) const { return parse_elf(bytes, size, limit); }
};

File good() {
  File file;
  file.add(1, 0, 0x8048000, 0x1f8, 0x1f8, 4);
  file.add(1, 0x1000, 0x8049000, 0x5000, 0x5000, 5);
  file.add(1, 0x6f00, 0x8050f00, 0x800, 0x9000, 6);
  file.add(0x6474e551, 0, 0, 0, 0, 6);
  return file;
}

}  // namespace

TEST_SUITE("elf") {
  TEST_CASE("a static program") {
    const Result<ElfImage> image = good().parse();
    REQUIRE(image);
    REQUIRE(image->segment_count == 3);
    CHECK(image->entry == VirtAddr{0x8049000});
    CHECK(image->headers == VirtAddr{0x8048034});
    CHECK(image->header_count == 4);
    CHECK(!image->executable_stack);
    CHECK((image->segments[1].executable && !image->segments[1].writable));
    CHECK((!image->segments[2].executable && image->segments[2].writable));
    CHECK(image->end() == VirtAddr{0x805a000});
  }

  TEST_CASE("other kinds are not supported") {
    for (const auto& [at, value] : {std::pair{4, 2}, {5, 2}, {18, 62}, {16, 3}}) {
      File file = good();
      file.bytes[static_cast<u32>(at)] = static_cast<u8>(value);
      CHECK(file.parse().error() == Error::NotSupported);
    }
    File file = good();
    file.add(3, 0, 0, 0, 0, 4);
    CHECK(file.parse().error() == Error::NotSupported);
  }

  TEST_CASE("a head that is cut") {
    for (const u32 size : {0u, 3u, 51u, 52u, 52u + 4 * 32 - 1}) {
      File file = good();
      file.bytes.resize(size);
      CHECK(file.parse().error() == Error::Corrupt);
    }
  }

  TEST_CASE("segments that cannot be mapped") {
    struct {
      u32 offset, address, in_file, in_memory;
    } const wrong[] = {
        {0x6001, 0x9000000, 10, 10},                      // not congruent
        {99'000, 0x9000000 + 99'000 % 4096, 5000, 5000},  // beyond the file
        {0, 0x9000000, 11, 10},                           // more in the file than in memory
        {0, 0, 10, 10},                                   // the first page
        {0, 0xbffff000, 0x1000, 0x1001},                  // beyond the limit
        {0, 0xfffff000, 0x1000, 0x1000},                  // to the very end
        {0, 0xfffff000, 0x1000, 0x2000},                  // wraps
        {0, 0x8059000, 10, 10},                           // the page of the one before
        {0, 0x8000000, 10, 10},                           // below the one before
        {0xfffff000, 0x9000000, 0x1000, 0x1000},          // the offset wraps
    };
    for (const auto& segment : wrong) {
      File file = good();
      file.add(1, segment.offset, segment.address, segment.in_file, segment.in_memory, 4);
      CAPTURE(segment.address);
      CHECK(file.parse().error() == Error::Corrupt);
    }
  }

  TEST_CASE("too many, and none") {
    File file;
    CHECK(file.parse().error() == Error::Corrupt);
    for (u32 i = 0; i < ElfImage::kMostSegments; ++i) file.add(1, 0, 0x10000 + i * 0x1000, 1, 1, 4);
    CHECK(file.parse());
    file.add(1, 0, 0x90000, 1, 1, 4);
    CHECK(file.parse().error() == Error::Corrupt);
  }

  TEST_CASE("user space may be smaller") {
    CHECK(good().parse(VirtAddr{0x40000000}));
    CHECK(good().parse(VirtAddr{0x8050000}).error() == Error::Corrupt);
    CHECK(good().parse(VirtAddr{0x8049000}).error() == Error::Corrupt);
  }
}

}  // namespace paean::host
