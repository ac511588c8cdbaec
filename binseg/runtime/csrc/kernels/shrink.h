// The kernels of shrink_args.h.
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "lanes.h"
#include "shrink_args.h"

namespace binseg {
namespace {

template <int Shares>
inline void shrink_pixels(const ShrinkRow& a, const float* source, float* to) {
  // a pixel and the first channel of the next one, which is written over afterwards
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  const int64_t shares = Shares ? Shares : a.shares;
  const float* weights = a.weights;
  for (int64_t x = 0; x < a.width; ++x, to += 3, weights += shares) {
    const float* from = source + 3 * static_cast<int64_t>(a.first[x]);
    Four sum = *reinterpret_cast<const Four*>(from) * weights[0];
    for (int64_t k = 1; k < shares; ++k)
      sum = sum + *reinterpret_cast<const Four*>(from + 3 * k) * weights[k];
    *reinterpret_cast<Four*>(to) = sum;
  }
}

template <class Isa>
void shrink_row(const ShrinkRow& a, const uint8_t* from, float* to, float* space) {
#if defined(__AVX512F__)
  if (a.groups) {
    const int32_t* index = a.index;
    const float* weights = a.of_channel;
    for (int64_t g = 0; g < a.groups; ++g, to += kShrinkLanes) {
      const uint8_t* at = from + a.base[g];
      const auto widened = [](const uint8_t* bytes) {
        const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixteen));
      };
      const __m512 low = widened(at), high = widened(at + 16);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t k = 0; k < a.shares; ++k, index += kShrinkLanes, weights += kShrinkLanes) {
        const __m512 some = _mm512_permutex2var_ps(low, _mm512_loadu_si512(index), high);
        sum = _mm512_add_ps(sum, _mm512_mul_ps(some, _mm512_loadu_ps(weights)));
      }
      _mm512_storeu_ps(to, sum);
    }
    return;
  }
#endif
  const int64_t length = 3 * a.in_width;
  for (int64_t i = 0; i < length; ++i) space[i] = static_cast<float>(from[i]);
  for (int64_t i = length; i < length + 3 * a.shares + 4; ++i) space[i] = 0;
  if (a.shares == 2) return shrink_pixels<2>(a, space, to);
  if (a.shares == 3) return shrink_pixels<3>(a, space, to);
  shrink_pixels<0>(a, space, to);
}

template <class Isa>
void sum_rows(const float* const* rows, const float* weights, int64_t count, int64_t length,
              uint8_t* to) {
  const auto most = Isa::setf(255.0f);
  for (int64_t i = 0; i < length; i += Isa::kLanes) {
    const int lanes = length - i < Isa::kLanes ? static_cast<int>(length - i) : Isa::kLanes;
    auto sum = Isa::mul(Isa::setf(weights[0]), load_lanes<Isa>(rows[0] + i, lanes));
    for (int64_t k = 1; k < count; ++k)
      sum = Isa::addf(sum, Isa::mul(Isa::setf(weights[k]), load_lanes<Isa>(rows[k] + i, lanes)));
    Isa::store_bytes(to + i, Isa::to_int(Isa::round(Isa::min(sum, most))), lanes);
  }
}

template <class Isa>
constexpr ShrinkKernels make_shrink_kernels() {
  return {shrink_row<Isa>, sum_rows<Isa>};
}

}  // namespace
}  // namespace binseg
