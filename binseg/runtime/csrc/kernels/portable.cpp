// Any processor: 128-bit vectors in the compiler's own notation, which it maps to what there is.
#include "table.h"

namespace binseg {
namespace {

struct Portable {
  typedef int32_t Int __attribute__((vector_size(16)));
  typedef uint32_t Unsigned __attribute__((vector_size(16)));
  typedef float Float __attribute__((vector_size(16)));
  static constexpr Arrangement kArrangement = Arrangement::kWords;
  static constexpr int kLanes = 4;
  static constexpr int kBitVectors = 2, kByteVectors = 2;
  static constexpr int kPoolVectors = 2, kPoolPixels = 2;
  static constexpr int kMergePixels = 2;
  template <int P>
  static constexpr int group() {
    return 2;
  }
  static constexpr int kBitWeight = 4, kByteWeight = 4;  // bytes of one channel in one word
  template <bool Bytes, int V>
  static constexpr int pixels() {
    return 2;
  }
  template <bool Bytes>
  using Rows = PlainRows;

  template <int P, int V, class Step>
  static inline void loop(Int (&sums)[P][V], Int start, const ConvArgs& a, const char* w,
                          const uint8_t* const* taps, int64_t at, Step one) {
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < V; ++v) sums[p][v] = start;
    for (int64_t t = 0; t < a.tap_count; ++t) {
      const uint8_t* x = taps[t] + at;
      for (int64_t i = 0; i < a.run; ++i, x += 4, w += kBlock * 4) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          int32_t word;
          __builtin_memcpy(&word, x + p * a.pixel_step, 4);
          const Int input = set(word);
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) sums[p][v] += one(input, load(w + v * kLanes * 4));
        }
      }
    }
  }
  template <int P, int V>
  struct BitSums {
    Int sums[P][V];
    void count(const ConvArgs& a, const char* w, const uint8_t* const* taps, int64_t x) {
      loop<P, V>(sums, set(a.start), a, w, taps, x * a.pixel_step, [](Int in, Int weight) {
        Unsigned n = (Unsigned)(in ^ weight);  // pairs, nibbles, bytes, then their sum
        n -= (n >> 1) & 0x55555555u;
        n = (n & 0x33333333u) + ((n >> 2) & 0x33333333u);
        n = (n + (n >> 4)) & 0x0F0F0F0Fu;
        n += n >> 8;
        n += n >> 16;
        return (Int)(n & 63u);
      });
    }
    Int get(int p, int v) const { return sums[p][v]; }
  };
  template <int P, int V>
  static inline void multiply(Int (&sums)[P][V], const ConvArgs& a, const char* w,
                              const uint8_t* const* taps, int64_t x) {
    loop<P, V>(sums, set(0), a, w, taps, x * a.pixel_step, [](Int in, Int weight) {
      Int sum = set(0);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)  // the weight's byte moves up and comes down with its sign
        sum += ((in >> (8 * i)) & 255) * ((weight << (24 - 8 * i)) >> 24);
      return sum;
    });
  }

  static Int set(int32_t x) { return Int{x, x, x, x}; }
  static Int load(const void* from) {
    Int x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
  }
  static void store(int32_t* to, Int x) { __builtin_memcpy(to, &x, sizeof x); }
  template <class Element>
  static void store_some(Element* to, Int x, int count) {
    for (int i = 0; i < count; ++i) to[i] = static_cast<Element>(x[i]);
  }
  static void store_bytes(uint8_t* to, Int x, int count) { store_some(to, x, count); }
  static Int add(Int a, Int b) { return a + b; }
  static Int sub(Int a, Int b) { return (Int)((Unsigned)a - (Unsigned)b); }  // may wrap around
  static Int maxi(Int a, Int b) { return a > b ? a : b; }
  static Int or_(Int a, Int b) { return a | b; }
  static Int shift_left(Int a, int by) { return a << by; }
  static Float setf(float x) { return Float{x, x, x, x}; }
  static Float loadf(const float* from) {
    Float x;
    __builtin_memcpy(&x, from, sizeof x);
    return x;
  }
  static Float loadf_some(const float* from, int count) {
    Float x = {};
    for (int i = 0; i < count; ++i) x[i] = from[i];
    return x;
  }
  static Float load_bfloat16(const uint16_t* from) { return load_bfloat16_some(from, kLanes); }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    Unsigned x = {};
    for (int i = 0; i < count; ++i) x[i] = static_cast<uint32_t>(from[i]) << 16;
    return (Float)x;
  }
  template <int V>
  static void store_bfloat16(uint16_t* to, const Float (&x)[V]) {
    for (int v = 0; v < V; ++v) store_bfloat16_some(to + v * kLanes, x[v], kLanes);
  }
  static void store_bfloat16_some(uint16_t* to, Float x, int count) {
    for (int i = 0; i < count; ++i) to[i] = to_bfloat16(x[i]);
  }
  static void storef(float* to, Float x) { __builtin_memcpy(to, &x, sizeof x); }
  static void storef_some(float* to, Float x, int count) {
    for (int i = 0; i < count; ++i) to[i] = x[i];
  }
  static Float to_float(Int x) { return __builtin_convertvector(x, Float); }
  static Int to_int(Float x) { return __builtin_convertvector(x, Int); }
  static Float round(Float x) {
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_rintf(x[i]);
    return x;
  }
  static Float addf(Float a, Float b) { return a + b; }
  static Float subf(Float a, Float b) { return a - b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  // Rounded once: the product is exact in double; the sum is rounded to odd there, that is, where
  // it is not exact its last bit is set, and so never lies in the middle between two floats.
  static Float fma(Float a, Float b, Float c) {
    typedef double Double __attribute__((vector_size(32)));
    typedef int64_t Long __attribute__((vector_size(32)));
    const Double product = __builtin_convertvector(a, Double) * __builtin_convertvector(b, Double);
    const Double plus = __builtin_convertvector(c, Double);
    const Double sum = product + plus;
    const Double back = sum - product;
    const Double error =
        (product - (sum - back)) + (plus - back);  // exact; nan where sum is not finite
    const Long bits = (Long)sum;
    // truncated towards zero first, where the rounding went away from it
    const Long inexact = (error > 0.0) | (error < 0.0);
    const Long away = inexact & ((error > 0.0) ^ (sum > 0.0));
    const Long odd = (bits + away) | (inexact & 1);
    return __builtin_convertvector((Double)odd, Float);
  }
  static Float prelu(Float x, Float slope) { return x >= 0.0f ? x : x * slope; }
  // x > 0 ? a : b
  static Float select_positive(Float x, Float a, Float b) { return x > 0.0f ? a : b; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static uint32_t not_negative(Float x) { return bits((Int)(x >= 0.0f)); }
  template <int V>
  static uint64_t signs(const Float (&x)[V]) {
    uint64_t all = 0;
    for (int v = 0; v < V; ++v) all |= static_cast<uint64_t>(not_negative(x[v])) << (v * kLanes);
    return all;
  }
  // Bits of the channels of V vectors with (a - low) mod 2^32 <= span.
  template <int V>
  static uint64_t inside(const Int (&a)[V], const Int (&low)[V], const Int (&span)[V]) {
    uint64_t all = 0;
    for (int v = 0; v < V; ++v) {
      const Unsigned above = (Unsigned)a[v] - (Unsigned)low[v];
      all |= static_cast<uint64_t>(bits((Int)(above <= (Unsigned)span[v]))) << (v * kLanes);
    }
    return all;
  }

 private:
  static uint32_t bits(Int all_ones_or_zero) {
    uint32_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= (all_ones_or_zero[i] & 1u) << i;
    return mask;
  }
};

}  // namespace

extern const Kernels kPortable;
const Kernels kPortable = make_kernels<Portable>("portable");
}  // namespace binseg
