// AVX2 and FMA: bits are counted by nibble in a table of 16 bytes (pshufb), in bytes that are
// widened before they can overflow.
#include <immintrin.h>

#include "kernels.h"

namespace binseg {
namespace {
template <class Isa>
inline typename Isa::Float tanh_of(typename Isa::Float x);

struct Avx2 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr int kLanes = 8;
  // 2 × 4 sums, the table, a mask, an activation and temporaries fill the 16 registers
  static constexpr int kVectors = 4;
  static constexpr int kPixels = 2;

  template <int Pixels, int V>
  static inline void count(Int (&sums)[Pixels][V], const uint32_t* w, const uint32_t* const* taps,
                           int64_t tap_count, int64_t run, int64_t first, int64_t step) {
    const Int table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                       0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const Int nibble = _mm256_set1_epi8(15);
    Int bytes[Pixels][V];
    clear(sums);
    clear(bytes);
    int64_t until_flush = kSteps;
    for (int64_t t = 0; t < tap_count; ++t) {
      const uint32_t* x = taps[t] + first;
      int64_t left = run;
      while (left > 0) {
        const int64_t steps = left < until_flush ? left : until_flush;
        for (int64_t i = 0; i < steps; ++i, ++x, w += kBlock) {
#pragma GCC unroll 8
          for (int p = 0; p < Pixels; ++p) {
            const Int input = _mm256_set1_epi32(static_cast<int>(x[p * step]));
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) {
              const Int differ = _mm256_xor_si256(input, load(w + v * kLanes));
              const Int low = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, nibble));
              const Int high = _mm256_shuffle_epi8(
                  table, _mm256_and_si256(_mm256_srli_epi16(differ, 4), nibble));
              bytes[p][v] = _mm256_add_epi8(bytes[p][v], _mm256_add_epi8(low, high));
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
    // maddubs would saturate; bytes are widened to 16 bits, even and odd ones apart
    const Int even = _mm256_set1_epi32(0x00FF00FF);
    clear(sums);
    for (int64_t t = 0; t < tap_count; ++t) {
      const uint32_t* x = taps[t] + first;
      for (int64_t i = 0; i < run; ++i, ++x, w += kBlock) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          const Int weight = load(w + v * kLanes);
          const Int weight_odd = _mm256_srai_epi16(weight, 8);
          const Int weight_even = _mm256_srai_epi16(_mm256_slli_epi16(weight, 8), 8);
#pragma GCC unroll 8
          for (int p = 0; p < Pixels; ++p) {
            const Int input = _mm256_set1_epi32(static_cast<int>(x[p * step]));
            const Int first_two = _mm256_madd_epi16(_mm256_and_si256(input, even), weight_even);
            const Int last_two = _mm256_madd_epi16(_mm256_srli_epi16(input, 8), weight_odd);
            sums[p][v] = _mm256_add_epi32(sums[p][v], _mm256_add_epi32(first_two, last_two));
          }
        }
      }
    }
  }

  static Int set(int32_t x) { return _mm256_set1_epi32(x); }
  static Int load(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }
  static void store(int32_t* to, Int x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }
  static void store(int16_t* to, Int x) {
    // the low halves of the lanes; sums are known to fit
    const Int low = _mm256_and_si256(x, _mm256_set1_epi32(0xFFFF));
    const Int packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  }
  template <class Element>
  static void store_some(Element* to, Int x, int count) {
    int32_t lanes[kLanes];
    store(lanes, x);
    for (int i = 0; i < count; ++i) to[i] = static_cast<Element>(lanes[i]);
  }
  static void store_bytes(uint8_t* to, Int x, int count) { store_some(to, x, count); }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Int maxi(Int a, Int b) { return _mm256_max_epi32(a, b); }
  static Int or_(Int a, Int b) { return _mm256_or_si256(a, b); }
  static Int shift_left(Int a, int by) { return _mm256_slli_epi32(a, by); }
  static uint32_t at_most(Int a, Int b) {
    return sign_bits(_mm256_cmpeq_epi32(_mm256_min_epu32(a, b), a));
  }

  // in assembly: gcc takes a function that does nothing but prefetch for one without effect
  static void prefetch_read(const float* at) { asm volatile("prefetcht0 %0" ::"m"(*at)); }
  static void prefetch_write(const float* at) { asm volatile("prefetchw %0" ::"m"(*at)); }
  static Float setf(float x) { return _mm256_set1_ps(x); }
  static Float loadf(const float* from) { return _mm256_loadu_ps(from); }
  static Float loadf_some(const float* from, int count) {
    return _mm256_maskload_ps(from, some(count));
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    uint32_t lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = static_cast<uint32_t>(from[i]) << 16;
    return _mm256_castsi256_ps(load(lanes));
  }
  static void stream(float* to, Float x) { _mm256_stream_ps(to, x); }
  static void storef(float* to, Float x) { _mm256_storeu_ps(to, x); }
  static void storef_some(float* to, Float x, int count) {
    _mm256_maskstore_ps(to, some(count), x);
  }
  static Float to_float(Int x) { return _mm256_cvtepi32_ps(x); }
  static Int to_int(Float x) { return _mm256_cvtps_epi32(x); }
  static Float round(Float x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Float addf(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float subf(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float fused(Float a, Float b, Float c) { return fma(a, b, c); }
  static Float prelu(Float x, Float slope) {
    const Float positive = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(x, slope), x, positive);
  }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float tanh(Float x) { return tanh_of<Avx2>(x); }
  static uint32_t not_negative(Float x) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ)));
  }
  static Int bit_if_not_negative(Float x, int bit) {
    const Float yes = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_and_si256(_mm256_castps_si256(yes), set(static_cast<int>(1u << bit)));
  }

 private:
  static constexpr int64_t kSteps = 31;  // a byte gains at most 8 a step

  template <int Pixels, int V>
  static inline void clear(Int (&all)[Pixels][V]) {
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) all[p][v] = _mm256_setzero_si256();
    }
  }
  template <int Pixels, int V>
  static inline void flush(Int (&sums)[Pixels][V], Int (&bytes)[Pixels][V]) {
    const Int ones8 = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        const Int pairs = _mm256_maddubs_epi16(bytes[p][v], ones8);
        sums[p][v] = _mm256_add_epi32(sums[p][v], _mm256_madd_epi16(pairs, ones16));
        bytes[p][v] = _mm256_setzero_si256();
      }
    }
  }
  static uint32_t sign_bits(Int x) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(x)));
  }
  static Int some(int count) {
    const Int lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
  }
};

}  // namespace
}  // namespace binseg

#include "table.h"

namespace binseg {
extern const Kernels kAvx2;
const Kernels kAvx2 = make_kernels<Avx2>("avx2");
}  // namespace binseg
