// The kernels of one instruction set, instantiated. Included before the instruction set is defined,
// so that nothing here can know which one it is.
#pragma once

#include "conv.h"
#include "conv_pool.h"
#include "epilogues.h"
#include "rows.h"
#include "shrink.h"
#include "upsample.h"

namespace binseg {
namespace {

template <class Isa>
constexpr Kernels make_kernels(const char* name) {
  return {
      name,
      Isa::kArrangement,
      convolve<Isa, false, Threshold<Isa>>,
      convolve<Isa, false, Real<Isa>>,
      convolve<Isa, false, Merge<Isa>>,
      convolve<Isa, true, Real<Isa>>,
      convolve_and_pool<Isa>,
      upsample<Isa>,
      make_row_kernels<Isa>(),
      make_shrink_kernels<Isa>(),
      nullptr,
  };
}

}  // namespace
}  // namespace binseg
