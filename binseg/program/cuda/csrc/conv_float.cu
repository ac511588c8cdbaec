// Convolution of real numbers: fma over taps and channels, one after the other, so that sums are
// those of docs/program.md bit for bit. No library adds in a given order.
#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 256;
constexpr int kTilePixels = 64;
constexpr int kTileChannels = 64;
constexpr int kDepth = 16;  // (tap, channel) pairs at a time
constexpr int kOwn = 4;     // pixels, and channels, of one thread
constexpr int kPixelRow = kTilePixels + 4;
constexpr int kFewChannels = 8;

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

  // The first channel under a tap, or null where it lies outside.
  __device__ __forceinline__ const float* under(const Window& window, const float* x,
                                                int tap) const {
    const int ky = tap / window.kernel[1];
    const int row = top + ky * window.dilation[0];
    const int column = left + (tap - ky * window.kernel[1]) * window.dilation[1];
    if (row < 0 || row >= window.height || column < 0 || column >= window.width) {
      return nullptr;
    }
    const long long pixel = (static_cast<long long>(image) * window.height + row) * window.width;
    return x + (pixel + column) * window.channels * window.groups;
  }
};

// 64 pixels × 64 channels of one group by a CTA, 4 × 4 by a thread.
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const __grid_constant__ Window window, const float* x, const float* weight,
                const float* bias, float* out) {
  __shared__ __align__(16) float pixels[2][kDepth][kPixelRow];
  __shared__ __align__(16) float weights[2][kDepth][kTileChannels];
  const int thread = threadIdx.x;
  const unsigned total =
      static_cast<unsigned>(window.images) * window.out_height * window.out_width;
  const int channels = window.channels;
  const int length = window.kernel[0] * window.kernel[1] * channels;
  const int columns = (window.out_channels + kTileChannels - 1) / kTileChannels;
  const int group = blockIdx.y / columns, block = blockIdx.y % columns;

  // every thread brings channels of one pixel
  const int brought = thread % kTilePixels, first_depth = thread / kTilePixels;
  const unsigned pixel = blockIdx.x * kTilePixels + brought;
  const Place place(window, pixel < total ? pixel : 0);
  weight += static_cast<long long>(blockIdx.y) * length * kTileChannels;

  float next_pixel[kOwn];
  float4 next_weight;
  const auto fetch = [&](int depth) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int index = depth + first_depth + i * (kThreads / kTilePixels);
      next_pixel[i] = 0.0f;
      if (index < length && pixel < total) {
        const int tap = index / channels;
        const float* from = place.under(window, x, tap);
        if (from != nullptr) {
          next_pixel[i] = __ldg(from + group * channels + (index - tap * channels));
        }
      }
    }
    const int index = depth + thread / (kTileChannels / 4);
    next_weight = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (index < length) {
      next_weight = __ldg(reinterpret_cast<const float4*>(
          weight + static_cast<long long>(index) * kTileChannels + thread % 16 * 4));
    }
  };

  const int own_channel = thread % 16 * kOwn, own_pixel = thread / 16 * kOwn;
  const int channel = block * kTileChannels + own_channel;
  const int first_channel = group * window.out_channels + channel;
  float sums[kOwn][kOwn];
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const float start = bias != nullptr && channel + j < window.out_channels
                            ? __ldg(bias + first_channel + j)
                            : 0.0f;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      sums[i][j] = start;
    }
  }
  fetch(0);
  for (int depth = 0, stage = 0; depth < length; depth += kDepth, stage ^= 1) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      pixels[stage][first_depth + i * (kThreads / kTilePixels)][brought] = next_pixel[i];
    }
    *reinterpret_cast<float4*>(&weights[stage][thread / 16][own_channel]) = next_weight;
    __syncthreads();  // with two stages one barrier is enough
    if (depth + kDepth < length) {
      fetch(depth + kDepth);
    }
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      const float4 a = *reinterpret_cast<const float4*>(&pixels[stage][k][own_pixel]);
      const float4 b = *reinterpret_cast<const float4*>(&weights[stage][k][own_channel]);
      const float as[kOwn] = {a.x, a.y, a.z, a.w}, bs[kOwn] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j) {
          sums[i][j] = __fmaf_rn(as[i], bs[j], sums[i][j]);
        }
      }
    }
  }

#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const unsigned target = blockIdx.x * kTilePixels + own_pixel + i;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      if (target < total && channel + j < window.out_channels) {
        out[static_cast<long long>(target) * window.groups * window.out_channels + first_channel +
            j] = sums[i][j];
      }
    }
  }
}

// A thread makes one channel of one pixel: for groups of few channels.
__global__ void __launch_bounds__(kThreads)
    single_kernel(const __grid_constant__ Window window, const float* x, const float* weight,
                  const float* bias, unsigned total, float* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  const unsigned channels = window.groups * window.out_channels;
  const int channel = own % channels, group = channel / window.out_channels;
  const Place place(window, own / channels);
  const int taps = window.kernel[0] * window.kernel[1];
  const float* w = weight + static_cast<long long>(group) * taps * window.channels * kTileChannels +
                   channel % window.out_channels;
  float sum = bias == nullptr ? 0.0f : __ldg(bias + channel);
  for (int tap = 0; tap < taps; ++tap) {
    const float* from = place.under(window, x, tap);
    for (int c = 0; from != nullptr && c < window.channels; ++c) {
      const int index = tap * window.channels + c;
      sum = __fmaf_rn(__ldg(from + group * window.channels + c),
                      __ldg(w + static_cast<long long>(index) * kTileChannels), sum);
    }
  }
  out[own] = sum;
}

}  // namespace

const char* conv_float(const Window& window, const float* x, const float* weight, const float* bias,
                       float* out, cudaStream_t stream) {
  const unsigned pixels =
      static_cast<unsigned>(window.images) * window.out_height * window.out_width;
  if (window.out_channels < kFewChannels) {
    const unsigned total = pixels * window.groups * window.out_channels;
    return launch(single_kernel, dim3((total + kThreads - 1) / kThreads), kThreads, 0, stream,
                  window, x, weight, bias, total, out);
  }
  const int columns = (window.out_channels + kTileChannels - 1) / kTileChannels;
  return launch(tile_kernel,
                dim3((pixels + kTilePixels - 1) / kTilePixels, window.groups * columns), kThreads,
                0, stream, window, x, weight, bias, out);
}

}  // namespace binseg
