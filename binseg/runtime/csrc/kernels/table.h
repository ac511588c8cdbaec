// The kernels of one instruction set, instantiated.
#pragma once

#include "conv.h"
#include "epilogues.h"
#include "maps.h"
#include "pack.h"
#include "pool.h"

namespace binseg {
namespace {

template <class Isa>
constexpr Kernels make_kernels(const char* name) {
  return {
      name,
      convolve<Isa, false, StoreSums<Isa, int32_t>>,
      convolve<Isa, false, StoreSums<Isa, int16_t>>,
      convolve<Isa, false, Threshold<Isa>>,
      convolve<Isa, false, Real<Isa, false, NoPost>>,
      convolve<Isa, false, Real<Isa, true, NoPost>>,
      convolve<Isa, false, Real<Isa, false, Post>>,
      convolve<Isa, false, Real<Isa, true, Post>>,
      convolve<Isa, false, Merge<Isa, false>>,
      convolve<Isa, false, Merge<Isa, true>>,
      convolve<Isa, true, Affine<Isa>>,
      convolve_and_pool<Isa>,
      pack_sign<Isa>,
      quantize<Isa>,
      upsample,
  };
}

// tanh to a few units in the last place: a quotient of polynomials on [-7.9, 7.9], beyond which
// float32 tanh is ±1 (the coefficients are those of Eigen's ptanh).
template <class Isa>
inline typename Isa::Float tanh_of(typename Isa::Float x) {
  constexpr float kLimit = 7.90531110763549805f;
  const auto v = Isa::max(Isa::min(x, Isa::setf(kLimit)), Isa::setf(-kLimit));
  const auto s = Isa::mul(v, v);
  auto p = Isa::setf(-2.76076847742355e-16f);
  p = Isa::fma(s, p, Isa::setf(2.00018790482477e-13f));
  p = Isa::fma(s, p, Isa::setf(-8.60467152213735e-11f));
  p = Isa::fma(s, p, Isa::setf(5.12229709037114e-08f));
  p = Isa::fma(s, p, Isa::setf(1.48572235717979e-05f));
  p = Isa::fma(s, p, Isa::setf(6.37261928875436e-04f));
  p = Isa::fma(s, p, Isa::setf(4.89352455891786e-03f));
  p = Isa::mul(v, p);
  auto q = Isa::setf(1.19825839466702e-06f);
  q = Isa::fma(s, q, Isa::setf(1.18534705686654e-04f));
  q = Isa::fma(s, q, Isa::setf(2.26843463243900e-03f));
  q = Isa::fma(s, q, Isa::setf(4.89352518554385e-03f));
  return Isa::div(p, q);
}

}  // namespace
}  // namespace binseg
