// AVX2 and FMA. Bits: four activations of a pixel choose one of 16 tables of 16 bytes, in which
// 64 channels look up with their four weights how many differ (pshufb): 256 products in two
// shuffles and two additions. Counts are kept in bytes, which are widened before they can overflow.
#include <immintrin.h>

#include "table.h"
#include "unpacked_rows.h"

namespace binseg {
namespace {

struct Avx2 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr Arrangement kArrangement = Arrangement::kUnpacked;
  static constexpr int kLanes = 8;
  static constexpr int kBitVectors = 8, kByteVectors = 2;
  static constexpr int kPoolVectors = 2, kPoolPixels = 4;
  static constexpr int kMergePixels = 2;
  // 8 of the 16 registers
  template <int P>
  static constexpr int group() {
    return P > 4 ? 1 : 2;
  }
  static constexpr int kBitWeight = 1, kByteWeight = 4;  // bytes of one channel in one half word
  // bits: 8 vectors of byte-wide counts, 2 weights, a table; bytes: 8 sums, 4 weights
  template <bool Bytes, int V>
  static constexpr int pixels() {
    return Bytes || V == 8 ? 4 : 8;
  }
  template <bool Bytes>
  using Rows = UnpackedRows<Avx2, Bytes>;
  template <bool Bytes>
  static void unpack16(const uint8_t* from, uint8_t* to) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    __m128i first = bytes, second = _mm_setzero_si128();
    if constexpr (!Bytes) {
      const __m128i high = _mm_set1_epi8(static_cast<char>(0xF0));
      first = _mm_and_si128(_mm_slli_epi16(bytes, 4), high);
      second = _mm_and_si128(bytes, high);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi8(first, second));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), _mm_unpackhi_epi8(first, second));
  }

  // Small pieces of assembly: left alone, compilers add up many products before they add them to a
  // sum, run out of registers and spill them in the innermost loop.
  static inline BINSEG_INLINE void look_up(Int& bytes, Int table, Int weights) {
    Int found;
    asm("vpshufb %[w], %[t], %[f]\n\tvpaddb %[f], %[b], %[b]"
        : [b] "+x"(bytes), [f] "=&x"(found)
        : [t] "x"(table), [w] "x"(weights));
  }
  static inline BINSEG_INLINE void multiply_pairs(Int& sum, Int x, Int weights) {
    Int products;
    asm("vpmaddwd %[w], %[x], %[p]\n\tvpaddd %[p], %[s], %[s]"
        : [s] "+x"(sum), [p] "=&x"(products)
        : [x] "x"(x), [w] "x"(weights));
  }

  template <int P, int V>
  struct BitSums {
    static constexpr int kHalves = V / 4;  // vectors of 32 byte-wide counts
    alignas(32) int16_t narrow[P][V * 8];
    alignas(32) int32_t wide[P][V * 8];
    bool is_wide;

    void count(const ConvArgs& a, const char* w, const uint8_t* const* taps, int64_t x) {
      is_wide = a.wide;
      if (is_wide)
        for (int p = 0; p < P; ++p)
          for (int i = 0; i < V * 8; ++i) wide[p][i] = a.start;
      const Int start = _mm256_set1_epi16(static_cast<int16_t>(is_wide ? 0 : a.start));
      Int low[P][kHalves], high[P][kHalves], bytes[P][kHalves];
      clear(bytes, _mm256_setzero_si256());
      clear(low, start);
      clear(high, start);
      const int64_t pixel = unpacked_step(a);
      int64_t until_flush = kWords;
      int32_t until_wide = kNarrowWords;
      for (int64_t t = 0; t < a.tap_count; ++t) {
        const uint8_t* in = taps[t] + x * pixel;
        int64_t left = a.run;
        while (left > 0) {
          const int64_t words = left < until_flush ? left : until_flush;
          for (int64_t i = 0; i < words; ++i) {
            unroll<8>([&](auto g) BINSEG_INLINE {
              Int weights[kHalves];
              unroll<kHalves>([&](auto h)
                                  BINSEG_INLINE { weights[h] = load(w + g * kBlock + h * 32); });
              unroll<P>([&](auto p) BINSEG_INLINE {
                const auto* table =
                    reinterpret_cast<const __m128i*>(kTables.differ + in[p * pixel + g]);
                const Int differ = _mm256_broadcastsi128_si256(_mm_load_si128(table));
                unroll<kHalves>([&](auto h)
                                    BINSEG_INLINE { look_up(bytes[p][h], differ, weights[h]); });
              });
            });
            w += 8 * kBlock;
            in += 8;
          }
          left -= words;
          until_flush -= words;
          if (until_flush == 0) {
            flush(low, high, bytes);
            until_flush = kWords;
            if (is_wide && --until_wide == 0) {
              widen(low, high);
              until_wide = kNarrowWords;
            }
          }
        }
      }
      flush(low, high, bytes);
      if (is_wide) return widen(low, high);
      for (int p = 0; p < P; ++p) {
        for (int h = 0; h < kHalves; ++h) {
          store16(narrow[p] + h * 32, low[p][h]);
          store16(narrow[p] + h * 32 + 16, high[p][h]);
        }
      }
    }
    Int get(int p, int v) const {
      if (is_wide) return load(wide[p] + v * 8);
      return _mm256_cvtepi16_epi32(
          _mm_load_si128(reinterpret_cast<const __m128i*>(narrow[p] + v * 8)));
    }

   private:
    static constexpr int64_t kWords = 7;          // a byte gains at most 32 a word
    static constexpr int32_t kNarrowWords = 100;  // flushes, each of at most 224

    static void store16(int16_t* to, Int x) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), x);
    }
    static void clear(Int (&all)[P][kHalves], Int value) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) all[p][h] = value;
      }
    }
    // The order of channels in bytes is such that they come out in order.
    static void flush(Int (&low)[P][kHalves], Int (&high)[P][kHalves], Int (&bytes)[P][kHalves]) {
      const Int zero = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; ++h) {
          low[p][h] = _mm256_add_epi16(low[p][h], _mm256_unpacklo_epi8(bytes[p][h], zero));
          high[p][h] = _mm256_add_epi16(high[p][h], _mm256_unpackhi_epi8(bytes[p][h], zero));
          bytes[p][h] = zero;
        }
      }
    }
    void widen(Int (&low)[P][kHalves], Int (&high)[P][kHalves]) {
      for (int p = 0; p < P; ++p) {
        for (int h = 0; h < kHalves; ++h) {
          alignas(32) int16_t lanes[32];
          store16(lanes, low[p][h]);
          store16(lanes + 16, high[p][h]);
          for (int i = 0; i < 32; ++i) wide[p][h * 32 + i] += lanes[i];
        }
      }
      clear(low, _mm256_setzero_si256());
      clear(high, _mm256_setzero_si256());
    }
  };

  // maddubs would saturate; bytes and weights are widened to 16 bits, the first two of each four
  // channels and the last two apart.
  template <int P, int V>
  static inline void multiply(Int (&sums)[P][V], const ConvArgs& a, const char* w,
                              const uint8_t* const* taps, int64_t x) {
    Int s[P][V];
    unroll<P>([&](auto p) BINSEG_INLINE {
      unroll<V>([&](auto v) BINSEG_INLINE { s[p][v] = _mm256_setzero_si256(); });
    });
    const int64_t pixel = unpacked_step(a);
    for (int64_t t = 0; t < a.tap_count; ++t) {
      const uint8_t* in = taps[t] + x * pixel;
      for (int64_t i = 0; i < a.run; ++i, in += 8, w += kBlock * 8) {
        Int first[V], last[V];
        unroll<V>([&](auto v) BINSEG_INLINE {
          first[v] = load(w + v * 32);
          last[v] = load(w + kBlock * 4 + v * 32);
        });
        unroll<P>([&](auto p) BINSEG_INLINE {
          const Int one = splat(in + p * pixel), two = splat(in + p * pixel + 4);
          unroll<V>([&](auto v) BINSEG_INLINE { multiply_pairs(s[p][v], one, first[v]); });
          unroll<V>([&](auto v) BINSEG_INLINE { multiply_pairs(s[p][v], two, last[v]); });
        });
      }
    }
    unroll<P>([&](auto p) BINSEG_INLINE {
      unroll<V>([&](auto v) BINSEG_INLINE { sums[p][v] = s[p][v]; });
    });
  }

  static Int splat(const uint8_t* from) {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(from)));
  }
  static Int set(int32_t x) { return _mm256_set1_epi32(x); }
  static Int load(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }
  static void store(int32_t* to, Int x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x); }
  static void store_bytes(uint8_t* to, Int x, int count) {
    // all lanes are 0 to 255
    const __m128i halves =
        _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i bytes = _mm_packus_epi16(halves, halves);
    if (count == kLanes) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
    } else {
      const int64_t all = _mm_cvtsi128_si64(bytes);
      __builtin_memcpy(to, &all, static_cast<size_t>(count));
    }
  }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Int maxi(Int a, Int b) { return _mm256_max_epi32(a, b); }
  static Int or_(Int a, Int b) { return _mm256_or_si256(a, b); }
  static Int shift_left(Int a, int by) { return _mm256_slli_epi32(a, by); }
  static Float setf(float x) { return _mm256_set1_ps(x); }
  static Float loadf(const float* from) { return _mm256_loadu_ps(from); }
  static Float loadf_some(const float* from, int count) {
    return _mm256_maskload_ps(from, some(count));
  }
  static Float load_bfloat16(const uint16_t* from) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    uint16_t lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = from[i];
    return load_bfloat16(lanes);
  }
  template <int V>
  static void store_bfloat16(uint16_t* to, const Float (&x)[V]) {
    unroll<V>([&](auto v) BINSEG_INLINE {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + v * kLanes), narrowed(x[v]));
    });
  }
  static void store_bfloat16_some(uint16_t* to, Float x, int count) {
    uint16_t lanes[kLanes];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), narrowed(x));
    for (int i = 0; i < count; ++i) to[i] = lanes[i];
  }
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
  static Float prelu(Float x, Float slope) {
    const Float positive = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(x, slope), x, positive);
  }
  // x > 0 ? a : b
  static Float select_positive(Float x, Float a, Float b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
  }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static uint32_t not_negative(Float x) {
    return static_cast<uint32_t>(
        _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ)));
  }
  template <int V>
  static uint64_t signs(const Float (&x)[V]) {
    uint64_t bits = 0;
    unroll<V>([&](auto v) BINSEG_INLINE {
      bits |= static_cast<uint64_t>(not_negative(x[v])) << (v * kLanes);
    });
    return bits;
  }
  // Bits of the channels of V vectors with (a - low) mod 2^32 <= span.
  template <int V>
  static uint64_t inside(const Int (&a)[V], const Int (&low)[V], const Int (&span)[V]) {
    uint64_t bits = 0;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Int above = _mm256_sub_epi32(a[v], low[v]);
      const Int yes = _mm256_cmpeq_epi32(_mm256_min_epu32(above, span[v]), above);
      bits |= static_cast<uint64_t>(sign_bits(yes)) << (v * kLanes);
    }
    return bits;
  }

 private:
  // x as bfloat16, ties to even; every nan becomes 0x7FC0.
  static __m128i narrowed(Float x) {
    const Int bits = _mm256_castps_si256(x);
    const Int odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const Int up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const Int nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const Int all = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), _mm256_set1_epi32(0x7FC0), nan);
    const Int packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(all, all), 0x08);
    return _mm256_castsi256_si128(packed);
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

extern const Kernels kAvx2;
const Kernels kAvx2 = make_kernels<Avx2>("avx2");
}  // namespace binseg
