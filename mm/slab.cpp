#include "mm/slab.hpp"

#include "kernel/fault.hpp"
#include "kernel/preempt.hpp"
#include "kernel/thread.hpp"
#include "mm/kmalloc.hpp"
#include "mm/slab_paths.hpp"

namespace paean {

PER_CPU(CpuSlots, cpu_slots);
FAULT_SITE(slab_object, "an object that no magazine has");
FAULT_SITE(slab_pages, "pages for a new slab");

namespace {

ObjectUser user_at(u32 caller) {
  const Thread* thread = current_thread();
  return {caller, static_cast<u16>(arch::this_cpu()), thread == nullptr ? u16{0} : static_cast<u16>(thread_id(thread))};
}

Constructed constructed(ObjectConstructor constructor) {
  return constructor == nullptr ? Constructed::No : Constructed::Yes;
}

}  // namespace

// The slow paths: they know the user by their own return address, because everything above them is inlined.

[[gnu::noinline]] Result<void*> take_object_slowly(ObjectCache& cache, AllocFlags flags) {
  return SlabPaths::take_slowly(cache, flags, reinterpret_cast<u32>(__builtin_return_address(0)));
}

[[gnu::noinline]] Result<void*> take_cleared_object(ObjectCache& cache, AllocFlags flags) {
  ASSERT(!SlabPaths::has_constructor(cache));
  void* object = SlabFast::take(SlabFast::magazines(cache), SlabFast::tag_offset(cache));
  if (object == nullptr)
    object = TRY(SlabPaths::take_slowly(cache, flags, reinterpret_cast<u32>(__builtin_return_address(0))));
  return __builtin_memset(object, 0, cache.layout().size);
}

[[gnu::noinline]] void give_object_slowly(ObjectCache& cache, void* object) {
  const u32 caller = reinterpret_cast<u32>(__builtin_return_address(0));
  Slab* slab = find_slab(object);
  if (slab != nullptr && slab->cache == &cache) return SlabPaths::give_slowly(slab, object, caller);
  report_wrong_address(cache.name(), object, caller);
}

void* SlabPaths::take_locked(ObjectCache& cache, u32 caller) {
  const bool magazines = cache.store_.magazine_limit() != 0 && percpu_claims.is_zero();
  CpuMagazines* cpu = magazines ? SlabFast::own_magazines(SlabFast::magazines(cache)) : nullptr;
  void* object = nullptr;
  if (cpu == nullptr)
    object = cache.store_.take();
  else if (cpu->count != 0)  // the thread came to another CPU, or an interrupt gave something back
    object = cpu->loaded->objects[--cpu->count];
  else
    object = cache.store_.take_through(*cpu);
  if (object == nullptr) return nullptr;
  if (!cache.is_checked()) {
    SlabFast::tag_of(object, cache.tag_offset_) = 0;
    return object;
  }
  CheckedObject checked{object, cache.layout_, constructed(cache.constructor_)};
  const ObjectTrack before = checked.track();
  const SlabDefect defect = checked.take(user_at(caller));
  if (defect.kind != SlabFaultKind::None)
    report_slab_fault({defect.kind, cache.name_, object, defect.where, caller, before});
  return object;
}

Result<void*> SlabPaths::take_slowly(ObjectCache& cache, AllocFlags flags, u32 caller) {
  if (must_fail(fault_slab_object)) return std::unexpected(Error::OutOfMemory);
  for (;;) {
    {
      const SpinGuard<IrqSave> guard{cache.lock_};
      if (void* object = take_locked(cache, caller)) return object;
    }
    const Result<> grown = grow(cache, flags);
    if (!grown) return std::unexpected(grown.error());
  }
}

Result<> SlabPaths::grow(ObjectCache& cache, AllocFlags flags) {
  ASSERT(is_low(flags.zone()));
  if (must_fail(fault_slab_pages)) return std::unexpected(Error::OutOfMemory);
  const SlabLayout& layout = cache.layout_;
  const bool any = cache.flags_.has(CacheFlag::VFallback);
  const VirtAddr memory = TRY(take_slab_memory(any ? flags | AllocFlags::VFallback : flags, layout.order));
  Slab* slab = nullptr;
  if (layout.place == DescriptorPlace::Outside) {
    const Result<void*> outside = take_object(descriptor_cache, flags);
    if (!outside) {
      give_slab_memory(memory, layout.order);
      return std::unexpected(outside.error());
    }
    slab = static_cast<Slab*>(*outside);
  }
  {
    const SpinGuard<IrqSave> guard{cache.lock_};
    auto* bytes = reinterpret_cast<u8*>(memory.raw());
    if (slab == nullptr) slab = cache.store_.descriptor_in(bytes);
    cache.store_.make_slab(slab, &cache, bytes);
  }
  mark_slab_pages(slab);
  for (u32 i = 0; i < layout.objects; ++i) {
    void* object = slab->object_place(i) + layout.object_offset;
    if (cache.constructor_ != nullptr) cache.constructor_(object);
    if (cache.is_checked())
      CheckedObject{object, layout, constructed(cache.constructor_)}.make_free();
    else
      SlabFast::tag_of(object, cache.tag_offset_) = 0;
  }
  const SpinGuard<IrqSave> guard{cache.lock_};
  cache.store_.insert(slab);
  return {};
}

bool SlabPaths::is_wrong(ObjectCache& cache, Slab* slab, void* object, u32 caller) {
  SlabFault fault{SlabFaultKind::None, cache.name_, object, object, caller};
  if (cache.is_checked()) {
    if (SlabStore::index_of(slab, object, cache.layout_) == SlabStore::kNoIndex) {
      fault.kind = SlabFaultKind::NotAnObject;
    } else {
      CheckedObject checked{object, cache.layout_, constructed(cache.constructor_)};
      fault.track = checked.track();
      const SlabDefect defect = checked.give(user_at(caller));
      fault.kind = defect.kind;
      if (defect.where != nullptr) fault.where = defect.where;
    }
  } else {
    u32& tag = SlabFast::tag_of(object, cache.tag_offset_);
    if (tag == kFreeTag && holds(cache, slab, object)) fault.kind = SlabFaultKind::DoubleFree;
    tag = kFreeTag;
  }
  if (fault.kind == SlabFaultKind::None) return false;
  report_slab_fault(fault);
  return fault.kind != SlabFaultKind::Underrun && fault.kind != SlabFaultKind::Overrun;
}

SlabPaths::Given SlabPaths::give_locked(ObjectCache& cache, Slab* slab, void* object, u32 caller, Magazines magazines) {
  const bool use = magazines == Magazines::Use && cache.store_.magazine_limit() != 0 && percpu_claims.is_zero();
  if (use) {
    CpuMagazines* cpu = SlabFast::own_magazines(SlabFast::magazines(cache));
    if (cpu->count == cpu->limit && cache.store_.make_room(*cpu) == SlabStore::Room::NeedsMagazine)
      return Given::NeedsMagazine;
    cpu->loaded->objects[cpu->count++] = object;
    return Given::Done;
  }
  const SlabComplaint complaint = cache.store_.put(slab, object);
  if (complaint == SlabComplaint::None) return Given::Done;
  const SlabFaultKind kind =
      complaint == SlabComplaint::AlreadyFree ? SlabFaultKind::DoubleFree : SlabFaultKind::NotAnObject;
  report_slab_fault({kind, cache.name_, object, object, caller});
  return Given::Done;
}

void SlabPaths::give_slowly(Slab* slab, void* object, u32 caller) {
  if (!slab->is_sound()) return report_slab_fault({SlabFaultKind::DescriptorDamaged, nullptr, object, slab, caller});
  ObjectCache& cache = *slab->cache;
  Slab* surplus = nullptr;
  Magazines magazines = Magazines::Use;
  bool looked = false;
  for (;;) {
    {
      const SpinGuard<IrqSave> guard{cache.lock_};
      if (!looked && is_wrong(cache, slab, object, caller)) return;
      looked = true;
      const Given given = give_locked(cache, slab, object, caller, magazines);
      report_refused(cache);
      if (given == Given::Done) {
        surplus = take_surplus(cache, SlabStore::kEmptySlabsLimit);
        break;
      }
    }
    const Result<void*> magazine = take_object(magazine_cache, AllocFlags::Atomic | AllocFlags::NoWarn);
    if (!magazine) {
      magazines = Magazines::Avoid;
      continue;
    }
    const SpinGuard<IrqSave> guard{cache.lock_};
    cache.store_.add_magazine(static_cast<Magazine*>(*magazine));
  }
  if (surplus != nullptr) release(surplus);
}

Slab* SlabPaths::take_surplus(ObjectCache& cache, u32 keep) {
  Slab* chain = nullptr;
  while (Slab* slab = cache.store_.take_surplus(keep)) {
    slab->next = chain;
    chain = slab;
  }
  return chain;
}

u32 SlabPaths::release(Slab* slabs) {
  u32 pages = 0;
  while (slabs != nullptr) {
    Slab* slab = slabs;
    slabs = slab->next;
    pages += slab->order.pages();
    const VirtAddr memory{reinterpret_cast<u32>(slab->memory)};
    const Order order = slab->order;
    unmark_slab_pages(slab);
    slab->magic = 0;
    if (slab->place == DescriptorPlace::Outside) give_object(descriptor_cache, slab);
    give_slab_memory(memory, order);
  }
  return pages;
}

void SlabPaths::report_refused(ObjectCache& cache) {
  const SlabStore::Refused refused = cache.store_.take_refused();
  if (refused.complaint == SlabComplaint::None) return;
  const SlabFaultKind kind =
      refused.complaint == SlabComplaint::AlreadyFree ? SlabFaultKind::DoubleFree : SlabFaultKind::NotAnObject;
  report_slab_fault({kind, cache.name_, refused.object, refused.object, 0});
}

bool SlabPaths::holds(ObjectCache& cache, Slab* slab, const void* object) {
  const u32 index = SlabStore::index_of(slab, object, cache.layout_);
  if (index == SlabStore::kNoIndex || SlabStore::is_free(slab, index)) return true;
  if (cache.store_.depot_holds(object)) return true;
  for (u32 cpu = 0; cpu < arch::online_cpus(); ++cpu) {
    const CpuMagazines now = look_at(cache, cpu);
    for (u32 i = 0; now.loaded != nullptr && i < now.count; ++i) {
      if (now.loaded->objects[i] == object) return true;
    }
    for (u32 i = 0; now.previous != nullptr && i < now.previous->count; ++i) {
      if (now.previous->objects[i] == object) return true;
    }
  }
  return false;
}

CpuMagazines SlabPaths::look_at(const ObjectCache& cache, u32 cpu) {
  const CpuSlots& slots = cpu_slots.on(cpu);
  CpuMagazines now = slots.slot[cache.number()];
  if (now.count > Magazine::kCapacity) now.count = 0;  // just below zero while it is being found empty
  return now;
}

}  // namespace paean
