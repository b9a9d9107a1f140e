// ext2 on images that are damaged field by field, as the input says, and then used by a stranger: whatever happens, no
// undefined behaviour, no failed assertion, no endless search.
#include "../host/ext2_mutate.hpp"
#include "entry.hpp"

namespace paean::fuzz {

namespace {

constexpr const char* kShapes[] = {"-b 1024 -N 48", "-b 4096 -N 48 -I 128", "-b 2048 -N 48 -O ^filetype"};
std::vector<u8> images[3];
constexpr u32 kMostCalls = 8'000'000;

/// Numbers of more than 16 bits are not asked for.
struct Choices {
  Input& input;
  u32 below(u32 limit) { return limit > 1 ? input.below(limit) : 0; }
};

}  // namespace

void fuzz_one(Input& input) {
  Choices choices{input};
  host::ImageStore store{images[input.below(3)]};
  host::Ext2Mutator mutator{store.image(), choices};
  for (u32 damages = input.below(6); damages > 0; --damages) mutator.damage();
  host::Ext2Stranger stranger{store, choices};
  stranger.run(40);
  CHECK(store.calls() < kMostCalls);
}

}  // namespace paean::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace paean;
  for (u32 i = 0; i < 3; ++i) {
    fuzz::images[i] = host::make_small_image(fuzz::kShapes[i]);
    CHECK(!fuzz::images[i].empty());
  }
  return 0;
}
