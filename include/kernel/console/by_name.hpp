// Walks a table of descriptors by name. The linker and the compilers leave such tables in an order that means nothing;
// people and logs want one that never changes. A walk of n steps costs n * n comparisons, which is little for the
// hundreds of entries that a table has, and needs no memory.
// Pure; any context.
#pragma once

namespace paean {

/// As strcmp(): below, at or above zero. Most names differ within a few characters, so neither is measured first.
constexpr int compare_names(const char* a, const char* b) {
  for (; *a == *b && *a != '\0'; ++a, ++b) {}
  return static_cast<unsigned char>(*a) - static_cast<unsigned char>(*b);
}

/// The entry that follows `previous` (nullptr: the first of all); nullptr at the end. Entries of one name follow each
/// other in the order of the table, so that none is lost.
template <typename Entry>
const Entry* next_by_name(const Entry* begin, const Entry* end, const Entry* previous) {
  const auto precedes = [](const Entry& a, const Entry& b) {
    const int order = compare_names(a.name, b.name);
    return order < 0 || (order == 0 && &a < &b);
  };
  const Entry* next = nullptr;
  for (const Entry* entry = begin; entry != end; ++entry) {
    const bool follows = previous == nullptr || precedes(*previous, *entry);
    if (follows && (next == nullptr || precedes(*entry, *next))) next = entry;
  }
  return next;
}

}  // namespace paean
