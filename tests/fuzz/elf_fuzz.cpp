// Programs out of any bytes: what is accepted can be mapped without a further look.
#include <array>

#include "input.hpp"
#include "kernel/process/elf.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace paean;
  using namespace paean::fuzz;
  Input input{data, size};
  std::array<u8, 52 + 20 * 32> head{0x7f, 'E', 'L', 'F', 1, 1, 1};
  const auto put = [&head](u32 at, u32 value, u32 count) {
    for (u32 i = 0; i < count; ++i) head[at + i] = static_cast<u8>(value >> 8 * i);
  };
  put(16, 2, 2), put(18, 3, 2), put(20, 1, 4), put(24, input.word(), 4), put(28, 52, 4), put(42, 32, 2);
  const u32 headers = input.below(20);
  put(44, headers, 2);
  u32 address = input.below(0x10000) << 12;
  for (u32 i = 0; i < headers; ++i) {  // mostly as they should be
    const u32 at = 52 + 32 * i, bytes = input.below(0x40000);
    const u32 within = input.below(0x1000);
    put(at, input.below(8) == 0 ? input.word() : 1, 4);
    put(at + 4, (input.below(30) << 12) + within, 4);
    put(at + 8, input.below(12) == 0 ? input.word() : address + within, 4);
    put(at + 16, input.below(12) == 0 ? input.word() : bytes / 2, 4);
    put(at + 20, input.below(12) == 0 ? input.word() : bytes, 4);
    put(at + 24, input.below(8), 4);
    address += (bytes + within + 0xfff) & ~0xfffu;
  }
  for (u32 spoilt = input.below(4); spoilt != 0; --spoilt)
    head[input.below(static_cast<u32>(head.size()))] = static_cast<u8>(input.byte());
  const u64 file_bytes = input.below(1 << 20);
  const VirtAddr limit{input.below(4) * 0x40000000u + 0x20000000u};
  const u32 given = input.below(4) == 0 ? input.below(static_cast<u32>(head.size())) : static_cast<u32>(head.size());

  const Result<ElfImage> image = parse_elf({head.data(), given}, file_bytes, limit);
  if (!image) return 0;
  CHECK(image->segment_count != 0 && image->segment_count <= ElfImage::kMostSegments);
  CHECK(image->entry < limit);
  u32 last_end = kPageSize;
  for (const ElfSegment& segment : image->loaded()) {
    CHECK(segment.first_page().raw() >= last_end);
    CHECK(segment.memory_bytes != 0 && segment.end_page() > segment.address && segment.end_page() <= limit);
    CHECK(segment.file_bytes <= segment.memory_bytes);
    CHECK(u64{segment.file_offset} + segment.file_bytes <= file_bytes);
    CHECK((segment.address.raw() ^ segment.file_offset) % kPageSize == 0);
    last_end = segment.end_page().raw();
  }
  return 0;
}
