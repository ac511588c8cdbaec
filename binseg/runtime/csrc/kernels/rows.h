// The kernels of row_args.h.
#pragma once

#include <type_traits>

#include "arithmetic.h"
#include "lanes.h"
#include "row_args.h"

namespace binseg {
namespace {

inline const float* floats_at(const RealMap& map, int64_t at) {
  return static_cast<const float*>(map.data) + at;
}
inline const uint16_t* halves_at(const RealMap& map, int64_t at) {
  return static_cast<const uint16_t*>(map.data) + at;
}

// `count` channels from element `at` on.
inline void read_channels(const RealMap& map, int64_t at, int64_t count, float* to) {
  if (map.bfloat16) {
    const uint16_t* from = halves_at(map, at);
    for (int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(from[i]);
  } else {
    __builtin_memcpy(to, floats_at(map, at), static_cast<size_t>(count) * sizeof(float));
  }
}

// Adds them to `to`.
inline void add_channels(const RealMap& map, int64_t at, int64_t count, float* to) {
  if (map.bfloat16) {
    const uint16_t* from = halves_at(map, at);
    for (int64_t i = 0; i < count; ++i) to[i] += from_bfloat16(from[i]);
  } else {
    const float* from = floats_at(map, at);
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
  }
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline int to_lanes(int64_t left, int lanes) {
  return left < lanes ? static_cast<int>(left) : lanes;
}

// An activation of a vector whose channel tensors begin at `t`.
template <class Isa, Act kAct>
inline typename Isa::Float activated(typename Isa::Float v, const float* const* t, int64_t c) {
  const auto clamped = [](typename Isa::Float x, float low, float high) {
    return Isa::max(Isa::setf(low), Isa::min(Isa::setf(high), x));  // nan stays
  };
  if constexpr (kAct == Act::kRelu) return Isa::max(Isa::setf(0.0f), v);
  if constexpr (kAct == Act::kRelu6) return clamped(v, 0.0f, 6.0f);
  if constexpr (kAct == Act::kPrelu) return Isa::prelu(v, Isa::loadf(t[0] + c));
  if constexpr (kAct == Act::kRprelu)
    return Isa::addf(Isa::prelu(Isa::addf(v, Isa::loadf(t[0] + c)), Isa::loadf(t[1] + c)),
                     Isa::loadf(t[2] + c));
  if constexpr (kAct == Act::kTanh) return tanh_of<Isa>(v);
  if constexpr (kAct == Act::kSigmoid || kAct == Act::kSilu) {
    const auto half = Isa::setf(0.5f);
    const auto sigmoid = Isa::fma(half, tanh_of<Isa>(Isa::mul(half, v)), half);
    return kAct == Act::kSilu ? Isa::mul(v, sigmoid) : sigmoid;
  }
  if constexpr (kAct == Act::kHardtanh) return clamped(v, -1.0f, 1.0f);
  if constexpr (kAct == Act::kHardsigmoid || kAct == Act::kHardswish) {
    const auto hard = clamped(Isa::addf(Isa::div(v, Isa::setf(6.0f)), Isa::setf(0.5f)), 0.0f, 1.0f);
    return kAct == Act::kHardswish ? Isa::mul(v, hard) : hard;
  }
  if constexpr (kAct == Act::kAbs) return Isa::max(Isa::subf(Isa::setf(0.0f), v), v);
  return v;
}

template <class Isa, Act kAct>
void activate_pixels(const Finish& f, float* y, int64_t count) {
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t b = 0; b < f.bases; ++b, y += f.channels) {
      for (int64_t c = 0; c < f.channels; c += Isa::kLanes) {
        const int lanes = to_lanes(f.channels - c, Isa::kLanes);
        const auto v = activated<Isa, kAct>(load_lanes<Isa>(y + c, lanes), f.act_tensors,
                                            b * f.base_stride + c);
        store_lanes<Isa>(y + c, v, lanes);
      }
    }
  }
}

template <class Isa>
void activate(const Finish& f, float* y, int64_t count) {
  switch (f.act) {
    case Act::kNone:
      return;
    case Act::kRelu:
      return activate_pixels<Isa, Act::kRelu>(f, y, count);
    case Act::kRelu6:
      return activate_pixels<Isa, Act::kRelu6>(f, y, count);
    case Act::kPrelu:
      return activate_pixels<Isa, Act::kPrelu>(f, y, count);
    case Act::kRprelu:
      return activate_pixels<Isa, Act::kRprelu>(f, y, count);
    case Act::kTanh:
      return activate_pixels<Isa, Act::kTanh>(f, y, count);
    case Act::kSigmoid:
      return activate_pixels<Isa, Act::kSigmoid>(f, y, count);
    case Act::kSilu:
      return activate_pixels<Isa, Act::kSilu>(f, y, count);
    case Act::kHardtanh:
      return activate_pixels<Isa, Act::kHardtanh>(f, y, count);
    case Act::kHardsigmoid:
      return activate_pixels<Isa, Act::kHardsigmoid>(f, y, count);
    case Act::kHardswish:
      return activate_pixels<Isa, Act::kHardswish>(f, y, count);
    case Act::kAbs:
      return activate_pixels<Isa, Act::kAbs>(f, y, count);
  }
}

// Calls g(element of the map, results, how many) for the results: all at once where the map has no
// gaps, else for each pixel or base.
template <class G>
inline void each_run(const Finish& f, const RealMap& map, float* y, int64_t row, int64_t x,
                     int64_t count, G&& g) {
  const int64_t all = f.bases * f.channels;
  const bool whole = f.bases == 1 || map.base_step == f.channels;
  const int64_t at = row * map.row + x * map.pixel;
  if (whole && map.pixel == all) return g(at, y, count * all);
  for (int64_t p = 0; p < count; ++p) {
    if (whole) {
      g(at + p * map.pixel, y, all);
      y += all;
      continue;
    }
    for (int64_t b = 0; b < f.bases; ++b, y += f.channels)
      g(at + p * map.pixel + b * map.base_step, y, f.channels);
  }
}

inline void add_map(const Finish& f, const RealMap& map, float* y, int64_t row, int64_t x,
                    int64_t count) {
  each_run(f, map, y, row, x, count,
           [&](int64_t at, float* to, int64_t length) { add_channels(map, at, length, to); });
}

inline void store_map(const Finish& f, const RealMap& map, float* y, int64_t row, int64_t x,
                      int64_t count) {
  each_run(f, map, y, row, x, count, [&](int64_t at, const float* from, int64_t length) {
    if (map.bfloat16) {
      auto* to = static_cast<uint16_t*>(map.data) + at;
      for (int64_t i = 0; i < length; ++i) to[i] = to_bfloat16(from[i]);
    } else {
      __builtin_memcpy(static_cast<float*>(map.data) + at, from,
                       static_cast<size_t>(length) * sizeof(float));
    }
  });
}

template <class Isa>
void store_signs(const Finish& f, const float* y, int64_t row, int64_t x, int64_t count) {
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t b = 0; b < f.bases; ++b, y += f.channels) {
      uint32_t* to = f.bits.data + row * f.bits.row + (x + p) * f.bits.pixel + b * f.bits.words;
      for (int64_t w = 0; w < f.bits.words; ++w) {
        uint32_t bits = 0;
        for (int v = 0; v < 32 / Isa::kLanes; ++v) {
          const int64_t c = w * 32 + v * Isa::kLanes;
          if (c >= f.channels) break;
          const int lanes = to_lanes(f.channels - c, Isa::kLanes);
          auto value = load_lanes<Isa>(y + c, lanes);
          if (f.threshold)
            value = Isa::addf(value, Isa::loadf(f.threshold + b * f.base_stride + c));
          bits |= (Isa::not_negative(value) & ((1ull << lanes) - 1)) << (v * Isa::kLanes);
        }
        to[w] = bits;
      }
    }
  }
}

