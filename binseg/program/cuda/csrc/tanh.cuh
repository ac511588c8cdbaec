// tanh and sigmoid as docs/program.md, part 3, defines them.
#pragma once

#include "primitives.cuh"

namespace binseg {

template <int Count>
__device__ __forceinline__ float horner(float x, const float (&coefficients)[Count]) {
  float value = coefficients[0];
#pragma unroll
  for (int i = 1; i < Count; ++i) {
    value = __fmaf_rn(x, value, coefficients[i]);
  }
  return value;
}

__device__ __forceinline__ float exact_tanh(float x) {
  constexpr float kLimit = 7.90531110763549805f;
  constexpr float kP[] = {-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                          5.12229709037114e-08f,  1.48572235717979e-05f, 6.37261928875436e-04f,
                          4.89352455891786e-03f};
  constexpr float kQ[] = {1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f,
                          4.89352518554385e-03f};
  const float v = fminf(fmaxf(x, -kLimit), kLimit);
  const float square = __fmul_rn(v, v);
  return __fdiv_rn(__fmul_rn(v, horner(square, kP)), horner(square, kQ));
}

__device__ __forceinline__ float exact_sigmoid(float x) {
  return __fmaf_rn(0.5f, exact_tanh(__fmul_rn(0.5f, x)), 0.5f);
}

}  // namespace binseg
