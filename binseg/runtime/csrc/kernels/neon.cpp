// 64-bit ARM: bits are counted by byte (cnt), in bytes that are widened before they can overflow.
#include <arm_neon.h>

#include "kernels.h"

namespace binseg {
namespace {
template <class Isa>
inline typename Isa::Float tanh_of(typename Isa::Float x);

struct Neon {
  using Int = int32x4_t;
  using Float = float32x4_t;
  static constexpr int kLanes = 4;
  // 4 × 4 sums, 4 weights, an activation and temporaries out of 32 registers
  static constexpr int kVectors = 4;
  static constexpr int kPixels = 4;

  template <int Pixels, int V>
  static inline void count(Int (&sums)[Pixels][V], const uint32_t* w, const uint32_t* const* taps,
                           int64_t tap_count, int64_t run, int64_t first, int64_t step) {
    uint8x16_t bytes[Pixels][V];
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        sums[p][v] = set(0);
        bytes[p][v] = vdupq_n_u8(0);
      }
    }
    int64_t until_flush = kSteps;
    for (int64_t t = 0; t < tap_count; ++t) {
      const uint32_t* x = taps[t] + first;
      int64_t left = run;
      while (left > 0) {
        const int64_t steps = left < until_flush ? left : until_flush;
        for (int64_t i = 0; i < steps; ++i, ++x, w += kBlock) {
#pragma GCC unroll 8
          for (int p = 0; p < Pixels; ++p) {
            const uint32x4_t input = vdupq_n_u32(x[p * step]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) {
              const uint32x4_t differ = veorq_u32(input, vld1q_u32(w + v * kLanes));
              bytes[p][v] = vaddq_u8(bytes[p][v], vcntq_u8(vreinterpretq_u8_u32(differ)));
            }
          }
        }
        left -= steps;
        until_flush -= steps;
        if (until_flush == 0) {
          flush(sums, bytes);
          until_flush = kSteps;
        }
      }
    }
    flush(sums, bytes);
  }

  template <int Pixels, int V>
  static inline void multiply(Int (&sums)[Pixels][V], const uint32_t* w,
                              const uint32_t* const* taps, int64_t tap_count, int64_t run,
                              int64_t first, int64_t step) {
    // a product of bytes, one signed and one not, fits in 16 bits; even and odd bytes apart
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[p][v] = set(0);
    }
    for (int64_t t = 0; t < tap_count; ++t) {
      const uint32_t* x = taps[t] + first;
      for (int64_t i = 0; i < run; ++i, ++x, w += kBlock) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          const int16x8_t weight = vreinterpretq_s16_u32(vld1q_u32(w + v * kLanes));
          const int16x8_t weight_odd = vshrq_n_s16(weight, 8);
          const int16x8_t weight_even = vshrq_n_s16(vshlq_n_s16(weight, 8), 8);
#pragma GCC unroll 8
          for (int p = 0; p < Pixels; ++p) {
            const uint16x8_t input = vreinterpretq_u16_u32(vdupq_n_u32(x[p * step]));
            const int16x8_t even = vreinterpretq_s16_u16(vandq_u16(input, vdupq_n_u16(255)));
            const int16x8_t odd = vreinterpretq_s16_u16(vshrq_n_u16(input, 8));
            sums[p][v] = vpadalq_s16(sums[p][v], vmulq_s16(even, weight_even));
            sums[p][v] = vpadalq_s16(sums[p][v], vmulq_s16(odd, weight_odd));
          }
        }
      }
    }
  }

  static Int set(int32_t x) { return vdupq_n_s32(x); }
  static Int load(const void* from) { return vld1q_s32(static_cast<const int32_t*>(from)); }
  static void store(int32_t* to, Int x) { vst1q_s32(to, x); }
  static void store(int16_t* to, Int x) { vst1_s16(to, vmovn_s32(x)); }
  template <class Element>
  static void store_some(Element* to, Int x, int count) {
    for (int i = 0; i < count; ++i) to[i] = static_cast<Element>(x[i]);
  }
  static void store_bytes(uint8_t* to, Int x, int count) { store_some(to, x, count); }
  static Int add(Int a, Int b) { return vaddq_s32(a, b); }
  static Int sub(Int a, Int b) { return vsubq_s32(a, b); }
  static Int maxi(Int a, Int b) { return vmaxq_s32(a, b); }
  static Int or_(Int a, Int b) { return vorrq_s32(a, b); }
  static Int shift_left(Int a, int by) { return vshlq_s32(a, set(by)); }
  static uint32_t at_most(Int a, Int b) {
    return bits(vcleq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)));
  }

  static void prefetch_read(const float* at) { __builtin_prefetch(at); }
  static void prefetch_write(const float* at) { __builtin_prefetch(at, 1); }
  static Float setf(float x) { return vdupq_n_f32(x); }
  static Float loadf(const float* from) { return vld1q_f32(from); }
  static Float loadf_some(const float* from, int count) {
    float lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = from[i];
    return vld1q_f32(lanes);
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    uint32_t lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = static_cast<uint32_t>(from[i]) << 16;
    return vreinterpretq_f32_u32(vld1q_u32(lanes));
  }
  static void stream(float* to, Float x) { storef(to, x); }
  static void storef(float* to, Float x) { vst1q_f32(to, x); }
  static void storef_some(float* to, Float x, int count) {
    for (int i = 0; i < count; ++i) to[i] = x[i];
  }
  static Float to_float(Int x) { return vcvtq_f32_s32(x); }
  static Int to_int(Float x) { return vcvtnq_s32_f32(x); }
  static Float round(Float x) { return vrndnq_f32(x); }
  static Float addf(Float a, Float b) { return vaddq_f32(a, b); }
  static Float subf(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float div(Float a, Float b) { return vdivq_f32(a, b); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static Float fused(Float a, Float b, Float c) { return fma(a, b, c); }
  static Float prelu(Float x, Float slope) {
    return vbslq_f32(vcgezq_f32(x), x, vmulq_f32(x, slope));
  }
  // of nan and a number the number, as on x86 where it comes second
  static Float max(Float a, Float b) { return vmaxnmq_f32(a, b); }
  static Float min(Float a, Float b) { return vminnmq_f32(a, b); }
  static Float tanh(Float x) { return tanh_of<Neon>(x); }
  static uint32_t not_negative(Float x) { return bits(vcgezq_f32(x)); }
  static Int bit_if_not_negative(Float x, int bit) {
    const uint32x4_t one = vdupq_n_u32(1u << bit);
    return vreinterpretq_s32_u32(vandq_u32(vcgezq_f32(x), one));
  }

 private:
  static constexpr int64_t kSteps = 31;  // a byte gains at most 8 a step

  template <int Pixels, int V>
  static inline void flush(Int (&sums)[Pixels][V], uint8x16_t (&bytes)[Pixels][V]) {
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const uint32x4_t sum =
            vpadalq_u16(vreinterpretq_u32_s32(sums[p][v]), vpaddlq_u8(bytes[p][v]));
        sums[p][v] = vreinterpretq_s32_u32(sum);
        bytes[p][v] = vdupq_n_u8(0);
      }
    }
  }
  static uint32_t bits(uint32x4_t all_ones_or_zero) {
    constexpr uint32_t kWeights[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(all_ones_or_zero, vld1q_u32(kWeights)));
  }
};

}  // namespace
}  // namespace binseg

#include "table.h"

namespace binseg {
extern const Kernels kNeon;
const Kernels kNeon = make_kernels<Neon>("neon");
}  // namespace binseg
