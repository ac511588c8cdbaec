// AVX-512 with VPOPCNTDQ and VNNI: one xor, one population count and one addition for 512 products.
#include <immintrin.h>

#include "kernels.h"

namespace binseg {
namespace {
template <class Isa>
inline typename Isa::Float tanh_of(typename Isa::Float x);

struct Avx512 {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kLanes = 16;
  // 5 × 4 sums, 4 weights, 1 activation and temporaries fill the 32 registers
  static constexpr int kVectors = 4;
  static constexpr int kPixels = 5;

  // Named variables and small pieces of assembly: left alone, compilers compute exclusive ors ahead
  // of time, run out of registers for the sums and spill them in the innermost loop.
  template <int Pixels, int V, bool Bytes>
  static inline void loop(Int (&sums)[Pixels][V], const uint32_t* w, const uint32_t* const* taps,
                          int64_t tap_count, int64_t run, int64_t first, int64_t step) {
    const Int zero = _mm512_setzero_si512();
#define BINSEG_DECLARE(p) \
  [[maybe_unused]] Int s##p##0 = zero, s##p##1 = zero, s##p##2 = zero, s##p##3 = zero
    BINSEG_DECLARE(0);
    BINSEG_DECLARE(1);
    BINSEG_DECLARE(2);
    BINSEG_DECLARE(3);
    BINSEG_DECLARE(4);
    for (int64_t t = 0; t < tap_count; ++t) {
      const uint32_t* x = taps[t] + first;
      for (int64_t i = 0; i < run; ++i, ++x, w += kBlock) {
        const Int w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + 16);
        [[maybe_unused]] Int w2, w3;
        if constexpr (V > 2) {
          w2 = _mm512_loadu_si512(w + 32);
          w3 = _mm512_loadu_si512(w + 48);
        }
#define BINSEG_STEP(sum, weight)                                                        \
  if constexpr (Bytes) {                                                                \
    asm("vpdpbusd %[w], %[x], %[s]" : [s] "+v"(sum) : [x] "v"(input), [w] "v"(weight)); \
  } else {                                                                              \
    Int differ;                                                                         \
    asm("vpxord %[w], %[x], %[d]\n\tvpopcntd %[d], %[d]\n\tvpaddd %[d], %[s], %[s]"     \
        : [s] "+v"(sum), [d] "=&v"(differ)                                              \
        : [x] "v"(input), [w] "v"(weight));                                             \
  }
#define BINSEG_PIXEL(p)                                                 \
  if constexpr (Pixels > p) {                                           \
    const Int input = _mm512_set1_epi32(static_cast<int>(x[p * step])); \
    BINSEG_STEP(s##p##0, w0)                                            \
    BINSEG_STEP(s##p##1, w1)                                            \
    if constexpr (V > 2) {                                              \
      BINSEG_STEP(s##p##2, w2)                                          \
      BINSEG_STEP(s##p##3, w3)                                          \
    }                                                                   \
  }
        BINSEG_PIXEL(0)
        BINSEG_PIXEL(1)
        BINSEG_PIXEL(2)
        BINSEG_PIXEL(3)
        BINSEG_PIXEL(4)
      }
    }
#define BINSEG_RESULT(p)      \
  if constexpr (Pixels > p) { \
    sums[p][0] = s##p##0;     \
    sums[p][1] = s##p##1;     \
    if constexpr (V > 2) {    \
      sums[p][2] = s##p##2;   \
      sums[p][3] = s##p##3;   \
    }                         \
  }
    BINSEG_RESULT(0)
    BINSEG_RESULT(1)
    BINSEG_RESULT(2)
    BINSEG_RESULT(3)
    BINSEG_RESULT(4)
#undef BINSEG_DECLARE
#undef BINSEG_STEP
#undef BINSEG_PIXEL
#undef BINSEG_RESULT
  }
  template <int Pixels, int V>
  static inline void count(Int (&sums)[Pixels][V], const uint32_t* w, const uint32_t* const* taps,
                           int64_t tap_count, int64_t run, int64_t first, int64_t step) {
    loop<Pixels, V, false>(sums, w, taps, tap_count, run, first, step);
  }
  template <int Pixels, int V>
  static inline void multiply(Int (&sums)[Pixels][V], const uint32_t* w,
                              const uint32_t* const* taps, int64_t tap_count, int64_t run,
                              int64_t first, int64_t step) {
    loop<Pixels, V, true>(sums, w, taps, tap_count, run, first, step);
  }

  static Int set(int32_t x) { return _mm512_set1_epi32(x); }
  static Int load(const void* from) { return _mm512_loadu_si512(from); }
  static void store(int32_t* to, Int x) { _mm512_storeu_si512(to, x); }
  static void store(int16_t* to, Int x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(x));
  }
  static void store_some(int32_t* to, Int x, int count) {
    _mm512_mask_storeu_epi32(to, some(count), x);
  }
  static void store_some(int16_t* to, Int x, int count) {
    _mm256_mask_storeu_epi16(to, some(count), _mm512_cvtepi32_epi16(x));
  }
  static void store_bytes(uint8_t* to, Int x, int count) {
    _mm_mask_storeu_epi8(to, some(count), _mm512_cvtepi32_epi8(x));
  }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Int maxi(Int a, Int b) { return _mm512_max_epi32(a, b); }
  static Int or_(Int a, Int b) { return _mm512_or_si512(a, b); }
  static Int shift_left(Int a, int by) { return _mm512_slli_epi32(a, by); }
  static uint32_t at_most(Int a, Int b) { return _mm512_cmple_epu32_mask(a, b); }

  // in assembly: gcc takes a function that does nothing but prefetch for one without effect
  static void prefetch_read(const float* at) { asm volatile("prefetcht0 %0" ::"m"(*at)); }
  static void prefetch_write(const float* at) { asm volatile("prefetchw %0" ::"m"(*at)); }
  static Float setf(float x) { return _mm512_set1_ps(x); }
  static Float loadf(const float* from) { return _mm512_loadu_ps(from); }
  static Float loadf_some(const float* from, int count) {
    return _mm512_maskz_loadu_ps(some(count), from);
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some(count), from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static void stream(float* to, Float x) { _mm512_stream_ps(to, x); }
  static void storef(float* to, Float x) { _mm512_storeu_ps(to, x); }
  static void storef_some(float* to, Float x, int count) {
    _mm512_mask_storeu_ps(to, some(count), x);
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
  static Float fused(Float a, Float b, Float c) { return fma(a, b, c); }
  static Float prelu(Float x, Float slope) {
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGE_UQ);
    return _mm512_mask_mul_ps(x, below, x, slope);
  }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float tanh(Float x) { return tanh_of<Avx512>(x); }
  static uint32_t not_negative(Float x) {
    return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
  }
  static Int bit_if_not_negative(Float x, int bit) {
    return _mm512_maskz_set1_epi32(static_cast<__mmask16>(not_negative(x)), 1u << bit);
  }

 private:
  static __mmask16 some(int count) { return static_cast<__mmask16>((1u << count) - 1); }
};

}  // namespace
}  // namespace binseg

#include "table.h"

namespace binseg {
extern const Kernels kAvx512;
const Kernels kAvx512 = make_kernels<Avx512>("avx512");
}  // namespace binseg
