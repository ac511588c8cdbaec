// Vectors of which only some lanes exist in memory.
#pragma once

#include <utility>  // of which only a type is used

#include "kernels.h"

namespace binseg {
namespace {

// Of functions and lambdas that must not cost a call, nor keep their arguments in memory.
#define BINSEG_INLINE __attribute__((always_inline))

// f(0), f(1), … f(N - 1) with numbers that are known when it is compiled, so that arrays which
// they index live in registers. (Loops are unrolled too late for that.)
template <int N>
struct Number {
  constexpr operator int() const { return N; }
};
template <int N, class F>
inline BINSEG_INLINE void unroll(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>)
      BINSEG_INLINE { (f(Number<I>()), ...); }(std::make_integer_sequence<int, N>());
}

template <class Isa>
inline typename Isa::Float load_lanes(const float* from, int count) {
  return count == Isa::kLanes ? Isa::loadf(from) : Isa::loadf_some(from, count);
}

template <class Isa>
inline void store_lanes(float* to, typename Isa::Float value, int count) {
  if (count == Isa::kLanes) {
    Isa::storef(to, value);
  } else {
    Isa::storef_some(to, value, count);
  }
}

}  // namespace
}  // namespace binseg
