// Vectors of which only some lanes exist in memory.
#pragma once

#include "kernels.h"

namespace binseg {
namespace {

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