// Bytes of `channels` values of each base.
template <class Isa>
void store_bytes(const ByteMap& map, int64_t bases, int64_t channels, const float* y, int64_t row,
                 int64_t x, int64_t count) {
  const auto scale = Isa::setf(map.inverse_scale);
  const auto zero_point = Isa::setf(static_cast<float>(map.zero_point));
  const auto low = Isa::setf(0.0f), high = Isa::setf(255.0f);
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t b = 0; b < bases; ++b, y += channels) {
      uint8_t* to = map.data + row * map.row + (x + p) * map.pixel + b * map.base_step;
      for (int64_t c = 0; c < channels; c += Isa::kLanes) {
        const int lanes = to_lanes(channels - c, Isa::kLanes);
        const auto rounded = Isa::round(Isa::mul(load_lanes<Isa>(y + c, lanes), scale));
        // max(nan, 0) is 0
        const auto level = Isa::max(Isa::addf(rounded, zero_point), low);
        Isa::store_bytes(to + c, Isa::to_int(Isa::min(level, high)), lanes);
      }
      for (int64_t c = channels; c < map.base_step; ++c) to[c] = 0;
    }
  }
}

// `count` pixels of row `row` from column x on: y is [count][bases][channels] and is changed.
template <class Isa>
void finish_pixels(const Finish& f, float* y, int64_t row, int64_t x, int64_t count) {
  if (f.residual.data) add_map(f, f.residual, y, row, x, count);
  activate<Isa>(f, y, count);
  if (f.real.data) store_map(f, f.real, y, row, x, count);
  if (f.bits.data) store_signs<Isa>(f, y, row, x, count);
  if (f.bytes.data) store_bytes<Isa>(f.bytes, f.bases, f.channels, y, row, x, count);
}

