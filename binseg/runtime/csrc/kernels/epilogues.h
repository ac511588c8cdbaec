// What becomes of the sums while they are in registers.
#pragma once

#include "curves.h"
#include "kernels.h"
#include "lanes.h"

namespace binseg {
namespace {

// Channels of one vector that exist; the last block of a layer may be partly empty.
template <class Isa>
struct Channels {
  int64_t count;  // of the block, 1 to 64

  Channels(const ConvArgs& a, int64_t block) : count(a.out_channels - block * kBlock) {
    if (count > kBlock) count = kBlock;
  }
  int of(int vector) const {
    const int64_t left = count - vector * Isa::kLanes;
    return left >= Isa::kLanes ? Isa::kLanes : left > 0 ? static_cast<int>(left) : 0;
  }
  uint64_t mask() const { return count == 64 ? ~0ull : (1ull << count) - 1; }
};

inline int64_t pixel_of(const ConvArgs& a, int64_t n, int64_t y, int64_t x) {
  return (n * a.out_height + y) * a.out_width + x;
}

// The 64 bits of a block as one or two words, as many as the layer has.
inline void store_bits(const ConvArgs& a, int64_t pixel, int64_t base, int64_t block,
                       uint64_t bits) {
  uint32_t* to = a.bits + (pixel * a.bit_bases + base) * a.bit_words + 2 * block;
  to[0] = static_cast<uint32_t>(bits);
  if (2 * block + 1 < a.bit_words) to[1] = static_cast<uint32_t>(bits >> 32);
}

// Asks for memory that an epilogue will read: of `base` in the tile that begins at `pixel`.
// Beyond the end nothing happens.
template <class Isa, int Pixels>
inline void announce_residual(const ConvArgs& a, int64_t pixel, int64_t base, int64_t block) {
  const int64_t step = a.residual_bases * a.out_channels;
  const float* from = a.residual + pixel * step + base * a.out_channels + block * kBlock;
  for (int p = 0; p < Pixels; ++p)
    for (int line = 0; line < kBlock; line += 16) Isa::prefetch_read(from + p * step + line);
}
// Memory that it will write in full.
template <class Isa, int Pixels>
inline void announce_result(const float* out, int64_t pixel, int64_t bases, int64_t base,
                            const ConvArgs& a, int64_t block) {
  const int64_t step = bases * a.out_channels;
  const float* to = out + pixel * step + base * a.out_channels + block * kBlock;
  for (int p = 0; p < Pixels; ++p)
    for (int i = 0; i < kBlock; i += 16) Isa::prefetch_write(to + p * step + i);
}

template <class Isa, class Element>
struct StoreSums {
  static constexpr bool kMerges = false;
  static constexpr bool kTakesCounts = false;
  const ConvArgs& a;
  int64_t n, base, block;
  Channels<Isa> channels;

  StoreSums(const ConvArgs& args, int64_t n, int64_t base, int64_t block, float*)
      : a(args), n(n), base(base), block(block), channels(args, block) {}

  template <int Pixels>
  void announce(int64_t, int64_t, int64_t) const {}

  template <int Pixels, int V>
  void take(int64_t, int first, int64_t y, int64_t x, typename Isa::Int (&sums)[Pixels][V]) {
    auto* out = static_cast<Element*>(a.out) + base * a.out_channels + block * kBlock;
    const int64_t step = a.bases * a.out_channels;
    const int64_t pixel = pixel_of(a, n, y, x);
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        Element* to = out + (pixel + p) * step + (first + v) * Isa::kLanes;
        const int count = channels.of(first + v);
        if (count == Isa::kLanes) {
          Isa::store(to, sums[p][v]);
        } else {
          Isa::store_some(to, sums[p][v], count);
        }
      }
    }
  }
  template <int Pixels>
  void finish(int64_t, int64_t) {}
};

template <class Isa>
struct Threshold {
  static constexpr bool kMerges = false;
  static constexpr bool kTakesCounts = true;
  const ConvArgs& a;
  int64_t n, base, block;
  Channels<Isa> channels;
  uint64_t bits[kLargestTile] = {};

  Threshold(const ConvArgs& args, int64_t n, int64_t base, int64_t block, float*)
      : a(args), n(n), base(base), block(block), channels(args, block) {}

  template <int Pixels>
  void announce(int64_t, int64_t, int64_t) const {}

  template <int Pixels, int V>
  void take(int64_t, int first, int64_t, int64_t, typename Isa::Int (&sums)[Pixels][V]) {
    const int64_t at = (base * a.blocks + block) * kBlock;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int channel = (first + v) * Isa::kLanes;
      const auto low = Isa::load(a.low + at + channel);
      const auto span = Isa::load(a.span + at + channel);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p)
        bits[p] |= static_cast<uint64_t>(Isa::at_most(Isa::sub(sums[p][v], low), span)) << channel;
    }
  }
  template <int Pixels>
  void finish(int64_t y, int64_t x) {
    const int64_t pixel = pixel_of(a, n, y, x);
    for (int p = 0; p < Pixels; ++p) {
      store_bits(a, pixel + p, base, block, bits[p] & channels.mask());
      bits[p] = 0;
    }
  }
};

