// Objects that one CPU takes and another gives back, while both work on one cache; with a twin that must be seen to
// fail.
#include "access.hpp"
#include "kernel/test/race.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

struct Token {
  u32 holders;
  u32 words[15];
};

/// A stack of free tokens that two CPUs use without any care.
struct CarelessStack {
  static constexpr u32 kTokens = 16;
  Token tokens[kTokens]{};
  Token* volatile free[kTokens]{};
  volatile u32 count = 0;

  CarelessStack() {
    for (u32 i = 0; i < kTokens; ++i) free[i] = &tokens[i];
    count = kTokens;
  }
  Token* take() {
    const u32 left = count;
    if (left == 0) return nullptr;
    count = left - 1;
    return free[left - 1];
  }
  void give(Token* token) {
    const u32 now = count;
    if (now >= kTokens) return;
    free[now] = token;
    count = now + 1;
  }
};

/// One that is held twice at a time was given out twice.
template <typename Take, typename Give>
void pass_one(Take take, Give give, Token*& post, u32& twice) {
  Token* token = take();
  if (token == nullptr) return;
  if (__atomic_fetch_add(&token->holders, 1, __ATOMIC_SEQ_CST) != 0) ++twice;
  for (u32 pause = 0; pause < 16; ++pause) asm volatile("");
  Token* old = __atomic_exchange_n(&post, token, __ATOMIC_ACQ_REL);
  if (old == nullptr) return;
  __atomic_fetch_sub(&old->holders, 1, __ATOMIC_SEQ_CST);
  give(old);
}

}  // namespace

KTEST(race, no_object_has_two_owners, .flags = TestFlag::NeedsSmp | TestFlag::Slow) {
  race_verdict(test, [&](RaceVariant variant, u32 first_cpu) {
    static constinit Token* post = nullptr;
    const auto constructor = [](void* object) { static_cast<Token*>(object)->holders = 0; };
    const Result<ObjectCache*> cache = ObjectCache::create(
        {.name = "raced", .size = sizeof(Token), .flags = CacheFlag::Unchecked, .constructor = constructor});
    if (!cache) return 1u;
    CarelessStack stack;
    post = nullptr;
    u32 twice[2]{};
    const auto use = [&](u32 me) {
      if (variant == RaceVariant::Right) {
        pass_one(
            [&] {
              const Result<void*> token = take_object(**cache, AllocFlags::Kernel);
              return token ? static_cast<Token*>(*token) : nullptr;
            },
            [&](Token* token) { give_object(**cache, token); }, post, twice[me]);
      } else {
        pass_one([&] { return stack.take(); }, [&](Token* token) { stack.give(token); }, post, twice[me]);
      }
    };
    EXPECT(run_race(test.random(), first_cpu, race_iterations(), [&](u32) { use(0); }, [&](u32) { use(1); }));
    if (variant == RaceVariant::Right && post != nullptr) {
      post->holders = 0;
      give_object(**cache, post);
    }
    EXPECT(ObjectCache::destroy(*cache).has_value());
    return twice[0] + twice[1];
  });
}

}  // namespace paean
