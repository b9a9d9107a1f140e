#include "mm/slab_store.hpp"

#include "lib/assert.hpp"

namespace paean {

void SlabList::push(Slab* slab) {
  slab->previous = nullptr;
  slab->next = head_;
  if (head_ != nullptr) head_->previous = slab;
  head_ = slab;
  ++count_;
}

void SlabList::remove(Slab* slab) {
  (slab->previous != nullptr ? slab->previous->next : head_) = slab->next;
  if (slab->next != nullptr) slab->next->previous = slab->previous;
  --count_;
}

void SlabStore::init(const SlabLayout& layout, u32 magazine_limit, FindSlab find) {
  ASSERT(magazine_limit <= Magazine::kCapacity);
  layout_ = layout;
  magazine_limit_ = magazine_limit;
  find_ = find;
}

Slab* SlabStore::descriptor_in(u8* memory) const {
  return reinterpret_cast<Slab*>(memory + layout_.bytes() - layout_.descriptor_size);
}

void SlabStore::make_slab(Slab* descriptor, ObjectCache* cache, u8* memory) {
  *descriptor = Slab{.cache = cache,
                     .first = memory + colour_ * layout_.align,
                     .memory = memory,
                     .next = nullptr,
                     .previous = nullptr,
                     .magic = Slab::kMagic,
                     .block_word = 0,
                     .free = static_cast<u16>(layout_.objects),
                     .objects = static_cast<u16>(layout_.objects),
                     .stride = layout_.stride,
                     .order = layout_.order,
                     .place = layout_.place};
  colour_ = colour_ + 1 == layout_.colours ? 0 : colour_ + 1;
  for (u32 index = 0; index < layout_.objects; index += 32) {
    const u32 rest = layout_.objects - index;
    descriptor->bits()[index / 32] = rest >= 32 ? ~0u : (1u << rest) - 1;
  }
}

SlabList& SlabStore::list_of(const Slab* slab) {
  return slab->free == 0 ? full_ : slab->free == slab->objects ? empty_ : partial_;
}

void SlabStore::insert(Slab* slab) { list_of(slab).push(slab); }

Slab* SlabStore::take_surplus(u32 keep) {
  if (empty_.count() <= keep) return nullptr;
  Slab* slab = empty_.front();
  empty_.remove(slab);
  return slab;
}

void* SlabStore::take() {
  SlabList& from = partial_.empty() ? empty_ : partial_;
  Slab* slab = from.front();
  if (slab == nullptr) return nullptr;
  u32 word = 0;
  while (slab->bits()[word] == 0) ++word;
  u32& bits = slab->bits()[word];
  const u32 index = word * 32 + static_cast<u32>(__builtin_ctz(bits));
  bits &= bits - 1;
  ++out_;
  const u32 left = --slab->free;
  if (left == 0 || left + 1 == slab->objects) {
    from.remove(slab);
    list_of(slab).push(slab);
  }
  return slab->object_place(index) + layout_.object_offset;
}

u32 SlabStore::index_of(const Slab* slab, const void* object, const SlabLayout& layout) {
  const u8* at = static_cast<const u8*>(object);
  if (at < slab->first + layout.object_offset) return kNoIndex;
  const auto offset = static_cast<u32>(at - slab->first) - layout.object_offset;
  const u32 index = offset / slab->stride;
  return index < slab->objects && offset % slab->stride == 0 ? index : kNoIndex;
}

SlabComplaint SlabStore::put(Slab* slab, void* object) {
  const u32 index = index_of(slab, object, layout_);
  if (index == kNoIndex) return SlabComplaint::NotAnObject;
  if (is_free(slab, index)) return SlabComplaint::AlreadyFree;
  const bool was_full = slab->free == 0, becomes_empty = slab->free + 1 == slab->objects;
  if (was_full || becomes_empty) list_of(slab).remove(slab);
  slab->bits()[index / 32] |= 1u << (index % 32);
  ++slab->free;
  --out_;
  if (was_full || becomes_empty) list_of(slab).push(slab);
  return SlabComplaint::None;
}

void* SlabStore::take_through(CpuMagazines& cpu) {
  if (cpu.previous != nullptr && cpu.previous->count != 0) {
    std::swap(cpu.loaded, cpu.previous);
    cpu.count = cpu.loaded->count;
    cpu.previous->count = 0;
  } else if (depot_ != nullptr) {
    Magazine* full = depot_;
    depot_ = full->next;
    --depot_count_;
    if (cpu.previous != nullptr) add_magazine(cpu.previous);
    if (cpu.loaded != nullptr) cpu.loaded->count = 0;
    cpu.previous = cpu.loaded;
    cpu.loaded = full;
    cpu.count = full->count;
    cpu.limit = magazine_limit_;
  } else {
    void* object = take();
    if (object == nullptr || cpu.loaded == nullptr) return object;
    for (u32 wanted = magazine_limit_ / 2; cpu.count < wanted; ++cpu.count) {
      void* another = take();
      if (another == nullptr) break;
      cpu.loaded->objects[cpu.count] = another;
    }
    return object;
  }
  return cpu.loaded->objects[--cpu.count];
}

SlabStore::Room SlabStore::make_room(CpuMagazines& cpu) {
  if (cpu.previous != nullptr && cpu.previous->count == 0) {
    cpu.loaded->count = cpu.count;
    std::swap(cpu.loaded, cpu.previous);
    cpu.count = 0;
    return Room::Made;
  }
  Magazine* fresh = take_magazine();
  if (fresh == nullptr && cpu.previous != nullptr && depot_count_ >= kDepotLimit) {
    fresh = cpu.previous;  // the depot has enough: its objects go home instead
    cpu.previous = nullptr;
    flush(fresh, fresh->count);
  }
  if (fresh == nullptr) return Room::NeedsMagazine;
  if (Magazine* full = cpu.previous; full != nullptr) {
    if (depot_count_ < kDepotLimit) {
      full->next = depot_;
      depot_ = full;
      ++depot_count_;
    } else {
      flush(full, full->count);
      add_magazine(full);
    }
  }
  if (cpu.loaded != nullptr) cpu.loaded->count = cpu.count;
  cpu.previous = cpu.loaded;
  cpu.loaded = fresh;
  cpu.count = 0;
  cpu.limit = magazine_limit_;
  return Room::Made;
}

void SlabStore::add_magazine(Magazine* magazine) {
  magazine->count = 0;
  magazine->next = empty_magazines_;
  empty_magazines_ = magazine;
}

Magazine* SlabStore::take_magazine() {
  Magazine* magazine = empty_magazines_;
  if (magazine != nullptr) {
    empty_magazines_ = magazine->next;
    magazine->count = 0;
  }
  return magazine;
}

void SlabStore::flush(Magazine* magazine, u32 count) {
  Slab* slab = nullptr;
  for (u32 i = 0; i < count; ++i) {
    void* object = magazine->objects[i];
    // Objects that were freed together are often neighbours.
    if (slab == nullptr || static_cast<u32>(static_cast<u8*>(object) - slab->memory) >= layout_.bytes())
      slab = find_(object);
    const SlabComplaint complaint = slab == nullptr ? SlabComplaint::NotAnObject : put(slab, object);
    if (complaint != SlabComplaint::None && refused_.complaint == SlabComplaint::None)
      refused_ = Refused{complaint, object};
  }
  magazine->count = 0;
}

void SlabStore::drain(CpuMagazines& cpu) {
  if (cpu.loaded != nullptr) {
    flush(cpu.loaded, cpu.count);
    add_magazine(cpu.loaded);
  }
  if (cpu.previous != nullptr) {
    flush(cpu.previous, cpu.previous->count);
    add_magazine(cpu.previous);
  }
  cpu = CpuMagazines{};
}

void SlabStore::drain_depot() {
  while (depot_ != nullptr) {
    Magazine* full = depot_;
    depot_ = full->next;
    --depot_count_;
    flush(full, full->count);
    add_magazine(full);
  }
}

SlabStore::Refused SlabStore::take_refused() { return std::exchange(refused_, Refused{}); }

bool SlabStore::depot_holds(const void* object) const {
  for (const Magazine* magazine = depot_; magazine != nullptr; magazine = magazine->next) {
    for (u32 i = 0; i < magazine->count; ++i) {
      if (magazine->objects[i] == object) return true;
    }
  }
  return false;
}

}  // namespace paean