template <class Isa, bool Tanh, template <class> class Post>
struct Real {
  static constexpr bool kMerges = false;
  static constexpr bool kTakesCounts = true;
  const ConvArgs& a;
  int64_t n, base, block;
  Channels<Isa> channels;
  uint64_t bits[kLargestTile] = {};

  Real(const ConvArgs& args, int64_t n, int64_t base, int64_t block, float*)
      : a(args), n(n), base(base), block(block), channels(args, block) {}

  template <int Pixels>
  void announce(int64_t, int64_t y, int64_t x) const {
    const int64_t pixel = pixel_of(a, n, y, x);
    if (a.residual)
      announce_residual<Isa, Pixels>(a, pixel + Isa::kPixels, a.residual_bases == 1 ? 0 : base,
                                     block);
    if (!a.streams)
      announce_result<Isa, Pixels>(static_cast<const float*>(a.out), pixel, a.bases, base, a,
                                   block);
  }

  template <int Pixels, int V>
  void take(int64_t, int first, int64_t y, int64_t x, typename Isa::Int (&sums)[Pixels][V]) {
    const int64_t pixel = pixel_of(a, n, y, x);
    const int64_t base_in = a.residual_bases == 1 ? 0 : base;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Curve<Isa, Tanh> curve(a, base, block, first + v);
      const Post<Isa> post(a, base, block, first + v);
      const int channel = (first + v) * Isa::kLanes;
      const int count = channels.of(first + v);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) {
        auto value = curve(sums[p][v]);
        const int64_t inside = block * kBlock + channel;
        if (a.residual) {
          const float* from =
              a.residual + ((pixel + p) * a.residual_bases + base_in) * a.out_channels + inside;
          value = Isa::addf(value, load_lanes<Isa>(from, count));
        }
        value = post.value(value);
        float* to =
            static_cast<float*>(a.out) + ((pixel + p) * a.bases + base) * a.out_channels + inside;
        if (a.streams) {
          Isa::stream(to, value);
        } else {
          store_lanes<Isa>(to, value, count);
        }
        bits[p] |= static_cast<uint64_t>(post.signs(value)) << channel;
      }
    }
  }
  template <int Pixels>
  void finish(int64_t y, int64_t x) {
    const int64_t pixel = pixel_of(a, n, y, x);
    for (int p = 0; p < Pixels; ++p) {
      if (a.bits) store_bits(a, pixel + p, base, block, bits[p] & channels.mask());
      bits[p] = 0;
    }
  }
};

// All bases of a tile go through a few kilobytes of scratch memory, which stay in the first cache.
template <class Isa, bool Tanh>
struct Merge {
  static constexpr bool kMerges = true;
  static constexpr bool kTakesCounts = true;
  const ConvArgs& a;
  int64_t n, block;
  Channels<Isa> channels;
  float* space;  // [base][pixel][64]

  Merge(const ConvArgs& args, int64_t n, int64_t, int64_t block, float* space)
      : a(args), n(n), block(block), channels(args, block), space(space) {}

