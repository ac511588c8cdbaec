// What the epilogues share: the nonlinearity, and loads and stores of eight channels.
#pragma once

#include "conv_tile.cuh"
#include "tanh.cuh"

namespace binseg {

// Eight values from p on, of which `count` exist; `wide` says that 16-byte loads are allowed.
__device__ __forceinline__ void load8(const float* p, int count, bool wide, float (&values)[8]) {
  if (wide && count == 8) {
    const float4 low = __ldg(reinterpret_cast<const float4*>(p));
    const float4 high = __ldg(reinterpret_cast<const float4*>(p) + 1);
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[i] = i < count ? __ldg(p + i) : 0.0f;
    }
  }
}

// values += those from p on, of which `count` exist.
__device__ __forceinline__ void add8(const float* p, int count, bool wide, float (&values)[8]) {
  float added[8];
  load8(p, count, wide, added);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    values[i] = __fadd_rn(values[i], added[i]);
  }
}

__device__ __forceinline__ void store8(float* p, int count, bool wide, const float (&values)[8]) {
  if (wide && count == 8) {
    reinterpret_cast<float4*>(p)[0] = make_float4(values[0], values[1], values[2], values[3]);
    reinterpret_cast<float4*>(p)[1] = make_float4(values[4], values[5], values[6], values[7]);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < count) {
        p[i] = values[i];
      }
    }
  }
}

// Signs of eight values; channels that do not exist give 0.
__device__ __forceinline__ unsigned signs8(const float (&values)[8], int count) {
  unsigned byte = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    byte |= (i < count && values[i] >= 0.0f ? 1u : 0u) << i;
  }
  return byte;
}

// f(s) for eight channels.
struct Curve8 {
  float first[8], second[8], third[8];

  __device__ __forceinline__ void load(const Curve& curve, const Conv& conv, int base, int channel,
                                       int count, bool wide) {
    const long long row = static_cast<long long>(conv.bases) * conv.out_channels;
    const float* p = curve.values + static_cast<long long>(base) * conv.out_channels + channel;
    load8(p, count, wide, first);
    load8(p + row, count, wide, second);
    load8(p + 2 * row, count, wide, third);
  }

  __device__ __forceinline__ void apply(bool tanh, const int (&sums)[8], float (&values)[8]) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float s = static_cast<float>(sums[i]);
      if (tanh) {
        values[i] = __fmaf_rn(first[i], exact_tanh(__fmul_rn(second[i], s)), third[i]);
      } else {
        values[i] = __fmaf_rn(sums[i] >= 0 ? first[i] : second[i], s, third[i]);
      }
    }
  }
};

// PReLU between two shifts, for eight channels. Loaded where it is used: registers are full of
// sums.
__device__ __forceinline__ void shifted_prelu8(const float* first, long long row, int count,
                                               bool wide, float (&values)[8]) {
  float before[8], slope[8], after[8];
  load8(first, count, wide, before);
  load8(first + row, count, wide, slope);
  load8(first + 2 * row, count, wide, after);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float u = __fadd_rn(values[i], before[i]);
    values[i] = __fadd_rn(u >= 0.0f ? u : __fmul_rn(slope[i], u), after[i]);
  }
}

// Signs of eight values and what is added to them before.
__device__ __forceinline__ unsigned moved_signs8(const float* threshold, int count, bool wide,
                                                 const float (&values)[8]) {
  float moved[8];
  load8(threshold, count, wide, moved);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    moved[i] = __fadd_rn(values[i], moved[i]);
  }
  return signs8(moved, count);
}

// `Real::post` for eight channels.
struct Post8 {
  const float* first;
  long long row;
  int count;
  bool wide;

  __device__ __forceinline__ Post8(const float* post, const Conv& conv, int base, int channel,
                                   int count, bool wide)
      : first(post + static_cast<long long>(base) * conv.out_channels + channel),
        row(static_cast<long long>(conv.bases) * conv.out_channels),
        count(count),
        wide(wide) {}

  __device__ __forceinline__ void apply(float (&values)[8]) const {
    shifted_prelu8(first, row, count, wide, values);
  }
  __device__ __forceinline__ unsigned signs(const float (&values)[8]) const {
    return moved_signs8(first + 3 * row, count, wide, values);
  }
};

// The same where there is none.
struct NoPost8 {
  int count;

  __device__ __forceinline__ NoPost8(const float*, const Conv&, int, int, int count, bool)
      : count(count) {}
  __device__ __forceinline__ void apply(float (&)[8]) const {}
  __device__ __forceinline__ unsigned signs(const float (&values)[8]) const {
    return signs8(values, count);
  }
};

}  // namespace binseg
