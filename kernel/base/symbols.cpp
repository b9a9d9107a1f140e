#include "lib/symbols.hpp"

namespace paean {

namespace {

struct Row {
  u32 address;
  u32 name_offset;
};
struct Header {
  u32 count;
  u32 end_of_text;
  Row rows[];
};

extern "C" const Header __ksyms_start;
extern "C" const char __ksyms_end[];

/// The first link has no table; then the section is empty.
bool have_table() { return reinterpret_cast<const char*>(&__ksyms_start) != __ksyms_end; }

const char* names() { return reinterpret_cast<const char*>(&__ksyms_start.rows[__ksyms_start.count]); }

}  // namespace

Symbol find_symbol(VirtAddr address) {
  if (!have_table() || __ksyms_start.count == 0) return {};
  const Header& table = __ksyms_start;
  if (address.raw() < table.rows[0].address || address.raw() >= table.end_of_text) return {};
  u32 low = 0, high = table.count;  // the last row that starts at or before the address
  while (high - low > 1) {
    const u32 middle = (low + high) / 2;
    if (table.rows[middle].address <= address.raw())
      low = middle;
    else
      high = middle;
  }
  const u32 end = low + 1 < table.count ? table.rows[low + 1].address : table.end_of_text;
  const u32 start = table.rows[low].address;
  return Symbol{std::string_view{names() + table.rows[low].name_offset}, address.raw() - start, end - start};
}

VirtAddr find_symbol_address(std::string_view name) {
  if (!have_table()) return VirtAddr{};
  for (u32 i = 0; i < __ksyms_start.count; ++i) {
    if (std::string_view{names() + __ksyms_start.rows[i].name_offset} == name) {
      return VirtAddr{__ksyms_start.rows[i].address};
    }
  }
  return VirtAddr{};
}

}  // namespace paean
