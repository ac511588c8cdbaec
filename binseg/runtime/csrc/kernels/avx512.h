// AVX-512 with VPOPCNTDQ and VNNI: one xor, one population count and one addition for 512 products.
#pragma once

#include <immintrin.h>

#include "table.h"

namespace binseg {
namespace {

struct Avx512 {
  using Int = __m512i;
  using Float = __m512;
  static constexpr Arrangement kArrangement = Arrangement::kWords;
  static constexpr int kLanes = 16;
  static constexpr int kBitVectors = 4, kByteVectors = 4;
  static constexpr int kPoolVectors = 2, kPoolPixels = 10;
  static constexpr int kMergePixels = 5;
  template <int P>
  static constexpr int group() {
    return 4;
  }
  static constexpr int kBitWeight = 4, kByteWeight = 4;  // bytes of one channel in one word
  // 20 sums, 4 weights, 1 activation and temporaries fill the 32 registers
  template <bool Bytes, int V>
  static constexpr int pixels() {
    return V == 4 ? 5 : 10;
  }
  template <bool Bytes>
  using Rows = PlainRows;

  // Small pieces of assembly: left alone, compilers compute exclusive ors ahead of time, run out
  // of registers for the sums and spill them in the innermost loop.
  template <bool Bytes>
  static inline BINSEG_INLINE void step(Int& sum, Int x, Int w) {
    if constexpr (Bytes) {
      asm("vpdpbusd %[w], %[x], %[s]" : [s] "+v"(sum) : [x] "v"(x), [w] "v"(w));
    } else {
      Int differ;
      asm("vpxord %[w], %[x], %[d]\n\tvpopcntd %[d], %[d]\n\tvpaddd %[d], %[s], %[s]"
          : [s] "+v"(sum), [d] "=&v"(differ)
          : [x] "v"(x), [w] "v"(w));
    }
  }
  template <bool Bytes, int P, int V>
  static inline BINSEG_INLINE void loop(Int (&sums)[P][V], Int start, const ConvArgs& a,
                                        const char* w, const uint8_t* const* taps, int64_t at) {
    Int s[P][V];
    unroll<P>([&](auto p)
                  BINSEG_INLINE { unroll<V>([&](auto v) BINSEG_INLINE { s[p][v] = start; }); });
    const int64_t pixel = a.pixel_step;
    for (int64_t t = 0; t < a.tap_count; ++t) {
      const uint8_t* x = taps[t] + at;
      for (int64_t i = 0; i < a.run; ++i, x += 4, w += kBlock * 4) {
        Int weights[V];
        unroll<V>([&](auto v) BINSEG_INLINE { weights[v] = _mm512_loadu_si512(w + v * 64); });
        unroll<P>([&](auto p) BINSEG_INLINE {
          int32_t word;
          __builtin_memcpy(&word, x + p * pixel, 4);
          const Int input = _mm512_set1_epi32(word);
          unroll<V>([&](auto v) BINSEG_INLINE { step<Bytes>(s[p][v], input, weights[v]); });
        });
      }
    }
    unroll<P>([&](auto p) BINSEG_INLINE {
      unroll<V>([&](auto v) BINSEG_INLINE { sums[p][v] = s[p][v]; });
    });
  }
  template <int P, int V>
  struct BitSums {
    Int sums[P][V];
    void count(const ConvArgs& a, const char* w, const uint8_t* const* taps, int64_t x) {
      loop<false, P, V>(sums, _mm512_set1_epi32(a.start), a, w, taps, x * a.pixel_step);
    }
    Int get(int p, int v) const { return sums[p][v]; }
  };
  template <int P, int V>
  static inline void multiply(Int (&sums)[P][V], const ConvArgs& a, const char* w,
                              const uint8_t* const* taps, int64_t x) {
    loop<true, P, V>(sums, _mm512_setzero_si512(), a, w, taps, x * a.pixel_step);
  }

