// The entry point of a fuzzer: libFuzzer's bytes become an Input for the fuzz_one() that each fuzzer defines.
#pragma once

#include "input.hpp"

namespace paean::fuzz {

/// Plays one input; aborts when a check fails.
void fuzz_one(Input& input);

}  // namespace paean::fuzz

extern "C" [[gnu::used]] inline int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  paean::fuzz::Input input{data, size};
  paean::fuzz::fuzz_one(input);
  return 0;
}