// Calls make(x, count, y) for pieces of a row, then finishes them.
template <class Isa, class Make>
inline void each_piece(const Finish& f, int64_t row, int64_t width, float* y, Make&& make) {
  const int64_t channels = f.bases * f.channels;
  const int64_t most = channels < kRowChunk ? kRowChunk / channels : 1;
  for (int64_t x = 0; x < width; x += most) {
    const int64_t count = smaller(most, width - x);
    make(x, count, y);
    finish_pixels<Isa>(f, y, row, x, count);
  }
}

// y = fma(y, scale, shift).
template <class Isa>
inline void scale_channels(float* y, const float* scale, const float* shift, int64_t channels) {
  for (int64_t c = 0; c < channels; c += Isa::kLanes) {
    const int lanes = to_lanes(channels - c, Isa::kLanes);
    const auto v =
        Isa::fma(load_lanes<Isa>(y + c, lanes), Isa::loadf(scale + c), Isa::loadf(shift + c));
    store_lanes<Isa>(y + c, v, lanes);
  }
}

template <class Isa>
void point(const PointArgs& a, int64_t begin, int64_t end, void* scratch) {
  const int64_t channels = a.finish.bases * a.finish.channels;
  auto* space = static_cast<float*>(scratch);
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(a.finish, row, a.width, space, [&](int64_t x, int64_t count, float* y) {
      for (int64_t p = x; p < x + count; ++p, y += channels) {
        if (a.what == PointArgs::kImage) {
          const uint8_t* from = a.image + row * a.image_row + 3 * p;
          for (int64_t c = 0; c < channels; ++c) y[c] = static_cast<float>(from[c]);
        } else {
          read_channels(a.x, row * a.x.row + p * a.x.pixel, channels, y);
        }
        const int64_t at = row * a.other.row + p * a.other.pixel;
        if (a.what == PointArgs::kMulPixel) {
          float factor;
          read_channels(a.other, at, 1, &factor);
          for (int64_t c = 0; c < channels; ++c) y[c] *= factor;
        } else if (a.what == PointArgs::kAdd || a.what == PointArgs::kMul) {
          for (int64_t c = 0; c < channels; ++c) {
            const float with = a.other.bfloat16 ? from_bfloat16(*halves_at(a.other, at + c))
                                                : *floats_at(a.other, at + c);
            y[c] = a.what == PointArgs::kAdd ? y[c] + with : y[c] * with;
          }
        }
        if (a.scale) scale_channels<Isa>(y, a.scale, a.shift, channels);
      }
    });
  }
}

template <class Isa>
void concat(const ConcatArgs& a, int64_t begin, int64_t end, void* scratch) {
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(a.finish, row, a.width, static_cast<float*>(scratch),
                    [&](int64_t x, int64_t count, float* y) {
                      for (int64_t p = x; p < x + count; ++p) {
                        for (int64_t i = 0; i < a.count; ++i) {
                          const RealMap& part = a.parts[i];
                          read_channels(part, row * part.row + p * part.pixel, a.channels[i], y);
                          y += a.channels[i];
                        }
                      }
                    });
  }
}