  template <int Pixels>
  void announce(int64_t base, int64_t y, int64_t x) const {
    const int64_t pixel = pixel_of(a, n, y, x);
    if (a.residual_bases > 1) {
      if (a.blocks <= 2) {
        // a tile ahead in the order of memory, so that the hardware sees a stream and joins in
        const float* from = a.residual +
                            ((pixel + Isa::kPixels) * a.bases + base * Pixels) * a.out_channels +
                            block * kBlock;
        for (int i = 0; i < Pixels; ++i)
          for (int line = 0; line < kBlock; line += 16)
            Isa::prefetch_read(from + i * a.out_channels + line);
      } else {
        // a base ahead: with many channels the lines of a whole tile fall on a few cache sets and
        // would drive each other out
        const int64_t next = base + 1 < a.bases ? base + 1 : 0;
        announce_residual<Isa, Pixels>(a, next ? pixel : pixel + Isa::kPixels, next, block);
      }
    } else if (base == 0) {
      announce_residual<Isa, Pixels>(a, pixel + Isa::kPixels, 0, block);
    }
    if (a.gates && !a.streams) {
      announce_result<Isa, Pixels>(static_cast<const float*>(a.out), pixel, a.bases, base, a,
                                   block);
    } else if (a.merged && base == 0) {
      announce_result<Isa, Pixels>(a.merged, pixel, 1, 0, a, block);
    }
  }
  template <int Pixels, int V>
  void take(int64_t base, int first, int64_t y, int64_t x, typename Isa::Int (&sums)[Pixels][V]) {
    const int64_t pixel = pixel_of(a, n, y, x);
    const int64_t base_in = a.residual_bases == 1 ? 0 : base;
    const int64_t step = a.residual_bases * a.out_channels;
    const float* residual =
        a.residual + pixel * step + base_in * a.out_channels + block * kBlock + first * Isa::kLanes;
    float* to = space + base * kLargestTile * kBlock + first * Isa::kLanes;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Curve<Isa, Tanh> curve(a, base, block, first + v);
      const int count = channels.of(first + v);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) {
        const float* from = residual + p * step + v * Isa::kLanes;
        const auto shortcut = load_lanes<Isa>(from, count);
        Isa::storef(to + p * kBlock + v * Isa::kLanes, Isa::addf(curve(sums[p][v]), shortcut));
      }
    }
  }
  template <int Pixels>
  void finish(int64_t y, int64_t x) {
    for (int p = 0; p < Pixels; ++p) {
      const int64_t pixel = pixel_of(a, n, y, x) + p;
      uint64_t bits[kMostBases] = {};
      for (int group = 0; group < kGroups; ++group) {
        const float* from = space + p * kBlock + group * kTogether * Isa::kLanes;
        typename Isa::Float merged[kTogether];
#pragma GCC unroll 4
        for (int v = 0; v < kTogether; ++v) merged[v] = Isa::setf(0.0f);
        for (int64_t k = 0; k < a.bases; ++k) {
          const auto lambda = Isa::setf(a.lambdas[k]);
#pragma GCC unroll 4
          for (int v = 0; v < kTogether; ++v)
            merged[v] = Isa::fma(lambda, at(from, k, v), merged[v]);
        }
        if (a.merged) put(a.merged + pixel * a.out_channels, group, merged);
        if (!a.gates) {
          bits[0] |= signs(merged) << (group * kTogether * Isa::kLanes);
          continue;
        }
        float* branches = static_cast<float*>(a.out) + pixel * a.bases * a.out_channels;
        for (int64_t k = 0; k < a.bases; ++k) {
          const auto gate = Isa::setf(a.gates[k]);
          typename Isa::Float mixed[kTogether];
#pragma GCC unroll 4
          for (int v = 0; v < kTogether; ++v)
            mixed[v] = Isa::fma(gate, Isa::subf(at(from, k, v), merged[v]), merged[v]);
          if (a.streams) {
            float* to =
                branches + k * a.out_channels + block * kBlock + group * kTogether * Isa::kLanes;
#pragma GCC unroll 4
            for (int v = 0; v < kTogether; ++v) Isa::stream(to + v * Isa::kLanes, mixed[v]);
          } else {
            put(branches + k * a.out_channels, group, mixed);
          }
          bits[k] |= signs(mixed) << (group * kTogether * Isa::kLanes);
        }
      }
      if (!a.bits) continue;
      for (int64_t k = 0; k < (a.gates ? a.bases : 1); ++k)
        store_bits(a, pixel, k, block, bits[k] & channels.mask());
    }
  }

 private:
  static constexpr int kTogether = 4;  // vectors; hides the latency of the sum over bases
  static constexpr int kGroups = kBlock / (kTogether * Isa::kLanes);

  static typename Isa::Float at(const float* from, int64_t base, int v) {
    return Isa::loadf(from + base * kLargestTile * kBlock + v * Isa::kLanes);
  }
  static uint64_t signs(const typename Isa::Float (&values)[kTogether]) {
    uint64_t bits = 0;
#pragma GCC unroll 4
    for (int v = 0; v < kTogether; ++v)
      bits |= static_cast<uint64_t>(Isa::not_negative(values[v])) << (v * Isa::kLanes);
    return bits;
  }
  void put(float* pixel, int group, const typename Isa::Float (&values)[kTogether]) const {
    float* to = pixel + block * kBlock + group * kTogether * Isa::kLanes;
#pragma GCC unroll 4
    for (int v = 0; v < kTogether; ++v) {
      const int count = channels.of(group * kTogether + v);
      store_lanes<Isa>(to + v * Isa::kLanes, values[v], count);
    }
  }
};

// 8-bit: scale, bias, ReLU.
template <class Isa>
struct Affine {
  static constexpr bool kMerges = false;
  static constexpr bool kTakesCounts = false;
  const ConvArgs& a;
  int64_t n, block;
  Channels<Isa> channels;

  Affine(const ConvArgs& args, int64_t n, int64_t, int64_t block, float*)
      : a(args), n(n), block(block), channels(args, block) {}

  template <int Pixels>
  void announce(int64_t, int64_t, int64_t) const {}

  template <int Pixels, int V>
  void take(int64_t, int first, int64_t y, int64_t x, typename Isa::Int (&sums)[Pixels][V]) {
    const int64_t pixel = pixel_of(a, n, y, x);
    const auto floor = Isa::setf(a.relu ? 0.0f : -__builtin_inff());
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const int channel = (first + v) * Isa::kLanes;
      const float* curve = a.curve + block * kBlock + channel;
      const auto scale = Isa::loadf(curve);
      const auto bias = Isa::loadf(curve + a.blocks * kBlock);
      const int count = channels.of(first + v);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) {
        const auto value = Isa::max(Isa::fma(Isa::to_float(sums[p][v]), scale, bias), floor);
        float* to =
            static_cast<float*>(a.out) + (pixel + p) * a.out_channels + block * kBlock + channel;
        store_lanes<Isa>(to, value, count);
      }
    }
  }
  template <int Pixels>
  void finish(int64_t, int64_t) {}
};

}  // namespace
}  // namespace binseg
