// A tile of a convolution without tensor cores, 64 pixels × 64 channels by a CTA, 4 × 4 by a
// thread: what 8-bit and real convolutions share.
#pragma once

#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 256;
constexpr int kTilePixels = 64;
constexpr int kTileChannels = 64;
constexpr int kDepth = 16;  // places along the sum at a time: (tap, channel) or (tap, word)
constexpr int kOwn = 4;     // pixels, and channels, of one thread
constexpr int kPixelRow = kTilePixels + 4;

inline unsigned pixel_tiles(unsigned pixels) { return (pixels + kTilePixels - 1) / kTilePixels; }
inline unsigned channel_tiles(int channels) {
  return static_cast<unsigned>((channels + kTileChannels - 1) / kTileChannels);
}

// Where a pixel of the result reads.
struct Place {
  int image, top, left;

  __device__ __forceinline__ Place(const Window& window, unsigned pixel) {
    const unsigned columns = window.out_width, area = window.out_height * columns;
    const unsigned place = pixel % area;
    image = pixel / area;
    top = static_cast<int>(place / columns) * window.stride[0] - window.pads[0];
    left = static_cast<int>(place % columns) * window.stride[1] - window.pads[1];
  }

  // The input's pixel under a tap, or -1 where it lies outside.
  __device__ __forceinline__ long long under(const Window& window, int tap) const {
    const int ky = tap / window.kernel[1];
    const int row = top + ky * window.dilation[0];
    const int column = left + (tap - ky * window.kernel[1]) * window.dilation[1];
    if (row < 0 || row >= window.height || column < 0 || column >= window.width) {
      return -1;
    }
    return (static_cast<long long>(image) * window.height + row) * window.width + column;
  }
};

template <class Word>
struct FourOf;
template <>
struct FourOf<float> {
  using Type = float4;
  static __device__ __forceinline__ float4 zeros() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }
};
template <>
struct FourOf<uint32_t> {
  using Type = uint4;
  static __device__ __forceinline__ uint4 zeros() { return make_uint4(0, 0, 0, 0); }
};

// First of the four channels, and of the four pixels, that this thread sums, within the tile.
__device__ __forceinline__ int own_channel() { return threadIdx.x % 16 * kOwn; }
__device__ __forceinline__ int own_pixel() { return threadIdx.x / 16 * kOwn; }
// The pixel that this thread brings for all, within the tile.
__device__ __forceinline__ int brought_pixel() { return threadIdx.x % kTilePixels; }

// Adds `length` products to each of the thread's sums, in their order. `weight` has 64 channels for
// each place along the sum, `bring(place)` the word of the pixel that this thread brings.
template <class Word, class Sum, class Bring, class MultiplyAdd>
__device__ __forceinline__ void add_products(const Word* weight, int length, Bring bring,
                                             MultiplyAdd multiply_add, Sum (&sums)[kOwn][kOwn]) {
  using Four = typename FourOf<Word>::Type;
  __shared__ __align__(16) Word pixels[2][kDepth][kPixelRow];
  __shared__ __align__(16) Word weights[2][kDepth][kTileChannels];
  const int thread = threadIdx.x, first_depth = thread / kTilePixels;

  Word next_pixel[kOwn];
  Four next_weight;
  const auto fetch = [&](int depth) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      next_pixel[i] = bring(depth + first_depth + i * (kThreads / kTilePixels));
    }
    const int index = depth + thread / (kTileChannels / 4);
    next_weight = FourOf<Word>::zeros();
    if (index < length) {
      next_weight = __ldg(reinterpret_cast<const Four*>(
          weight + static_cast<long long>(index) * kTileChannels + own_channel()));
    }
  };

  fetch(0);
  for (int depth = 0, stage = 0; depth < length; depth += kDepth, stage ^= 1) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      pixels[stage][first_depth + i * (kThreads / kTilePixels)][brought_pixel()] = next_pixel[i];
    }
    *reinterpret_cast<Four*>(&weights[stage][thread / 16][own_channel()]) = next_weight;
    __syncthreads();  // with two stages one barrier is enough
    if (depth + kDepth < length) {
      fetch(depth + kDepth);
    }
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      const Four a = *reinterpret_cast<const Four*>(&pixels[stage][k][own_pixel()]);
      const Four b = *reinterpret_cast<const Four*>(&weights[stage][k][own_channel()]);
      const Word as[kOwn] = {a.x, a.y, a.z, a.w}, bs[kOwn] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j) {
          sums[i][j] = multiply_add(as[i], bs[j], sums[i][j]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace binseg