// `Pixels` results of V vectors of output channels; `from` are their inputs under the first tap.
template <class Isa, bool Half, int Pixels, int V>
inline void real_tile(const RealConvArgs& a, const float* weight, const float* bias, int64_t row,
                      int64_t x, int64_t channel, int64_t count, float* y, int64_t step) {
  typename Isa::Float sums[Pixels][V];
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[p][v] = Isa::loadf(bias + v * Isa::kLanes);
  }
  using Element = std::conditional_t<Half, uint16_t, float>;
  for (int64_t ky = 0; ky < a.kernel_h; ++ky) {
    const int64_t in_row = row * a.stride_h + ky * a.dilation_h - a.top;
    for (int64_t kx = 0; kx < a.kernel_w; ++kx) {
      const Element* from[Pixels];
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) {
        const int64_t column = (x + p) * a.stride_w + kx * a.dilation_w - a.left;
        const bool outside = in_row < 0 || in_row >= a.height || column < 0 || column >= a.in_width;
        from[p] = outside ? static_cast<const Element*>(a.zeros)
                          : static_cast<const Element*>(a.x.data) + in_row * a.x.row +
                                column * a.x.pixel + channel;
      }
      for (int64_t c = 0; c < a.in_channels; ++c, weight += kConvBlock) {
        typename Isa::Float w[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) w[v] = Isa::loadf(weight + v * Isa::kLanes);
#pragma GCC unroll 8
        for (int p = 0; p < Pixels; ++p) {
          typename Isa::Float in;
          if constexpr (Half) {
            in = Isa::setf(from_bfloat16(from[p][c]));
          } else {
            in = Isa::setf(from[p][c]);
          }
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) sums[p][v] = Isa::fma(in, w[v], sums[p][v]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int64_t left = count - v * Isa::kLanes;
      if (left > 0)
        store_lanes<Isa>(y + p * step + v * Isa::kLanes, sums[p][v], to_lanes(left, Isa::kLanes));
    }
  }
}

// One block of output channels of one group, for `pixels` pixels.
template <class Isa, bool Half, int V>
inline void real_block(const RealConvArgs& a, const float* weight, const float* bias, int64_t row,
                       int64_t x, int64_t pixels, int64_t channel, int64_t count, float* y,
                       int64_t step) {
  constexpr int kPixels =
      8 / V * (Isa::kLanes == 16 ? 2 : 1) > 8 ? 8 : 8 / V * (Isa::kLanes == 16 ? 2 : 1);
  constexpr int kTile = kPixels < 1 ? 1 : kPixels;
  int64_t p = 0;
  for (; p + kTile <= pixels; p += kTile)
    real_tile<Isa, Half, kTile, V>(a, weight, bias, row, x + p, channel, count, y + p * step, step);
  if constexpr (kTile > 4) {
    for (; p + 4 <= pixels; p += 4)
      real_tile<Isa, Half, 4, V>(a, weight, bias, row, x + p, channel, count, y + p * step, step);
  }
  for (; p < pixels; ++p)
    real_tile<Isa, Half, 1, V>(a, weight, bias, row, x + p, channel, count, y + p * step, step);
}

template <class Isa, bool Half>
void real_rows(const RealConvArgs& a, int64_t begin, int64_t end, void* scratch) {
  const int64_t blocks = (a.out_channels + kConvBlock - 1) / kConvBlock;
  const int64_t length = a.kernel_h * a.kernel_w * a.in_channels * kConvBlock;
  const int64_t step = a.bases * a.groups * a.out_channels;
  constexpr int kWide = kConvBlock / Isa::kLanes;
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(
        a.finish, row, a.width, static_cast<float*>(scratch),
        [&](int64_t x, int64_t pixels, float* y) {
          for (int64_t group = 0; group < a.bases * a.groups; ++group) {
            for (int64_t block = 0; block < blocks; ++block) {
              const int64_t of = (group % a.groups) * blocks + block;
              const float *weight = a.weight + of * length, *bias = a.bias + of * kConvBlock;
              int64_t count = smaller(kConvBlock, a.out_channels - block * kConvBlock);
              float* to = y + group * a.out_channels + block * kConvBlock;
              const int64_t channel = group * a.in_channels;
              // as few passes of vectors as hold the channels
              for (int first = 0; count > 0;) {
                if (count > kConvBlock / 2 && kWide <= 4) {
                  real_block<Isa, Half, kWide <= 4 ? kWide : 1>(
                      a, weight + first, bias + first, row, x, pixels, channel, count, to, step);
                  break;
                }
                constexpr int kHalf = kWide / 2 <= 2 ? kWide / 2 : 2;
                real_block<Isa, Half, kHalf>(a, weight + first, bias + first, row, x, pixels,
                                             channel, count, to, step);
                first += kHalf * Isa::kLanes;
                to += kHalf * Isa::kLanes;
                count -= kHalf * Isa::kLanes;
              }
            }
          }
        });
  }
}

