// The firmware's list of CPUs and interrupt controllers: whole, cut and absurd.
#include <vector>

#include "arch/acpi.hpp"
#include "support.hpp"

using namespace paean;
using namespace paean::arch;

namespace {

/// A table without entries, and calls that add one.
class Table {
 public:
  Table() : bytes_(44) { put32(36, 0xfee00000); }
  Table& add(std::vector<u8> entry) {
    bytes_.insert(bytes_.end(), entry.begin(), entry.end());
    return *this;
  }
  Table& cpu(u8 apic_id, u8 flags) { return add({0, 8, 0, apic_id, flags, 0, 0, 0}); }
  std::vector<u8>& bytes() { return bytes_; }
  bool parse(MadtFacts& facts) const { return parse_madt(bytes_.data(), static_cast<u32>(bytes_.size()), facts); }

 private:
  void put32(u32 at, u32 value) {
    for (u32 i = 0; i < 4; ++i) bytes_[at + i] = static_cast<u8>(value >> 8 * i);
  }
  std::vector<u8> bytes_;
};

}  // namespace

TEST_CASE("madt: CPUs, an I/O APIC and an override are found") {
  Table table;
  table.cpu(0, 1).cpu(4, 1).cpu(6, 0);
  table.add({1, 12, 9, 0, 0x00, 0x00, 0xc0, 0xfe, 24, 0, 0, 0}).add({2, 10, 0, 9, 21, 0, 0, 0, 0x0f, 0});
  MadtFacts facts;
  CHECK(table.parse(facts));
  CHECK(facts.found);
  CHECK(facts.lapic_address == 0xfee00000);
  REQUIRE(facts.cpu_count == 3);
  CHECK(facts.cpus[1].apic_id == 4);
  CHECK(facts.cpus[1].usable);
  CHECK_FALSE(facts.cpus[2].usable);
  REQUIRE(facts.ioapic_count == 1);
  CHECK(facts.ioapics[0].address == 0xfec00000);
  CHECK(facts.ioapics[0].first_gsi == 24);
  CHECK(facts.overrides[9].given);
  CHECK(facts.overrides[9].gsi == 21);
  CHECK(facts.overrides[9].flags == 0x0f);
}

TEST_CASE("madt: entries of other kinds are passed over") {
  Table table;
  table.add({4, 6, 0xff, 0, 0, 1}).add({200, 2}).cpu(3, 1);
  MadtFacts facts;
  CHECK(table.parse(facts));
  REQUIRE(facts.cpu_count == 1);
  CHECK(facts.cpus[0].apic_id == 3);
}

TEST_CASE("madt: a table that ends anywhere keeps what was read") {
  Table whole;
  for (u8 id = 0; id < 4; ++id) whole.cpu(id, 1);
  for (u32 length = 0; length < whole.bytes().size(); ++length) {
    // A vector of its own, so that a read behind the end is seen.
    const std::vector<u8> cut(whole.bytes().begin(), whole.bytes().begin() + length);
    MadtFacts facts;
    const bool good = parse_madt(cut.data(), length, facts);
    CHECK(good == (length >= 44 && (length - 44) % 8 == 0));
    CHECK(facts.cpu_count == (length < 44 ? 0 : (length - 44) / 8));
  }
}

TEST_CASE("madt: entries of no length, or longer than the table, end it") {
  for (const u8 size : {u8{0}, u8{1}, u8{9}, u8{255}}) {
    Table table;
    table.cpu(1, 1).add({0, size, 0, 2, 1, 0, 0, 0});
    MadtFacts facts;
    CHECK_FALSE(table.parse(facts));
    CHECK(facts.cpu_count == 1);
  }
}

TEST_CASE("madt: more than there is room for") {
  Table table;
  for (u32 i = 0; i < 300; ++i) table.cpu(static_cast<u8>(i), 1);
  for (u32 i = 0; i < 20; ++i) table.add({1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  table.add({2, 10, 0, 16, 1, 0, 0, 0, 0, 0});  // there are 16 ISA interrupts
  MadtFacts facts;
  CHECK(table.parse(facts));
  CHECK(facts.cpu_count == kMaxListedCpus);
  CHECK(facts.ioapic_count == kMaxIoApics);
}
