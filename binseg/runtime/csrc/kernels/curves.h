// The arithmetic of the real epilogues, for one vector of channels.
#pragma once

#include "kernels.h"

namespace binseg {
namespace {

// f(s) of `ops.conv_real`.
template <class Isa, bool Tanh>
struct Curve {
  typename Isa::Float first, second, third, times, plus;  // s = times * taken + plus
  bool one_sided;

  Curve(const ConvArgs& a, int64_t base, int64_t block, int vector)
      : times(Isa::setf(a.corrections ? 1.0f : -2.0f)),
        plus(Isa::setf(a.corrections ? 0.0f : static_cast<float>(a.terms))),
        one_sided(a.one_sided) {
    const int64_t row = a.bases * a.blocks * kBlock;
    const float* at = a.curve + (base * a.blocks + block) * kBlock + vector * Isa::kLanes;
    first = Isa::loadf(at);
    second = Isa::loadf(at + row);
    third = Isa::loadf(at + 2 * row);
  }
  typename Isa::Float operator()(typename Isa::Int taken) const {
    const auto s = Isa::fma(Isa::to_float(taken), times, plus);
    if constexpr (Tanh) {
      return Isa::fma(first, Isa::tanh(Isa::mul(second, s)), third);
    } else {
      const auto zero = Isa::setf(0.0f);
      if (one_sided) return Isa::fma(first, Isa::max(s, zero), third);
      return Isa::fma(first, Isa::max(s, zero), Isa::fma(second, Isa::min(s, zero), third));
    }
  }
};

// `post` of `ops.conv_real`: PReLU between two shifts, and what is added before the sign is taken.
template <class Isa>
struct Post {
  typename Isa::Float before, slope, after, threshold;

  Post(const ConvArgs& a, int64_t base, int64_t block, int vector) {
    const int64_t row = a.bases * a.blocks * kBlock;
    const float* at = a.post + (base * a.blocks + block) * kBlock + vector * Isa::kLanes;
    before = Isa::loadf(at);
    slope = Isa::loadf(at + row);
    after = Isa::loadf(at + 2 * row);
    threshold = Isa::loadf(at + 3 * row);
  }
  typename Isa::Float value(typename Isa::Float y) const {
    return Isa::addf(Isa::prelu(Isa::addf(y, before), slope), after);
  }
  uint32_t signs(typename Isa::Float v) const { return Isa::not_negative(Isa::addf(v, threshold)); }
};

// The same where there is none.
template <class Isa>
struct NoPost {
  NoPost(const ConvArgs&, int64_t, int64_t, int) {}
  typename Isa::Float value(typename Isa::Float y) const { return y; }
  uint32_t signs(typename Isa::Float v) const { return Isa::not_negative(v); }
};

}  // namespace
}  // namespace binseg
