// Archives out of any bytes, mostly with headers as they should be: nothing outside is read, each entry lies inside and
// behind the last, and there is an end.
#include <string>

#include "input.hpp"
#include "kernel/fs/cpio.hpp"

namespace {

using namespace paean;
using namespace paean::fuzz;

class Bytes final : public CpioSource {
 public:
  std::string text;
  Result<> read(u32 offset, void* into, u32 bytes) override {
    CHECK(u64{offset} + bytes <= text.size());
    __builtin_memcpy(into, text.data() + offset, bytes);
    return {};
  }
};

void add_hexadecimal(std::string& text, u32 value) {
  for (u32 digit = 8; digit-- != 0;) text += "0123456789abcdef"[value >> 4 * digit & 15];
}

void add_entry(Input& input, std::string& text) {
  const u32 name_bytes = 1 + input.below(20), size = input.below(40);
  text += "070701";
  for (u32 field = 0; field < 13; ++field) {
    u32 value = input.below(0x10000);
    if (field == 6) value = size;
    if (field == 11) value = name_bytes;
    if (input.below(40) == 0) value = input.word();
    add_hexadecimal(text, value);
  }
  for (u32 i = 1; i < name_bytes; ++i) text += "a./b"[input.below(4)];
  text += '\0';
  text.resize((text.size() + 3) & ~std::size_t{3});
  text.resize((text.size() + size + 3) & ~std::size_t{3});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input{data, size};
  Bytes bytes;
  for (u32 entries = input.below(8); entries != 0; --entries) add_entry(input, bytes.text);
  if (input.below(4) != 0) {
    bytes.text += "070701";
    for (u32 field = 0; field < 13; ++field) add_hexadecimal(bytes.text, field == 11 ? 11 : 0);
    bytes.text += std::string_view{"TRAILER!!!\0\0\0\0", 14};
  }
  for (u32 spoilt = input.below(3); spoilt != 0 && !bytes.text.empty(); --spoilt)
    bytes.text[input.below(static_cast<u32>(bytes.text.size()))] = static_cast<char>(input.byte());

  CpioArchive archive{bytes, static_cast<u32>(bytes.text.size())};
  CpioEntry entry;
  for (u32 last = 0;; last = archive.position()) {
    const Result<bool> more = archive.next(entry);
    if (!more || !*more) return 0;
    CHECK(archive.position() > last && archive.position() <= bytes.text.size());
    CHECK(entry.contents >= last + 110 && u64{entry.contents} + entry.bytes <= archive.position());
    CHECK(entry.name().size() < CpioEntry::kMostName && entry.name().find('\0') == std::string_view::npos);
    const auto path = CpioArchive::path_of(entry.name());
    if (!path) continue;
    CHECK(!path->empty() && !path->starts_with('/'));
    CHECK(*path != ".." && !path->starts_with("../") && !path->ends_with("/..") &&
          path->find("/../") == std::string_view::npos);
  }
}
