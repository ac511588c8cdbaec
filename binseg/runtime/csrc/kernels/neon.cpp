// 64-bit ARM: bits are counted by byte (cnt), in bytes that are widened before they can overflow.
#include <arm_neon.h>

#include "table.h"

namespace binseg {
namespace {

struct Neon {
  using Int = int32x4_t;
  using Float = float32x4_t;
  static constexpr Arrangement kArrangement = Arrangement::kWords;
  static constexpr int kLanes = 4;
  static constexpr int kBitVectors = 4, kByteVectors = 4;
  static constexpr int kPoolVectors = 4, kPoolPixels = 4;
  static constexpr int kMergePixels = 4;
  template <int P>
  static constexpr int group() {
    return 4;
  }
  static constexpr int kBitWeight = 4, kByteWeight = 4;  // bytes of one channel in one word
  // 4 × 4 sums, 4 weights, an activation and temporaries out of 32 registers
  template <bool Bytes, int V>
  static constexpr int pixels() {
    return 4;
  }
  template <bool Bytes>
  using Rows = PlainRows;

  template <int P, int V>
  struct BitSums {
    Int sums[P][V];
    void count(const ConvArgs& a, const char* w, const uint8_t* const* taps, int64_t x) {
      uint8x16_t bytes[P][V];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          sums[p][v] = set(a.start);
          bytes[p][v] = vdupq_n_u8(0);
        }
      }
      const int64_t pixel = a.pixel_step;
      int64_t until_flush = kSteps;
      for (int64_t t = 0; t < a.tap_count; ++t) {
        const uint8_t* in = taps[t] + x * pixel;
        int64_t left = a.run;
        while (left > 0) {
          const int64_t steps = left < until_flush ? left : until_flush;
          for (int64_t i = 0; i < steps; ++i, in += 4, w += kBlock * 4) {
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
              const uint32x4_t input = splat(in + p * pixel);
#pragma GCC unroll 8
              for (int v = 0; v < V; ++v) {
                const uint32x4_t differ =
                    veorq_u32(input, vreinterpretq_u32_s32(load(w + v * kLanes * 4)));
                bytes[p][v] = vaddq_u8(bytes[p][v], vcntq_u8(vreinterpretq_u8_u32(differ)));
              }
            }
          }
          left -= steps;
          until_flush -= steps;
          if (until_flush == 0) {
            flush<P, V>(sums, bytes);
            until_flush = kSteps;
          }
        }
      }
      flush<P, V>(sums, bytes);
    }
    Int get(int p, int v) const { return sums[p][v]; }
  };

  // a product of bytes, one signed and one not, fits in 16 bits; even and odd bytes apart
  template <int P, int V>
  static inline void multiply(Int (&sums)[P][V], const ConvArgs& a, const char* w,
                              const uint8_t* const* taps, int64_t x) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      unroll<V>([&](auto v) BINSEG_INLINE { sums[p][v] = set(0); });
    }
    const int64_t pixel = a.pixel_step;
    for (int64_t t = 0; t < a.tap_count; ++t) {
      const uint8_t* in = taps[t] + x * pixel;
      for (int64_t i = 0; i < a.run; ++i, in += 4, w += kBlock * 4) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          const int16x8_t weight = vreinterpretq_s16_s32(load(w + v * kLanes * 4));
          const int16x8_t weight_odd = vshrq_n_s16(weight, 8);
          const int16x8_t weight_even = vshrq_n_s16(vshlq_n_s16(weight, 8), 8);
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) {
            const uint16x8_t input = vreinterpretq_u16_u32(splat(in + p * pixel));
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
  static Int load(const void* from) {
    Int x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
  }
  static void store(int32_t* to, Int x) { vst1q_s32(to, x); }
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
  static Float setf(float x) { return vdupq_n_f32(x); }
  static Float loadf(const float* from) { return vld1q_f32(from); }
  static Float loadf_some(const float* from, int count) {
    float lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = from[i];
    return vld1q_f32(lanes);
  }
  static Float load_bfloat16(const uint16_t* from) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from), 16));
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    uint16_t lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = from[i];
    return load_bfloat16(lanes);
  }
  template <int V>
  static void store_bfloat16(uint16_t* to, const Float (&x)[V]) {
    unroll<V>([&](auto v) BINSEG_INLINE { vst1_u16(to + v * kLanes, narrowed(x[v])); });
  }
  static void store_bfloat16_some(uint16_t* to, Float x, int count) {
    uint16_t lanes[kLanes];
    vst1_u16(lanes, narrowed(x));
    for (int i = 0; i < count; ++i) to[i] = lanes[i];
  }
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
  static Float prelu(Float x, Float slope) {
    return vbslq_f32(vcgezq_f32(x), x, vmulq_f32(x, slope));
  }
  // x > 0 ? a : b
  static Float select_positive(Float x, Float a, Float b) { return vbslq_f32(vcgtzq_f32(x), a, b); }
  // as on x86, where the second decides if one is nan
  static Float max(Float a, Float b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static Float min(Float a, Float b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static uint32_t not_negative(Float x) { return bits(vcgezq_f32(x)); }
  template <int V>
  static uint64_t signs(const Float (&x)[V]) {
    uint64_t all = 0;
    unroll<V>([&](auto v) BINSEG_INLINE {
      all |= static_cast<uint64_t>(not_negative(x[v])) << (v * kLanes);
    });
    return all;
  }
  // Bits of the channels of V vectors with (a - low) mod 2^32 <= span.
  template <int V>
  static uint64_t inside(const Int (&a)[V], const Int (&low)[V], const Int (&span)[V]) {
    uint64_t all = 0;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const uint32x4_t above = vreinterpretq_u32_s32(vsubq_s32(a[v], low[v]));
      all |= static_cast<uint64_t>(bits(vcleq_u32(above, vreinterpretq_u32_s32(span[v]))))
             << (v * kLanes);
    }
    return all;
  }

 private:
  static constexpr int64_t kSteps = 31;  // a byte gains at most 8 a step

  static uint32x4_t splat(const uint8_t* from) {
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return vdupq_n_u32(word);
  }
  // x as bfloat16, ties to even; every nan becomes 0x7FC0.
  static uint16x4_t narrowed(Float x) {
    const uint32x4_t all = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(all, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(vaddq_u32(all, vdupq_n_u32(0x7FFF)), odd);
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), up, vdupq_n_u32(0x7FC00000)), 16);
  }
  template <int P, int V>
  static inline void flush(Int (&sums)[P][V], uint8x16_t (&bytes)[P][V]) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
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

extern const Kernels kNeon;
const Kernels kNeon = make_kernels<Neon>("neon");
}  // namespace binseg
