// What is in files: cat, cksum, hexdump.
#include <algorithm>
#include <array>

#include "kernel/commands/fs_tools.hpp"
#include "kernel/console/text.hpp"
#include "lib/bytes.hpp"

namespace paean {

namespace {

/// `work(bytes)` for the whole file in pieces, from `offset` on, until it says false.
template <typename Work>
Result<> for_each_piece(const Args& args, std::string_view path, u64 offset, Work work) {
  const Scratch buffer;
  if (!buffer) return std::unexpected(Error::OutOfMemory);
  const FileScope file{path, OpenMode::Read};
  if (!file) return std::unexpected(file.error());
  while (!args.interpreter().stop_requested()) {
    const u32 got = TRY(read_file_at(*file, offset, buffer.bytes()));
    if (got == 0) break;
    offset += got;
    if (!work(buffer.bytes().first(got))) break;
  }
  return {};
}

/// Text as it is; what a terminal would act upon as \xNN.
void show_text(Sink& out, std::span<const u8> bytes) {
  usize begin = 0;
  const auto* text = chars_at(bytes.data());
  for (usize i = 0; i < bytes.size(); ++i) {
    const u8 byte = bytes[i];
    if (is_printable(byte) || byte == '\n' || byte == '\t') continue;
    out.write({text + begin, i - begin});
    format_to(out, "\\x{:02x}", byte);
    begin = i + 1;
  }
  out.write({text + begin, bytes.size() - begin});
}

CommandStatus do_cat(Args& args, Sink& out) {
  auto path = args.word("FILE");
  if (!path) return CommandStatus::Usage;
  CommandStatus worst = CommandStatus::Ok;
  for (; path; path = args.next()) {
    const Result<> shown = for_each_piece(args, *path, 0, [&](std::span<const u8> bytes) {
      show_text(out, bytes);
      return true;
    });
    if (!shown) worst = complain(args, out, *path, shown.error());
  }
  return worst;
}

/// The CRC of POSIX's cksum: x^32 + x^26 + ..., highest bit first, the length behind the contents, complemented.
constexpr std::array<u32, 256> kCrcTable = [] {
  constexpr u32 kPolynomial = 0x04c11db7;
  std::array<u32, 256> table{};
  for (u32 i = 0; i < 256; ++i) {
    u32 crc = i << 24;
    for (u32 bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc >> 31) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}();

constexpr u32 add_to_crc(u32 crc, u8 byte) { return (crc << 8) ^ kCrcTable[(crc >> 24) ^ byte]; }

CommandStatus do_cksum(Args& args, Sink& out) {
  auto path = args.word("FILE");
  if (!path) return CommandStatus::Usage;
  CommandStatus worst = CommandStatus::Ok;
  for (; path; path = args.next()) {
    u32 crc = 0;
    u64 length = 0;
    const Result<> read = for_each_piece(args, *path, 0, [&](std::span<const u8> bytes) {
      for (const u8 byte : bytes) crc = add_to_crc(crc, byte);
      length += bytes.size();
      return true;
    });
    if (!read) {
      worst = complain(args, out, *path, read.error());
      continue;
    }
    for (u64 rest = length; rest != 0; rest >>= 8) crc = add_to_crc(crc, static_cast<u8>(rest));
    format_to(out, "{} {} ", ~crc, length);
    write_escaped(out, *path, 4095);
    out.write("\n");
  }
  return worst;
}

/// Lines as `hexdump -C` writes them; lines that repeat are a star.
class HexDump {
 public:
  HexDump(Sink& out, u64 offset) : out_(out), offset_(offset) {}
  void add(u8 byte) {
    line_[count_++] = byte;
    if (count_ == kLine) flush();
  }
  void end() {
    if (count_ != 0) flush();
    if (any_) format_to(out_, "{:08x}\n", offset_);
  }

 private:
  static constexpr u32 kLine = 16;

  void flush() {
    const bool repeats = any_ && count_ == kLine && line_ == previous_;
    if (!repeats) {
      write_line();
    } else if (!starred_) {
      out_.write("*\n");
    }
    starred_ = repeats;
    any_ = true;
    previous_ = line_;
    offset_ += count_;
    count_ = 0;
  }
  void write_line() {
    format_to(out_, "{:08x} ", offset_);
    for (u32 i = 0; i < kLine; ++i) {
      if (i % 8 == 0) out_.write(" ");
      if (i < count_)
        format_to(out_, "{:02x} ", line_[i]);
      else
        out_.write("   ");
    }
    out_.write(" |");
    for (u32 i = 0; i < count_; ++i) format_to(out_, "{}", is_printable(line_[i]) ? static_cast<char>(line_[i]) : '.');
    out_.write("|\n");
  }

  Sink& out_;
  u64 offset_;
  std::array<u8, kLine> line_{}, previous_{};
  u32 count_ = 0;
  bool any_ = false, starred_ = false;
};

CommandStatus do_hexdump(Args& args, Sink& out) {
  const auto path = args.word("FILE");
  const auto offset = path ? args.size_or("OFFSET", 0) : std::nullopt;
  const auto bytes = offset ? args.size_or("BYTES", ~u64{0}) : std::nullopt;
  if (!bytes || !args.end()) return CommandStatus::Usage;
  HexDump dump{out, *offset};
  u64 left = *bytes;
  const Result<> read = for_each_piece(args, *path, *offset, [&](std::span<const u8> piece) {
    for (const u8 byte : piece.first(static_cast<usize>(std::min<u64>(left, piece.size())))) dump.add(byte);
    left -= std::min<u64>(left, piece.size());
    return left != 0;
  });
  dump.end();
  return read ? CommandStatus::Ok : complain(args, out, *path, read.error());
}

}  // namespace

KCOMMAND(cat, "FILE...", "show what is in files", do_cat, .complete = complete_path)
KCOMMAND(cksum, "FILE...", "POSIX checksum, size and name", do_cksum, .complete = complete_path)
KCOMMAND(hexdump, "FILE [OFFSET [BYTES]]", "bytes in hexadecimal and as text", do_hexdump, .complete = complete_path)

}  // namespace paean
