// Signs of a real map, or of gain * x + shift, as bits.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace binseg {
namespace {

template <class Isa, bool Half>
inline typename Isa::Float load_real(const void* x, int64_t at, int count) {
  if constexpr (Half) {
    return Isa::load_bfloat16_some(static_cast<const uint16_t*>(x) + at, count);
  } else {
    const float* from = static_cast<const float*>(x) + at;
    return load_lanes<Isa>(from, count);
  }
}

inline float real_at(const MapArgs& a, int64_t at) {
  if (!a.bfloat16) return static_cast<const float*>(a.x)[at];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(a.x)[at]) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// What the sign is taken of: gain * x + shift of channel `c`, counted over all bases.
template <class Isa>
struct Scaled {
  using Float = typename Isa::Float;
  static constexpr bool kByChannel = true;
  const float *gain, *shift;

  Scaled(const MapArgs& a, int64_t n)
      : gain(a.affine + n * a.affine_stride), shift(gain + a.bases * a.channels) {}

  Float channels(Float x, int64_t c, int count) const {  // lanes are `count` channels from c on
    return Isa::fused(x, load_lanes<Isa>(gain + c, count), load_lanes<Isa>(shift + c, count));
  }
  Float pixels(Float x, int64_t c) const {  // lanes are pixels
    return Isa::fused(x, Isa::setf(gain[c]), Isa::setf(shift[c]));
  }
  float one(float x, int64_t c) const {  // see Portable::fused
    return static_cast<float>(static_cast<double>(x) * gain[c] + shift[c]);
  }
};

// Or x itself.
template <class Isa>
struct Unscaled {
  using Float = typename Isa::Float;
  static constexpr bool kByChannel = false;

  Unscaled(const MapArgs&, int64_t) {}
  Float channels(Float x, int64_t, int) const { return x; }
  Float pixels(Float x, int64_t) const { return x; }
  float one(float x, int64_t) const { return x; }
};

// Channels without a gap, and no word partly used.
template <class Isa, bool Half, class Scale>
inline void pack_run(const void* x, int64_t start, int64_t words, uint32_t* out,
                     const Scale& scale) {
  for (int64_t w = 0; w < words; ++w) {
    uint32_t bits = 0;
#pragma GCC unroll 8
    for (int v = 0; v < 32 / Isa::kLanes; ++v) {
      const int64_t channel = w * 32 + v * Isa::kLanes;
      const auto value = load_real<Isa, Half>(x, start + channel, Isa::kLanes);
      bits |= Isa::not_negative(scale.channels(value, channel, Isa::kLanes)) << (v * Isa::kLanes);
    }
    out[w] = bits;
  }
}

template <class Isa, bool Half, class Scale>
void pack_row(const MapArgs& a, int64_t start, uint32_t* out, const Scale& scale) {
  const int64_t words = (a.channels + 31) / 32;
  if (a.stride_c == 1 && a.channels % 32 == 0 && a.stride_w == a.bases * a.channels &&
      (a.bases == 1 || a.stride_b == a.channels)) {
    const int64_t of_pixel = a.bases * words;
    if constexpr (Scale::kByChannel) {
      for (int64_t x = 0; x < a.width; ++x)
        pack_run<Isa, Half>(a.x, start + x * a.stride_w, of_pixel, out + x * of_pixel, scale);
    } else {
      pack_run<Isa, Half>(a.x, start, a.width * of_pixel, out, scale);
    }
    return;
  }
  for (int64_t b = 0; b < a.bases; ++b) {
    const int64_t base = start + b * a.stride_b;
    const int64_t first = b * a.channels;  // of this base, among the channels of all
    uint32_t* to = out + b * words;
    if (a.stride_c == 1) {
      for (int64_t x = 0; x < a.width; ++x) {
        for (int64_t w = 0; w < words; ++w) {
          uint32_t bits = 0;
          for (int v = 0; v < 32 / Isa::kLanes; ++v) {
            const int64_t channel = w * 32 + v * Isa::kLanes;
            const int64_t left = a.channels - channel;
            if (left <= 0) break;
            const int count = left < Isa::kLanes ? static_cast<int>(left) : Isa::kLanes;
            const auto value = load_real<Isa, Half>(a.x, base + x * a.stride_w + channel, count);
            const uint32_t mask = Isa::not_negative(scale.channels(value, first + channel, count));
            bits |= (mask & ((1ull << count) - 1)) << (v * Isa::kLanes);
          }
          to[x * a.bases * words + w] = bits;
        }
      }
    } else if (a.stride_w == 1) {
      for (int64_t w = 0; w < words; ++w) {
        const int64_t last = a.channels - w * 32 < 32 ? a.channels - w * 32 : 32;
        for (int64_t x = 0; x < a.width; x += Isa::kLanes) {
          const int count = a.width - x < Isa::kLanes ? static_cast<int>(a.width - x) : Isa::kLanes;
          auto bits = Isa::set(0);
          for (int64_t c = 0; c < last; ++c) {
            const int64_t channel = w * 32 + c;
            const auto value = load_real<Isa, Half>(a.x, base + x + channel * a.stride_c, count);
            bits = Isa::or_(bits, Isa::bit_if_not_negative(scale.pixels(value, first + channel),
                                                           static_cast<int>(c)));
          }
          int32_t lanes[Isa::kLanes];
          Isa::store(lanes, bits);
          for (int i = 0; i < count; ++i) to[(x + i) * a.bases * words + w] = lanes[i];
        }
      }
    } else {
      for (int64_t x = 0; x < a.width; ++x) {
        for (int64_t w = 0; w < words; ++w) {
          uint32_t bits = 0;
          for (int64_t c = w * 32; c < a.channels && c < w * 32 + 32; ++c) {
            const float value = real_at(a, base + x * a.stride_w + c * a.stride_c);
            bits |= static_cast<uint32_t>(scale.one(value, first + c) >= 0) << (c % 32);
          }
          to[x * a.bases * words + w] = bits;
        }
      }
    }
  }
}

template <class Isa, class Scale>
void pack_rows(const MapArgs& a, int64_t begin, int64_t end) {
  const int64_t length = a.width * a.bases * ((a.channels + 31) / 32);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / a.height;
    const int64_t start = n * a.stride_n + row % a.height * a.stride_h;
    const Scale scale(a, n);
    uint32_t* out = static_cast<uint32_t*>(a.out) + row * length;
    if (a.bfloat16) {
      pack_row<Isa, true>(a, start, out, scale);
    } else {
      pack_row<Isa, false>(a, start, out, scale);
    }
  }
}

template <class Isa>
void pack_sign(const MapArgs& a, int64_t begin, int64_t end) {
  if (a.affine) {
    pack_rows<Isa, Scaled<Isa>>(a, begin, end);
  } else {
    pack_rows<Isa, Unscaled<Isa>>(a, begin, end);
  }
}

}  // namespace
}  // namespace binseg
