// The arithmetic of docs/program.md, part 3, for vectors: tanh, activations, bytes, bfloat16.
// Isa::max(a, b) is a > b ? a : b and Isa::min(a, b) is a < b ? a : b everywhere, so that b decides
// where one of them is nan.
#pragma once

#include "kernels.h"

namespace binseg {
namespace {

// tanh to a few units in the last place: a quotient of polynomials on [-7.9, 7.9], beyond which
// float32 tanh is ±1 (the coefficients are those of Eigen's ptanh).
template <class Isa>
inline typename Isa::Float tanh_of(typename Isa::Float x) {
  constexpr float kLimit = 7.90531110763549805f;
  const auto v = Isa::max(Isa::setf(-kLimit), Isa::min(Isa::setf(kLimit), x));  // nan stays
  const auto s = Isa::mul(v, v);
  auto p = Isa::setf(-2.76076847742355e-16f);
  p = Isa::fma(s, p, Isa::setf(2.00018790482477e-13f));
  p = Isa::fma(s, p, Isa::setf(-8.60467152213735e-11f));
  p = Isa::fma(s, p, Isa::setf(5.12229709037114e-08f));
  p = Isa::fma(s, p, Isa::setf(1.48572235717979e-05f));
  p = Isa::fma(s, p, Isa::setf(6.37261928875436e-04f));
  p = Isa::fma(s, p, Isa::setf(4.89352455891786e-03f));
  p = Isa::mul(v, p);
  auto q = Isa::setf(1.19825839466702e-06f);
  q = Isa::fma(s, q, Isa::setf(1.18534705686654e-04f));
  q = Isa::fma(s, q, Isa::setf(2.26843463243900e-03f));
  q = Isa::fma(s, q, Isa::setf(4.89352518554385e-03f));
  return Isa::div(p, q);
}

// The activations without tensors.
template <class Isa>
inline typename Isa::Float long_activation(Act act, typename Isa::Float v) {
  const auto clamped = [](typename Isa::Float x, float low, float high) {
    return Isa::max(Isa::setf(low), Isa::min(Isa::setf(high), x));  // nan stays
  };
  switch (act) {
    case Act::kRelu:
      return Isa::max(Isa::setf(0.0f), v);
    case Act::kRelu6:
      return clamped(v, 0.0f, 6.0f);
    case Act::kTanh:
      return tanh_of<Isa>(v);
    case Act::kSigmoid:
    case Act::kSilu: {
      const auto half = Isa::setf(0.5f);
      const auto sigmoid = Isa::fma(half, tanh_of<Isa>(Isa::mul(half, v)), half);
      return act == Act::kSilu ? Isa::mul(v, sigmoid) : sigmoid;
    }
    case Act::kHardtanh:
      return clamped(v, -1.0f, 1.0f);
    case Act::kHardsigmoid:
    case Act::kHardswish: {
      const auto hard =
          clamped(Isa::addf(Isa::div(v, Isa::setf(6.0f)), Isa::setf(0.5f)), 0.0f, 1.0f);
      return act == Act::kHardswish ? Isa::mul(v, hard) : hard;
    }
    case Act::kAbs:
      return Isa::max(Isa::subf(Isa::setf(0.0f), v), v);
    default:
      return v;
  }
}

// clamp(round(y * inverse_scale) + zero_point, 0, 255); nan gives 0.
template <class Isa>
struct Quantizer {
  typename Isa::Float scale, zero_point, least, most;

  explicit Quantizer(const ByteMap& map)
      : scale(Isa::setf(map.inverse_scale)),
        zero_point(Isa::setf(static_cast<float>(map.zero_point))),
        least(Isa::setf(0.0f)),
        most(Isa::setf(255.0f)) {}
  typename Isa::Int operator()(typename Isa::Float x) const {
    const auto level = Isa::addf(Isa::round(Isa::mul(x, scale)), zero_point);
    return Isa::to_int(Isa::min(Isa::max(level, least), most));
  }
};

// One number at a time, for what vectors do not reach.
inline float from_bfloat16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
// Rounded to the nearest, ties to even; every nan becomes the same one.
inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>(value != value ? 0x7FC0u : rounded);
}

}  // namespace
}  // namespace binseg