  static Int set(int32_t x) { return _mm512_set1_epi32(x); }
  static Int load(const void* from) { return _mm512_loadu_si512(from); }
  static void store(int32_t* to, Int x) { _mm512_storeu_si512(to, x); }
  static void store_bytes(uint8_t* to, Int x, int count) {
    _mm_mask_storeu_epi8(to, some(count), _mm512_cvtepi32_epi8(x));
  }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Int maxi(Int a, Int b) { return _mm512_max_epi32(a, b); }
  static Int or_(Int a, Int b) { return _mm512_or_si512(a, b); }
  static Int shift_left(Int a, int by) { return _mm512_slli_epi32(a, by); }
  // Bits of the channels of V vectors with (a - low) mod 2^32 <= span.
  template <int V>
  static uint64_t inside(const Int (&a)[V], const Int (&low)[V], const Int (&span)[V]) {
    __mmask16 masks[V];
    unroll<V>([&](auto v) BINSEG_INLINE {
      masks[v] = _mm512_cmple_epu32_mask(_mm512_sub_epi32(a[v], low[v]), span[v]);
    });
    return joined<V>(masks);
  }

  static Float setf(float x) { return _mm512_set1_ps(x); }
  static Float loadf(const float* from) { return _mm512_loadu_ps(from); }
  static Float loadf_some(const float* from, int count) {
    return _mm512_maskz_loadu_ps(some(count), from);
  }
  static Float load_bfloat16(const uint16_t* from) {
    return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    return widened(_mm256_maskz_loadu_epi16(some(count), from));
  }
  static void storef(float* to, Float x) { _mm512_storeu_ps(to, x); }
  static void storef_some(float* to, Float x, int count) {
    _mm512_mask_storeu_ps(to, some(count), x);
  }
  template <int V>
  static void store_bfloat16(uint16_t* to, const Float (&x)[V]) {
    if constexpr (V % 2 == 0) {
      const Int high_halves =
          _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                           27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
#pragma GCC unroll 4
      for (int v = 0; v < V; v += 2)
        _mm512_storeu_si512(
            to + v * 16, _mm512_permutex2var_epi16(rounded(x[v]), high_halves, rounded(x[v + 1])));
    } else {
      unroll<V>([&](auto v) BINSEG_INLINE {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + v * 16), narrowed(x[v]));
      });
    }
  }
  static void store_bfloat16_some(uint16_t* to, Float x, int count) {
    _mm256_mask_storeu_epi16(to, some(count), narrowed(x));
  }
  static Float to_float(Int x) { return _mm512_cvtepi32_ps(x); }
  static Int to_int(Float x) { return _mm512_cvtps_epi32(x); }
  static Float round(Float x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Float addf(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float subf(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float prelu(Float x, Float slope) {
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGE_UQ);
    return _mm512_mask_mul_ps(x, below, x, slope);
  }
  // x > 0 ? a : b
  static Float select_positive(Float x, Float a, Float b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a);
  }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static uint32_t not_negative(Float x) {
    return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
  }
  template <int V>
  static uint64_t signs(const Float (&x)[V]) {
    __mmask16 masks[V];
    unroll<V>([&](auto v) BINSEG_INLINE {
      masks[v] = _mm512_cmp_ps_mask(x[v], _mm512_setzero_ps(), _CMP_GE_OQ);
    });
    return joined<V>(masks);
  }

 private:
  static __mmask16 some(int count) { return static_cast<__mmask16>((1u << count) - 1); }
  template <int V>
  static uint64_t joined(const __mmask16 (&masks)[V]) {
    if constexpr (V == 1) {
      return masks[0];
    } else if constexpr (V == 2) {
      return _cvtmask32_u32(_mm512_kunpackw(masks[1], masks[0]));
    } else {
      return _cvtmask64_u64(_mm512_kunpackd(_mm512_kunpackw(masks[3], masks[2]),
                                            _mm512_kunpackw(masks[1], masks[0])));
    }
  }
  static Float widened(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  // The high half of each lane is x as bfloat16, ties to even; every nan becomes 0x7FC0.
  static Int rounded(Float x) {
    const Int bits = _mm512_castps_si512(x);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const Int up = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
    const Int even = _mm512_mask_add_epi32(up, odd, bits, _mm512_set1_epi32(0x8000));
    return _mm512_mask_mov_epi32(even, nan, _mm512_set1_epi32(0x7FC00000));
  }
  static __m256i narrowed(Float x) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded(x), 16));
  }
};

}  // namespace
}  // namespace binseg
