// What tests ask of results.
#pragma once

#include "lib/result.hpp"

namespace paean {

template <typename T>
bool fails_with(const Result<T>& result, Error error) {
  return !result && result.error() == error;
}

}  // namespace paean
