// What disks say of themselves: whole, old, broken.
#include "kernel/block/ide_identify.hpp"

#include <array>

#include "support.hpp"

using namespace paean;

namespace {

using Words = std::array<u16, kIdentityWords>;

void set_model(Words& words, std::string_view model) {
  for (u32 i = 0; i < 40; ++i) {
    const auto byte = static_cast<u8>(i < model.size() ? model[i] : ' ');
    words[27 + i / 2] =
        static_cast<u16>(i % 2 == 0 ? (words[27 + i / 2] & 0xff) | byte << 8 : (words[27 + i / 2] & 0xff00) | byte);
  }
}

/// A disk with everything, of 0x12345678 sectors by 48 bits and 0x0fffffff by 28.
Words good_disk() {
  Words words{};
  words[0] = 0x0040;
  set_model(words, "QEMU HARDDISK");
  words[49] = 0x0300;
  words[60] = 0xffff, words[61] = 0x0fff;
  words[83] = 0x7400;
  words[100] = 0x5678, words[101] = 0x1234;
  words[106] = 0x6000;
  return words;
}

}  // namespace

TEST_CASE("ide_identify: a disk with 48-bit numbers") {
  const IdeIdentity disk = parse_identity(good_disk());
  CHECK(disk.disk);
  CHECK(disk.dma);
  CHECK(disk.lba48);
  CHECK(disk.flush);
  CHECK(disk.sectors == 0x12345678);
  CHECK(disk.sector_bytes == 512);
  CHECK(std::string_view(disk.model) == "QEMU HARDDISK");
}

TEST_CASE("ide_identify: words 83 and 106 count only if they are valid") {
  for (const u16 top : {0x0000, 0x8000, 0xc000}) {
    Words words = good_disk();
    words[83] = static_cast<u16>(0x3400 | top);
    words[106] = static_cast<u16>(0x1000 | top);
    const IdeIdentity disk = parse_identity(words);
    CHECK(!disk.lba48);
    CHECK(!disk.flush);
    CHECK(disk.sectors == 0x0fffffff);
    CHECK(disk.sector_bytes == 512);
  }
}

TEST_CASE("ide_identify: large sectors are seen") {
  Words words = good_disk();
  words[106] = 0x5000;
  words[117] = 2048, words[118] = 0;
  CHECK(parse_identity(words).sector_bytes == 4096);
}

TEST_CASE("ide_identify: 48-bit numbers that say nothing, or too much, leave those of 28 bits") {
  Words words = good_disk();
  words[100] = words[101] = 0;
  CHECK(!parse_identity(words).lba48);
  CHECK(parse_identity(words).sectors == 0x0fffffff);
  words[103] = 0x7fff;
  CHECK(!parse_identity(words).lba48);
  words[60] = words[61] = 0xffff;
  CHECK(parse_identity(words).sectors == kLba28Sectors);
}

TEST_CASE("ide_identify: packet devices, disks without block numbers, without DMA") {
  Words words = good_disk();
  words[0] = 0x8580;
  CHECK(!parse_identity(words).disk);
  words = good_disk();
  words[49] = 0x0100;
  CHECK(!parse_identity(words).disk);
  words[49] = 0x0200;
  CHECK(parse_identity(words).disk);
  CHECK(!parse_identity(words).dma);
}

TEST_CASE("ide_identify: names are printable, without trailing blanks") {
  Words words = good_disk();
  set_model(words, "A\x01\xff B  ");
  CHECK(std::string_view(parse_identity(words).model) == "A?? B");
  set_model(words, std::string_view("0123456789012345678901234567890123456789", 40));
  CHECK(std::string_view(parse_identity(words).model).size() == 40);
  set_model(words, "");
  CHECK(std::string_view(parse_identity(words).model).empty());
}
