// Vectors of 128 bits in WebAssembly. Fused multiply-add is emulated exactly, or with relaxed SIMD
// (-mrelaxed-simd) left to the machine: a page must make sure that it is fused there.
#pragma once

#include <wasm_simd128.h>

#include "lanes.h"

namespace binseg {
namespace {

struct WasmLanes {
  using Int = v128_t;
  using Float = v128_t;
  static constexpr int kLanes = 4;
  // 16 registers, as x86 has
  static constexpr int kPoolVectors = 2, kMergePixels = 2;
  template <int P>
  static constexpr int group() {
    return 2;
  }

  static Int set(int32_t x) { return wasm_i32x4_splat(x); }
  static Int load(const void* from) { return wasm_v128_load(from); }
  static void store(int32_t* to, Int x) { wasm_v128_store(to, x); }
  static void store_bytes(uint8_t* to, Int x, int count) {
    const v128_t halves = wasm_u16x8_narrow_i32x4(x, x);
    const v128_t bytes = wasm_u8x16_narrow_i16x8(halves, halves);
    const int32_t all = wasm_i32x4_extract_lane(bytes, 0);
    __builtin_memcpy(to, &all, static_cast<size_t>(count));
  }
  static Int add(Int a, Int b) { return wasm_i32x4_add(a, b); }
  static Int sub(Int a, Int b) { return wasm_i32x4_sub(a, b); }
  static Int maxi(Int a, Int b) { return wasm_i32x4_max(a, b); }
  static Int or_(Int a, Int b) { return wasm_v128_or(a, b); }
  static Int shift_left(Int a, int by) { return wasm_i32x4_shl(a, static_cast<uint32_t>(by)); }

  static Float setf(float x) { return wasm_f32x4_splat(x); }
  static Float loadf(const float* from) { return wasm_v128_load(from); }
  static Float loadf_some(const float* from, int count) {
    float lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = from[i];
    return wasm_v128_load(lanes);
  }
  static Float load_bfloat16(const uint16_t* from) {
    return wasm_i32x4_shl(wasm_u32x4_load16x4(from), 16);
  }
  static Float load_bfloat16_some(const uint16_t* from, int count) {
    uint16_t lanes[kLanes] = {};
    for (int i = 0; i < count; ++i) lanes[i] = from[i];
    return load_bfloat16(lanes);
  }
  template <int V>
  static void store_bfloat16(uint16_t* to, const Float (&x)[V]) {
    unroll<V>([&](auto v)
                  BINSEG_INLINE { wasm_v128_store64_lane(to + v * kLanes, narrowed(x[v]), 0); });
  }
  static void store_bfloat16_some(uint16_t* to, Float x, int count) {
    const int64_t all = wasm_i64x2_extract_lane(narrowed(x), 0);
    __builtin_memcpy(to, &all, static_cast<size_t>(count) * 2);
  }
  static void storef(float* to, Float x) { wasm_v128_store(to, x); }
  static void storef_some(float* to, Float x, int count) {
    float lanes[kLanes];
    wasm_v128_store(lanes, x);
    for (int i = 0; i < count; ++i) to[i] = lanes[i];
  }
  static Float to_float(Int x) { return wasm_f32x4_convert_i32x4(x); }
  static Int to_int(Float x) { return wasm_i32x4_trunc_sat_f32x4(x); }
  static Float round(Float x) { return wasm_f32x4_nearest(x); }
  static Float addf(Float a, Float b) { return wasm_f32x4_add(a, b); }
  static Float subf(Float a, Float b) { return wasm_f32x4_sub(a, b); }
  static Float mul(Float a, Float b) { return wasm_f32x4_mul(a, b); }
  static Float div(Float a, Float b) { return wasm_f32x4_div(a, b); }
  static Float fma(Float a, Float b, Float c) {
#ifdef __wasm_relaxed_simd__
    return wasm_f32x4_relaxed_madd(a, b, c);
#else
    // The product is exact in double. Where the sum is not, it is rounded twice, which can differ
    // from once only if the first rounding ends in the middle between two floats.
    const v128_t low = wasm_f64x2_mul(wide(a), wide(b)), high = wasm_f64x2_mul(upper(a), upper(b));
    const v128_t sum_low = wasm_f64x2_add(low, wide(c)), sum_high = wasm_f64x2_add(high, upper(c));
    const v128_t result = demoted(sum_low, sum_high);
    if (__builtin_expect(doubtful(sum_low, sum_high, result), 0))
      return fma_rounded_once(low, high, c);
    return result;
#endif
  }
  static Float prelu(Float x, Float slope) {
    return wasm_v128_bitselect(x, mul(x, slope), wasm_f32x4_ge(x, setf(0.0f)));
  }
  // x > 0 ? a : b
  static Float select_positive(Float x, Float a, Float b) {
    return wasm_v128_bitselect(a, b, wasm_f32x4_gt(x, setf(0.0f)));
  }
  static Float max(Float a, Float b) { return wasm_f32x4_pmax(b, a); }
  static Float min(Float a, Float b) { return wasm_f32x4_pmin(b, a); }
  static uint32_t not_negative(Float x) { return wasm_i32x4_bitmask(wasm_f32x4_ge(x, setf(0.0f))); }
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
    unroll<V>([&](auto v) BINSEG_INLINE {
      const v128_t yes = wasm_u32x4_le(wasm_i32x4_sub(a[v], low[v]), span[v]);
      all |= static_cast<uint64_t>(wasm_i32x4_bitmask(yes)) << (v * kLanes);
    });
    return all;
  }

