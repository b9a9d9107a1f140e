// A MADT of any bytes: nothing is read behind its end, and the counts stay within their tables.
#include <vector>

#include "arch/acpi.hpp"
#include "entry.hpp"

namespace paean::fuzz {

void fuzz_one(Input& input) {
  std::vector<u8> table(44);
  const u32 entries = input.below(100);
  for (u32 i = 0; i < entries; ++i) {
    static constexpr u8 kSizes[] = {8, 12, 10, 6};
    const u8 type = static_cast<u8>(input.below(5) == 0 ? input.byte() : input.below(4));
    const u8 size = input.below(8) == 0 ? static_cast<u8>(input.byte()) : kSizes[type & 3];
    table.push_back(type);
    table.push_back(size);
    for (u32 k = 2; k < size; ++k) table.push_back(static_cast<u8>(input.byte()));
  }
  table.resize(table.size() - input.below(static_cast<u32>(table.size()) + 1));
  table.shrink_to_fit();
  arch::MadtFacts facts;
  const bool good = arch::parse_madt(table.data(), static_cast<u32>(table.size()), facts);
  CHECK(!good || table.size() >= 44);
  CHECK(facts.found == (table.size() >= 44));
  CHECK(facts.cpu_count <= arch::kMaxListedCpus && facts.ioapic_count <= arch::kMaxIoApics);
}

}  // namespace paean::fuzz