template <class Isa>
void real_conv(const RealConvArgs& a, int64_t begin, int64_t end, void* scratch) {
  if (a.x.bfloat16) {
    real_rows<Isa, true>(a, begin, end, scratch);
  } else {
    real_rows<Isa, false>(a, begin, end, scratch);
  }
}

// One input and one output channel a group: lanes are groups.
template <class Isa>
void depthwise(const RealConvArgs& a, int64_t begin, int64_t end, void* scratch) {
  const int64_t channels = a.groups;
  const int64_t filled = (channels + kFilled - 1) / kFilled * kFilled;
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(
        a.finish, row, a.width, static_cast<float*>(scratch),
        [&](int64_t x, int64_t pixels, float* y) {
          for (int64_t p = x; p < x + pixels; ++p, y += channels) {
            for (int64_t c = 0; c < channels; c += Isa::kLanes) {
              const int lanes = to_lanes(channels - c, Isa::kLanes);
              const float* weight = a.weight + c;
              auto sum = Isa::loadf(a.bias + c);
              for (int64_t ky = 0; ky < a.kernel_h; ++ky) {
                const int64_t in_row = row * a.stride_h + ky * a.dilation_h - a.top;
                for (int64_t kx = 0; kx < a.kernel_w; ++kx, weight += filled) {
                  const int64_t column = p * a.stride_w + kx * a.dilation_w - a.left;
                  auto in = Isa::setf(0.0f);
                  if (in_row >= 0 && in_row < a.height && column >= 0 && column < a.in_width) {
                    const int64_t at = in_row * a.x.row + column * a.x.pixel + c;
                    in = a.x.bfloat16 ? Isa::load_bfloat16_some(halves_at(a.x, at), lanes)
                                      : load_lanes<Isa>(floats_at(a.x, at), lanes);
                  }
                  sum = Isa::fma(in, Isa::loadf(weight), sum);
                }
              }
              store_lanes<Isa>(y + c, sum, lanes);
            }
          }
        });
  }
}

template <class Isa>
void window(const WindowArgs& a, int64_t begin, int64_t end, void* scratch) {
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(
        a.finish, row, a.width, static_cast<float*>(scratch),
        [&](int64_t x, int64_t pixels, float* y) {
          for (int64_t p = x; p < x + pixels; ++p, y += a.channels) {
            const float start = a.largest ? -__builtin_inff() : 0.0f;
            for (int64_t c = 0; c < a.channels; ++c) y[c] = start;
            int64_t counted = 0;
            for (int64_t ky = 0; ky < a.kernel_h; ++ky) {
              const int64_t in_row = row * a.stride_h + ky * a.dilation_h - a.top;
              if (in_row < -a.count_top || in_row >= a.height + a.count_bottom) continue;
              for (int64_t kx = 0; kx < a.kernel_w; ++kx) {
                const int64_t column = p * a.stride_w + kx * a.dilation_w - a.left;
                if (column < -a.count_left || column >= a.in_width + a.count_right) continue;
                ++counted;
                if (in_row < 0 || in_row >= a.height || column < 0 || column >= a.in_width)
                  continue;
                const int64_t at = in_row * a.x.row + column * a.x.pixel;
                const auto take = [&](auto value) {
                  if (a.largest) {
                    for (int64_t c = 0; c < a.channels; ++c) {
                      const float v = value(c);
                      y[c] = (v > y[c]) | (v != v) ? v : y[c];
                    }
                  } else {
                    for (int64_t c = 0; c < a.channels; ++c) y[c] += value(c);
                  }
                };
                if (a.x.bfloat16) {
                  take([from = halves_at(a.x, at)](int64_t c) { return from_bfloat16(from[c]); });
                } else {
                  take([from = floats_at(a.x, at)](int64_t c) { return from[c]; });
                }
              }
            }
            if (!a.largest) {
              const auto count = static_cast<float>(counted);
              for (int64_t c = 0; c < a.channels; ++c) y[c] /= count;
            }
          }
        });
  }
}

