// Any processor: 128-bit vectors in the compiler's own notation, which it maps to what there is.
#include "kernels.h"

namespace binseg {
namespace {
template <class Isa>
inline typename Isa::Float tanh_of(typename Isa::Float x);

struct Portable {
  typedef int32_t Int __attribute__((vector_size(16)));
  typedef uint32_t Unsigned __attribute__((vector_size(16)));
  typedef float Float __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;
  static constexpr int kVectors = 2;
  static constexpr int kPixels = 2;

  template <int Pixels, int V, class Step>
  static inline void loop(Int (&sums)[Pixels][V], const uint32_t* w, const uint32_t* const* taps,
                          int64_t tap_count, int64_t run, int64_t first, int64_t step, Step one) {
    for (int p = 0; p < Pixels; ++p)
      for (int v = 0; v < V; ++v) sums[p][v] = set(0);
    for (int64_t t = 0; t < tap_count; ++t) {
      const uint32_t* x = taps[t] + first;
      for (int64_t i = 0; i < run; ++i, ++x, w += kBlock) {
#pragma GCC unroll 8
        for (int p = 0; p < Pixels; ++p) {
          const Int input = set(static_cast<int32_t>(x[p * step]));
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) sums[p][v] += one(input, load(w + v * kLanes));
        }
      }
    }
  }
  template <int Pixels, int V>
  static inline void count(Int (&sums)[Pixels][V], const uint32_t* w, const uint32_t* const* taps,
                           int64_t tap_count, int64_t run, int64_t first, int64_t step) {
    loop<Pixels, V>(sums, w, taps, tap_count, run, first, step, [](Int x, Int weight) {
      Unsigned n = (Unsigned)(x ^ weight);  // pairs, nibbles, bytes, then their sum
      n -= (n >> 1) & 0x55555555u;
      n = (n & 0x33333333u) + ((n >> 2) & 0x33333333u);
      n = (n + (n >> 4)) & 0x0F0F0F0Fu;
      n += n >> 8;
      n += n >> 16;
      return (Int)(n & 63u);
    });
  }
  template <int Pixels, int V>
  static inline void multiply(Int (&sums)[Pixels][V], const uint32_t* w,
                              const uint32_t* const* taps, int64_t tap_count, int64_t run,
                              int64_t first, int64_t step) {
    loop<Pixels, V>(sums, w, taps, tap_count, run, first, step, [](Int x, Int weight) {
      Int sum = set(0);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)  // the weight's byte moves up and comes down with its sign
        sum += ((x >> (8 * i)) & 255) * ((weight << (24 - 8 * i)) >> 24);
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
  static void store(int16_t* to, Int x) { store_some(to, x, kLanes); }
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
  static uint32_t at_most(Int a, Int b) { return bits((Int)((Unsigned)a <= (Unsigned)b)); }

  static void prefetch_read(const float* at) { __builtin_prefetch(at); }
  static void prefetch_write(const float* at) { __builtin_prefetch(at, 1); }
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
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    Unsigned x = {};
    for (int i = 0; i < count; ++i) x[i] = static_cast<uint32_t>(from[i]) << 16;
    return (Float)x;
  }
  static void stream(float* to, Float x) { storef(to, x); }
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
  static Float fma(Float a, Float b, Float c) { return a * b + c; }
  // With the sign that a single rounding gives: the product is exact in double, and so is every sum
  // near enough to 0 for float to round it to -0.
  static Float fused(Float a, Float b, Float c) {
    typedef double Double __attribute__((vector_size(32)));
    const Double product = __builtin_convertvector(a, Double) * __builtin_convertvector(b, Double);
    return __builtin_convertvector(product + __builtin_convertvector(c, Double), Float);
  }
  static Float prelu(Float x, Float slope) { return x >= 0.0f ? x : x * slope; }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float tanh(Float x) { return tanh_of<Portable>(x); }
  static uint32_t not_negative(Float x) { return bits((Int)(x >= 0.0f)); }
  static Int bit_if_not_negative(Float x, int bit) {
    return (Int)(x >= 0.0f) & set(static_cast<int32_t>(1u << bit));
  }

 private:
  static uint32_t bits(Int all_ones_or_zero) {
    uint32_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= (all_ones_or_zero[i] & 1u) << i;
    return mask;
  }
};

}  // namespace
}  // namespace binseg

#include "table.h"

namespace binseg {
extern const Kernels kPortable;
const Kernels kPortable = make_kernels<Portable>("portable");
}  // namespace binseg