 private:
  // x as bfloat16, ties to even, in the low half of the vector; every nan becomes 0x7FC0.
  static v128_t narrowed(Float x) {
    const v128_t odd = wasm_v128_and(wasm_u32x4_shr(x, 16), set(1));
    const v128_t up = wasm_u32x4_shr(wasm_i32x4_add(wasm_i32x4_add(x, set(0x7FFF)), odd), 16);
    const v128_t all = wasm_v128_bitselect(up, set(0x7FC0), wasm_f32x4_eq(x, x));
    return wasm_u16x8_narrow_i32x4(all, all);
  }
  static v128_t wide(v128_t x) { return wasm_f64x2_promote_low_f32x4(x); }
  static v128_t upper(v128_t x) {
    return wasm_f64x2_promote_low_f32x4(wasm_i64x2_shuffle(x, x, 1, 1));
  }
  static v128_t demoted(v128_t low, v128_t high) {
    return wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(low), wasm_f32x4_demote_f64x2_zero(high),
                              0, 2);
  }
  // In the middle between two floats, or so small that floats are further apart (or 0).
  static bool doubtful(v128_t low, v128_t high, v128_t result) {
    const v128_t middle = wasm_i64x2_const_splat(INT64_MIN);  // of the 29 bits that are cut off
    const v128_t is_middle = wasm_v128_or(wasm_i64x2_eq(wasm_i64x2_shl(low, 35), middle),
                                          wasm_i64x2_eq(wasm_i64x2_shl(high, 35), middle));
    const v128_t is_tiny = wasm_f32x4_le(wasm_f32x4_abs(result), wasm_f32x4_const_splat(0x1p-126f));
    return wasm_v128_any_true(wasm_v128_or(is_middle, is_tiny));
  }
  // Rarely called: a copy wherever it is called from would be a third of the module.
  [[gnu::noinline]] static v128_t fma_rounded_once(v128_t low, v128_t high, v128_t c) {
    const v128_t plus_low = wide(c), plus_high = upper(c);
    return demoted(to_odd(low, plus_low, wasm_f64x2_add(low, plus_low)),
                   to_odd(high, plus_high, wasm_f64x2_add(high, plus_high)));
  }
  // The sum with its last bit set where it is not exact, after rounding towards zero.
  static v128_t to_odd(v128_t product, v128_t plus, v128_t sum) {
    const v128_t back = wasm_f64x2_sub(sum, product);
    const v128_t error = wasm_f64x2_add(wasm_f64x2_sub(product, wasm_f64x2_sub(sum, back)),
                                        wasm_f64x2_sub(plus, back));
    const v128_t zero = wasm_f64x2_const_splat(0);
    const v128_t above = wasm_f64x2_gt(error, zero);
    const v128_t inexact = wasm_v128_or(above, wasm_f64x2_lt(error, zero));  // not of nan
    const v128_t away = wasm_v128_and(inexact, wasm_v128_xor(above, wasm_f64x2_gt(sum, zero)));
    return wasm_v128_or(wasm_i64x2_add(sum, away),
                        wasm_v128_and(inexact, wasm_i64x2_const_splat(1)));
  }
};

}  // namespace
}  // namespace binseg