// Scratch: a row of x between two rows, then the piece.
template <class Isa>
void resize_rows(const ResizeArgs& a, int64_t begin, int64_t end, void* scratch) {
  auto* between = static_cast<float*>(scratch);
  const bool nearest = a.weight_y == nullptr;
  float* piece = between + (nearest ? 0 : a.in_width * a.channels);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t top = a.top[row];
    if (!nearest) {
      const int64_t bottom = top + 1 < a.height ? top + 1 : top;
      const float below = a.weight_y[row], above = 1.0f - below;
      const bool dense = a.x.pixel == a.channels;
      const int64_t length = dense ? a.in_width * a.channels : a.channels;
      for (int64_t x = 0; x < (dense ? 1 : a.in_width); ++x) {
        float* to = between + x * length;
        const int64_t upper = top * a.x.row + x * a.x.pixel;
        const int64_t lower = bottom * a.x.row + x * a.x.pixel;
        if (a.x.bfloat16) {
          const uint16_t *u = halves_at(a.x, upper), *l = halves_at(a.x, lower);
          for (int64_t i = 0; i < length; ++i)
            to[i] = above * from_bfloat16(u[i]) + below * from_bfloat16(l[i]);
        } else {
          const float *u = floats_at(a.x, upper), *l = floats_at(a.x, lower);
          for (int64_t i = 0; i < length; ++i) to[i] = above * u[i] + below * l[i];
        }
      }
    }
    each_piece<Isa>(a.finish, row, a.width, piece, [&](int64_t x, int64_t pixels, float* y) {
      for (int64_t p = x; p < x + pixels; ++p, y += a.channels) {
        const int64_t left = a.left[p];
        if (nearest) {
          read_channels(a.x, top * a.x.row + left * a.x.pixel, a.channels, y);
          continue;
        }
        const float after = a.weight_x[p], before = 1.0f - after;
        const float* l = between + left * a.channels;
        const float* r = left + 1 < a.in_width ? l + a.channels : l;
        const auto w0 = Isa::setf(before), w1 = Isa::setf(after);
        for (int64_t c = 0; c < a.channels; c += Isa::kLanes) {
          const int lanes = to_lanes(a.channels - c, Isa::kLanes);
          const auto v = Isa::addf(Isa::mul(w0, load_lanes<Isa>(l + c, lanes)),
                                   Isa::mul(w1, load_lanes<Isa>(r + c, lanes)));
          store_lanes<Isa>(y + c, v, lanes);
        }
      }
    });
  }
}

inline void spatial_mean(const SpatialMeanArgs& a, int64_t begin, int64_t end, void*) {
  for (int64_t block = begin; block < end; ++block) {
    const int64_t first = block * kFilled, count = smaller(kFilled, a.channels - first);
    double sums[kFilled] = {};
    for (int64_t y = 0; y < a.height; ++y) {
      for (int64_t x = 0; x < a.width; ++x) {
        float values[kFilled];
        read_channels(a.x, y * a.x.row + x * a.x.pixel + first, count, values);
        for (int64_t c = 0; c < count; ++c) sums[c] += static_cast<double>(values[c]);
      }
    }
    const auto pixels = static_cast<double>(a.height * a.width);
    for (int64_t c = 0; c < count; ++c) a.mean[first + c] = static_cast<float>(sums[c] / pixels);
  }
}

template <class Isa>
void adaptive_pool(const AdaptivePoolArgs& a, int64_t begin, int64_t end, void* scratch) {
  const auto first = [](int64_t i, int64_t length, int64_t count) { return i * length / count; };
  const auto last = [](int64_t i, int64_t length, int64_t count) {
    return ((i + 1) * length + count - 1) / count;
  };
  for (int64_t row = begin; row < end; ++row) {
    const int64_t y0 = first(row, a.height, a.out_height), y1 = last(row, a.height, a.out_height);
    each_piece<Isa>(a.finish, row, a.width, static_cast<float*>(scratch),
                    [&](int64_t x, int64_t pixels, float* y) {
                      for (int64_t p = x; p < x + pixels; ++p, y += a.channels) {
                        const int64_t x0 = first(p, a.in_width, a.width),
                                      x1 = last(p, a.in_width, a.width);
                        for (int64_t c = 0; c < a.channels; ++c) y[c] = 0;
                        for (int64_t i = y0; i < y1; ++i)
                          for (int64_t j = x0; j < x1; ++j)
                            add_channels(a.x, i * a.x.row + j * a.x.pixel, a.channels, y);
                        const auto count = static_cast<float>((y1 - y0) * (x1 - x0));
                        for (int64_t c = 0; c < a.channels; ++c) y[c] /= count;
                      }
                    });
  }
}

