// SlabStore on three pretended CPUs against a set of the objects in use.
#include <set>
#include <vector>

#include "../host/slab_model.hpp"
#include "entry.hpp"
#include "mm/slab_store.hpp"

namespace paean::fuzz {

namespace {

SlabSpec read_spec(Input& input) {
  return {.size = 1 + input.below(input.below(2) == 0 ? 300 : 9000),
          .align = 1u << input.below(8),
          .checking = static_cast<Checking>(input.below(2)),
          .constructed = static_cast<Constructed>(input.below(2)),
          .max_order = input.below(4),
          .farthest = static_cast<DescriptorPlace>(input.below(2))};
}

struct Run {
  Run(const SlabSpec& spec, u32 magazines) : model(spec, magazines) {}

  void add(void* object) {
    CHECK(object != nullptr);
    const SlabLayout& layout = model.store.layout();
    CHECK(reinterpret_cast<std::uintptr_t>(object) % layout.align == 0);
    CHECK(SlabStore::index_of(SlabModel::find(object), object, layout) != SlabStore::kNoIndex);
    CHECK(used.insert(static_cast<u8*>(object)).second);
  }
  u8* remove(Input& input) {
    auto which = used.begin();
    std::advance(which, input.below(static_cast<u32>(used.size())));
    u8* object = *which;
    used.erase(which);
    return object;
  }
  void step(Input& input) {
    const u32 cpu = input.below(SlabModel::kCpus);
    switch (input.below(9)) {
      case 0:
      case 1:
      case 2: add(model.take(cpu)); break;
      case 3: add(model.take_directly()); break;
      case 4:
      case 5:
        if (!used.empty()) model.give(cpu, remove(input));
        break;
      case 6:
        if (used.empty()) break;
        if (const u32 size = model.store.layout().size; size > 1)
          CHECK(model.give_directly(*used.begin() + 1 + input.below(size - 1)) == SlabComplaint::NotAnObject);
        CHECK(model.give_directly(remove(input)) == SlabComplaint::None);
        break;
      case 7: model.store.drain(model.cpus[cpu]); break;
      default: model.shrink(input.below(3)); break;
    }
    CHECK(model.store.objects_out() == used.size() + model.idle());
    CHECK(model.store.slabs() == model.slab_count());
    CHECK(model.store.take_refused().complaint == SlabComplaint::None);
  }
  void end() {
    for (u8* object : used) CHECK(model.give_directly(object) == SlabComplaint::None);
    model.drain_all();
    CHECK(model.store.objects_out() == 0);
    model.shrink(0);
    CHECK(model.store.slabs() == 0 && model.slab_count() == 0);
  }

  SlabModel model;
  std::set<u8*> used;
};

}  // namespace

void fuzz_one(Input& input) {
  const SlabSpec spec = read_spec(input);
  if (!plan_slab(spec)) return;
  Run run{spec, 1 + input.below(Magazine::kCapacity)};
  for (u32 i = 0; i < 400 && !input.empty(); ++i) run.step(input);
  run.end();
}

}  // namespace paean::fuzz
