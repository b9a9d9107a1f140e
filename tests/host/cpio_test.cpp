#include "kernel/fs/cpio.hpp"

#include <vector>

#include "support.hpp"

namespace paean::host {

namespace {

class Bytes final : public CpioSource {
 public:
  std::string text;
  Result<> read(u32 offset, void* into, u32 bytes) override {
    REQUIRE(u64{offset} + bytes <= text.size());
    __builtin_memcpy(into, text.data() + offset, bytes);
    return {};
  }
  void add(const std::string& name, u32 mode, const std::string& contents, u32 inode = 1, u32 links = 1) {
    text += "070701";
    const u32 size = static_cast<u32>(contents.size()), name_bytes = static_cast<u32>(name.size()) + 1;
    for (const u32 field : {inode, mode, 5u, 6u, links, 0x12345678u, size, 0u, 0u, 0u, 0u, name_bytes, 0u})
      text += formatted("{:08x}", field);
    text += name + '\0';
    pad();
    text += contents;
    pad();
  }
  void end() { add("TRAILER!!!", 0, ""); }

 private:
  void pad() { text.resize((text.size() + 3) & ~std::size_t{3}); }
};

CpioEntry first_of(Bytes& bytes) {
  CpioArchive archive{bytes, static_cast<u32>(bytes.text.size())};
  CpioEntry entry;
  REQUIRE(archive.next(entry) == true);
  return entry;
}

/// The archive without its last `cut` bytes, or with one byte changed, up to the end or the error.
Result<u32> count(Bytes& bytes) {
  CpioArchive archive{bytes, static_cast<u32>(bytes.text.size())};
  CpioEntry entry;
  u32 entries = 0, last = 0;
  while (TRY(archive.next(entry))) {
    REQUIRE(archive.position() > last);
    REQUIRE(u64{entry.contents} + entry.bytes <= bytes.text.size());
    last = archive.position();
    ++entries;
  }
  return entries;
}

Bytes usual() {
  Bytes bytes;
  bytes.add(".", 0040755, "");
  bytes.add("bin", 0040700, "");
  bytes.add("bin/program", 0100751, "contents");
  bytes.add("link", 0120777, "bin/program");
  bytes.add("null", 0020666, "");
  bytes.end();
  return bytes;
}

}  // namespace

TEST_SUITE("cpio") {
  TEST_CASE("entries") {
    Bytes bytes;
    bytes.add("bin/program", 0100751, "contents", 77, 2);
    bytes.end();
    const CpioEntry entry = first_of(bytes);
    CHECK(entry.name() == "bin/program");
    CHECK(entry.type == CpioEntry::Type::Regular);
    CHECK(entry.permissions == 0751);
    CHECK(entry.inode == 77);
    CHECK(entry.links == 2);
    CHECK(entry.uid == 5);
    CHECK(entry.gid == 6);
    CHECK(entry.modified == 0x12345678);
    CHECK(bytes.text.substr(entry.contents, entry.bytes) == "contents");
    Bytes all = usual();
    CHECK(count(all) == 5u);
  }

  TEST_CASE("types") {
    for (const auto& [mode, type] : {std::pair{0100644u, CpioEntry::Type::Regular},
                                     {0040755u, CpioEntry::Type::Directory},
                                     {0120777u, CpioEntry::Type::Symlink},
                                     {0020600u, CpioEntry::Type::Other},
                                     {0u, CpioEntry::Type::Other}}) {
      Bytes bytes;
      bytes.add("x", mode, "");
      CHECK(first_of(bytes).type == type);
    }
  }

  TEST_CASE("capital digits, and archives with sums") {
    Bytes bytes;
    bytes.add("x", 0100644, "");
    bytes.end();
    for (char& c : bytes.text) c = static_cast<char>(c >= 'a' && c <= 'f' ? c - 32 : c);
    bytes.text[5] = '2';
    CHECK(count(bytes) == 1u);
  }

  TEST_CASE("paths stay inside") {
    CHECK(CpioArchive::path_of("bin/sh") == "bin/sh");
    CHECK(CpioArchive::path_of("./bin/sh") == "bin/sh");
    CHECK(CpioArchive::path_of("//./bin") == "bin");
    CHECK(CpioArchive::path_of("a/..b/c..") == "a/..b/c..");
    for (const char* bad : {"", ".", "/", "./", "..", "../x", "a/..", "a/../../b", "/../x"})
      CHECK(CpioArchive::path_of(bad) == std::nullopt);
  }

  TEST_CASE("cut anywhere it is corrupt") {
    const Bytes whole = usual();
    for (std::size_t length = 0; length < whole.text.size() - 1; ++length) {  // the last byte is padding
      Bytes cut;
      cut.text = whole.text.substr(0, length);
      CAPTURE(length);
      const Result<u32> counted = count(cut);
      // The trailer is complete before its padding.
      const std::size_t needed = whole.text.rfind("TRAILER!!!") + 11;
      if (length < needed) CHECK(counted == std::unexpected(Error::Corrupt));
    }
  }

  TEST_CASE("sizes that lead out of the archive") {
    for (const u32 field : {6u, 11u}) {
      for (const char* value : {"ffffffff", "fffffff0", "80000000", "00001000", "0000000g"}) {
        Bytes bytes = usual();
        bytes.text.replace(6 + 8 * field, 8, value);
        CHECK(count(bytes) == std::unexpected(Error::Corrupt));
      }
    }
    Bytes bytes = usual();
    bytes.text.replace(6 + 8 * 11, 8, "00000000");
    CHECK(count(bytes) == std::unexpected(Error::Corrupt));
  }

  TEST_CASE("a name with a zero in it") {
    Bytes bytes;
    bytes.add(std::string("a\0b", 3), 0100644, "");
    bytes.end();
    CHECK(count(bytes) == std::unexpected(Error::Corrupt));
  }

  TEST_CASE("what is an archive") {
    CHECK(CpioArchive::is_archive("070701"));
    CHECK(CpioArchive::is_archive("070702 and more"));
    CHECK(!CpioArchive::is_archive("070707"));
    CHECK(!CpioArchive::is_archive("0707"));
  }
}

}  // namespace paean::host