inline double real_at(const RealMap& map, int64_t at) {
  return static_cast<double>(map.bfloat16 ? from_bfloat16(*halves_at(map, at))
                                          : *floats_at(map, at));
}

// Mean and 1 / sqrt(variance + epsilon) of `count` channels from `channel` on, over the pixels of
// height rows from `row` and width columns from `column`, in this order.
inline void moments(const GroupNormArgs& a, int64_t row, int64_t height, int64_t column,
                    int64_t width, int64_t channel, int64_t count, double& mean, double& inverse) {
  const auto n = static_cast<double>(height * width * count);
  const auto each = [&](auto&& take) {
    for (int64_t y = row; y < row + height; ++y)
      for (int64_t x = column; x < column + width; ++x)
        for (int64_t c = channel; c < channel + count; ++c)
          take(real_at(a.x, y * a.x.row + x * a.x.pixel + c));
  };
  double sum = 0, squares = 0;
  each([&](double v) { sum += v; });
  mean = sum / n;
  each([&](double v) { squares += (v - mean) * (v - mean); });
  inverse = 1 / __builtin_sqrt(squares / n + a.epsilon);
}

inline void group_moments(const GroupNormArgs& a, int64_t begin, int64_t end, void*) {
  const int64_t count = a.channels / a.groups;
  for (int64_t g = begin; g < end; ++g)
    moments(a, 0, a.height, 0, a.width, g * count, count, a.mean[g], a.inverse[g]);
}

template <class Isa>
void group_norm(const GroupNormArgs& a, int64_t begin, int64_t end, void* scratch) {
  const int64_t count = a.channels / a.groups;
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(a.finish, row, a.width, static_cast<float*>(scratch),
                    [&](int64_t x, int64_t pixels, float* y) {
                      for (int64_t p = x; p < x + pixels; ++p, y += a.channels) {
                        for (int64_t g = 0; g < a.groups; ++g) {
                          double mean, inverse;
                          if (a.each_pixel) {
                            moments(a, row, 1, p, 1, g * count, count, mean, inverse);
                          } else {
                            mean = a.mean[g];
                            inverse = a.inverse[g];
                          }
                          for (int64_t c = g * count; c < (g + 1) * count; ++c) {
                            const double v = real_at(a.x, row * a.x.row + p * a.x.pixel + c);
                            y[c] = static_cast<float>((v - mean) * inverse);
                          }
                        }
                        scale_channels<Isa>(y, a.scale, a.shift, a.channels);
                      }
                    });
  }
}

template <class Isa>
void channel_mean(const ChannelMeanArgs& a, int64_t begin, int64_t end, void* scratch) {
  const auto size = static_cast<float>(a.size);
  for (int64_t row = begin; row < end; ++row) {
    each_piece<Isa>(a.finish, row, a.width, static_cast<float*>(scratch),
                    [&](int64_t x, int64_t pixels, float* y) {
                      for (int64_t p = x; p < x + pixels; ++p) {
                        const int64_t pixel = row * a.x.row + p * a.x.pixel;
                        for (int64_t o = 0; o < a.outer; ++o, y += a.inner) {
                          for (int64_t i = 0; i < a.inner; ++i) y[i] = 0;
                          for (int64_t s = 0; s < a.size; ++s) {
                            const int64_t at = pixel + (o * a.size + s) * a.inner;
                            for (int64_t i = 0; i < a.inner; ++i) {
                              const float v = a.x.bfloat16 ? from_bfloat16(*halves_at(a.x, at + i))
                                                           : *floats_at(a.x, at + i);
                              y[i] += a.absolute ? __builtin_fabsf(v) : v;
                            }
                          }
                          for (int64_t i = 0; i < a.inner; ++i) y[i] /= size;
                        }
                      }
                    });
  }
}

template <class Isa>
constexpr RowKernels make_row_kernels() {
  return {
      point<Isa>,    concat<Isa>,      real_conv<Isa>,    depthwise<Isa>,
      window<Isa>,   resize_rows<Isa>, spatial_mean,      adaptive_pool<Isa>,
      group_moments, group_norm<Isa>,  channel_mean<Isa>,
  };
}

}  // namespace
}  // namespace binseg
