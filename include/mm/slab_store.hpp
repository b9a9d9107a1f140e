// What the lock of an object cache guards: its slabs, and the depot of magazines between CPUs and slabs.
//
//    CPU 0                     CPU 1
//    loaded    previous        loaded    previous      magazines: arrays of free objects, a pair for each CPU
//      |          |              |          |
//      +---- full and empty magazines ------+          the depot
//                      |
//      partial slabs   full slabs   empty slabs        a bit for each free object, in the slab's descriptor
//
// A CPU takes objects from its loaded magazine and puts them there. When that is empty (full), it takes the previous
// one if that helps, otherwise exchanges with the depot, otherwise goes to the slabs. So at most one operation in a
// magazine's length leaves the CPU, and objects that one CPU takes and another gives back travel by magazines.
//
// Free objects hold no links: which are free is written in descriptors, so that a write to a freed object breaks
// nothing here, and an object that is freed twice or is none is seen when it reaches its slab.
//
// Pure: memory is given by the owner (insert(), add_magazine()) and handed back to it (take_surplus(), ...). Not
// locked; a CpuMagazines is used by its CPU alone. Constant time but for the search of a bitmap (at most 16 words).
// Source: Bonwick and Adams, "Magazines and Vmem", 2001. Filling a magazine half from the slabs is ours.
#pragma once

#include "mm/slab_layout.hpp"

namespace paean {

class ObjectCache;

/// The descriptor of one slab, followed by a bitmap: set is free.
struct Slab {
  static constexpr u32 kMagic = 0x51ab51ab;

  ObjectCache* cache;
  u8* first;   // place of object 0
  u8* memory;  // the block
  Slab* next;
  Slab* previous;
  u32 magic;
  u32 block_word;  // page word of the block as the frame allocator made it; unused for a virtual one
  u16 free;
  u16 objects;
  u32 stride;
  Order order;
  DescriptorPlace place;

  u32* bits() { return reinterpret_cast<u32*>(this + 1); }
  bool is_sound() const { return magic == kMagic; }
  u8* object_place(u32 index) const { return first + index * stride; }
};
static_assert(sizeof(void*) != 4 || sizeof(Slab) == kSlabHeaderBytes);

/// A list through descriptors.
class SlabList {
 public:
  bool empty() const { return head_ == nullptr; }
  Slab* front() const { return head_; }
  u32 count() const { return count_; }
  void push(Slab* slab);
  void remove(Slab* slab);

 private:
  Slab* head_ = nullptr;
  u32 count_ = 0;
};

/// Free objects, the newest last. 128 bytes.
struct Magazine {
  static constexpr u32 kCapacity = 30;
  Magazine* next;
  u32 count;  // while it is not loaded
  void* objects[kCapacity];
};

/// A CPU's part of a cache. All zero: it has no magazines, and every operation goes to the store.
struct CpuMagazines {
  u32 count;  // objects in `loaded`
  u32 limit;  // how many it may hold
  Magazine* loaded;
  Magazine* previous;  // empty or full
};

/// What is wrong with an object that comes back to its slab.
enum class SlabComplaint : u8 { None, NotAnObject, AlreadyFree };

class SlabStore {
 public:
  using FindSlab = Slab* (*)(const void* object);
  static constexpr u32 kDepotLimit = 8;       // full magazines that wait; more are emptied into the slabs
  static constexpr u32 kEmptySlabsLimit = 4;  // slabs without objects that are kept against the next wish

  constexpr SlabStore() = default;
  /// `magazine_limit` 0: the cache works without magazines. `find` tells an object's slab.
  void init(const SlabLayout& layout, u32 magazine_limit, FindSlab find);
  const SlabLayout& layout() const { return layout_; }
  u32 magazine_limit() const { return magazine_limit_; }

  /// A block divided into objects, all free, in the next colour; `descriptor` lies in it or elsewhere as the layout
  /// says (descriptor_in()). Nothing of it is in a list yet.
  void make_slab(Slab* descriptor, ObjectCache* cache, u8* memory);
  Slab* descriptor_in(u8* memory) const;
  /// Makes the objects of a new slab available.
  void insert(Slab* slab);
  /// An empty slab beyond `keep` of them, out of every list; nullptr if there is none.
  Slab* take_surplus(u32 keep);

  /// An object from the slabs; nullptr if none is free.
  void* take();
  /// An object back to its slab. Complaints change nothing.
  SlabComplaint put(Slab* slab, void* object);
  /// Is this the start of an object, and if so which?
  static u32 index_of(const Slab* slab, const void* object, const SlabLayout& layout);
  static constexpr u32 kNoIndex = ~0u;
  static bool is_free(Slab* slab, u32 index) { return (slab->bits()[index / 32] >> (index % 32) & 1) != 0; }

  /// An object by way of a CPU's magazines, whose loaded one is empty; fills it from depot or slabs.
  void* take_through(CpuMagazines& cpu);
  enum class Room : u8 { Made, NeedsMagazine };
  /// Makes room in a CPU's loaded magazine, which is full or missing.
  Room make_room(CpuMagazines& cpu);
  /// An empty magazine for the depot.
  void add_magazine(Magazine* magazine);
  /// An empty magazine out of the depot, to be given back; nullptr if there is none.
  Magazine* take_magazine();
  /// Empties a CPU's magazines into the slabs; the magazines go to the depot, empty.
  void drain(CpuMagazines& cpu);
  /// The same for the full ones of the depot.
  void drain_depot();

  /// The first object that a magazine brought and its slab refused; asked for once.
  struct Refused {
    SlabComplaint complaint = SlabComplaint::None;
    void* object = nullptr;
  };
  Refused take_refused();
  /// Is the object in the depot?
  bool depot_holds(const void* object) const;

  u32 slabs() const { return partial_.count() + full_.count() + empty_.count(); }
  u32 empty_slabs() const { return empty_.count(); }
  u32 objects_out() const { return out_; }  // not in a slab: used, or in a magazine
  u32 objects_in_depot() const { return depot_count_ * magazine_limit_; }
  const SlabList& partial() const { return partial_; }
  const SlabList& full() const { return full_; }

 private:
  void flush(Magazine* magazine, u32 count);
  SlabList& list_of(const Slab* slab);

  SlabLayout layout_{};
  FindSlab find_ = nullptr;
  u32 magazine_limit_ = 0;
  u32 colour_ = 0;
  u32 out_ = 0;
  SlabList partial_, full_, empty_;
  Magazine* depot_ = nullptr;  // full ones
  Magazine* empty_magazines_ = nullptr;
  u32 depot_count_ = 0;
  Refused refused_{};
};

}  // namespace paean
