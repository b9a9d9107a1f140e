// The areas of a user address space: what a program asked for, without any page table.
//
//   low                                                     high
//   | area | area |   gap   | area |  gap >= bytes | gap | stack |     a tree by address; no two overlap
//                                      ^ find_gap(): as high as possible
//
// Every change of a range is the same three steps, and so needs no cases: cut() puts borders at its two ends, areas
// between them are changed or removed, join() makes one of neighbours that agree in everything.
//
// Pure: no memory of its own. Areas are the caller's objects, brought in and taken out through AreaSpares: a cut may
// need two, a join gives back up to two. Files are counted through the function that the map is made with.
// Locking: the caller's. Addresses are multiples of a page, ends are exclusive and lie below 4 GiB.
// Source: Linux's mmap semantics; trees by Boost.Intrusive.
#pragma once

#define BOOST_DISABLE_ASSERTS
#include <boost/intrusive/set.hpp>
#include <optional>

#include "lib/addr.hpp"

namespace paean {

class MappedFile;

/// End of user space: page_offset() of this boot.
VirtAddr user_end();
/// True if every byte of the range lies below, whatever the two numbers are.
bool is_user_range(VirtAddr start, u32 bytes);

/// Addresses below are never mapped, so that a null pointer with an offset faults too.
inline constexpr VirtAddr kLowestUser{0x10000};
/// Nothing else is placed so close below a stack that grows; and how large such a stack becomes.
inline constexpr u32 kStackGap = kMiB;
inline constexpr u32 kStackLimit = 8 * kMiB;
/// Areas of one space, as Linux has it.
inline constexpr u32 kMostAreas = 65530;

/// A set of bits, with the values of PROT_*.
enum class UserAccess : u8 { None = 0, Read = 1, Write = 2, Execute = 4 };
constexpr UserAccess operator|(UserAccess a, UserAccess b) {
  return static_cast<UserAccess>(static_cast<u8>(a) | static_cast<u8>(b));
}
constexpr bool has(UserAccess set, UserAccess bit) { return (static_cast<u8>(set) & static_cast<u8>(bit)) != 0; }

/// How an area is placed and what it is.
enum class MapFlag : u8 {
  None = 0,
  Shared = 1,     // stores reach the file, or every process that inherits the area; otherwise private
  Fixed = 2,      // exactly at `at`, replacing what is there
  NoReplace = 4,  // with Fixed: Exists if something is there
  GrowsDown = 8,  // a stack
};
constexpr MapFlag operator|(MapFlag a, MapFlag b) {
  return static_cast<MapFlag>(static_cast<u8>(a) | static_cast<u8>(b));
}
constexpr bool has(MapFlag set, MapFlag bit) { return (static_cast<u8>(set) & static_cast<u8>(bit)) != 0; }

struct Area : boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
  VirtAddr start{}, end{};
  UserAccess access = UserAccess::None;
  MapFlag kind = MapFlag::None;  // Shared and GrowsDown only
  MappedFile* file = nullptr;    // nullptr: anonymous
  u32 first_page = 0;            // of the file, at `start`
  Area* next_spare = nullptr;

  u32 bytes() const { return end - start; }
  u32 pages() const { return bytes() >> kPageShift; }
  bool is_shared() const { return has(kind, MapFlag::Shared); }
  bool grows() const { return has(kind, MapFlag::GrowsDown); }
  /// Where the next area below may end.
  VirtAddr reserved_from() const {
    if (!grows()) return start;
    return start - kLowestUser > kStackGap ? start - kStackGap : kLowestUser;
  }
  /// Page of the file at an address in it.
  u32 page_at(VirtAddr va) const { return first_page + ((va - start) >> kPageShift); }
};

/// Areas that are in no map.
class AreaSpares {
 public:
  void push(Area& area) {
    area.next_spare = first_;
    first_ = &area;
    ++count_;
  }
  /// Precondition: there is one.
  Area& pop() {
    Area& area = *first_;
    first_ = area.next_spare;
    --count_;
    return area;
  }
  u32 count() const { return count_; }

 private:
  Area* first_ = nullptr;
  u32 count_ = 0;
};

class AreaMap {
 public:
  /// What a cut and a join do to the references of a file.
  using CountFile = void (*)(MappedFile& file, i32 change);
  explicit AreaMap(CountFile count_file) : count_file_(count_file) {}
  AreaMap(const AreaMap&) = delete;
  AreaMap& operator=(const AreaMap&) = delete;

  /// The lowest area that ends behind `va`; nullptr if there is none.
  Area* at_or_above(VirtAddr va);
  /// The one that contains it.
  Area* at(VirtAddr va);
  Area* first();
  Area* last();
  Area* next(Area& area);
  Area* previous(Area& area);

  u32 count() const { return count_; }
  u32 pages() const { return pages_; }

  /// Puts borders at both ends, where areas lie across them. Needs up to two spares (asserted).
  void cut(VirtAddr start, VirtAddr end, AreaSpares& spares);
  /// How many spares cut() would take.
  u32 needed_to_cut(VirtAddr start, VirtAddr end);
  /// Overlaps nothing (asserted).
  void insert(Area& area);
  void remove(Area& area);
  /// One area of it and its neighbours, where they agree. The one that stays.
  Area& join(Area& area, AreaSpares& spares);
  /// Moves the start of an area; what that adds is free.
  void extend_down(Area& area, VirtAddr start);
  void extend_up(Area& area, VirtAddr end);

  /// The highest place of so many bytes in [low, high), with the gap of stacks kept.
  std::optional<VirtAddr> find_gap(u32 bytes, VirtAddr low, VirtAddr high);
  /// Is [start, end) free, and far enough from a stack above it?
  bool is_free(VirtAddr start, VirtAddr end);

 private:
  struct KeyOfArea {
    using type = VirtAddr;  // NOLINT(readability-identifier-naming): the name that Boost.Intrusive asks for
    const type& operator()(const Area& area) const { return area.start; }
  };
  using Tree = boost::intrusive::set<Area, boost::intrusive::key_of_value<KeyOfArea>,
                                     boost::intrusive::constant_time_size<false>>;
  void cut_at(VirtAddr va, AreaSpares& spares);
  static bool agree(const Area& low, const Area& high);

  Tree tree_;
  CountFile count_file_;
  u32 count_ = 0, pages_ = 0;
};

}  // namespace paean
