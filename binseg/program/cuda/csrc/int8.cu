// 8-bit convolution, and the pooling of its sums.
#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 256;
constexpr int kTilePixels = 64;
constexpr int kTileChannels = 64;
constexpr int kDepth = 16;  // words of four channels at a time
constexpr int kOwn = 4;     // pixels, and channels, of one thread
constexpr int kPixelRow = kTilePixels + 4;

// 64 pixels × 64 channels by a CTA, 4 × 4 by a thread; `out` gets real values or, without a curve,
// sums.
__global__ void __launch_bounds__(kThreads)
    byte_kernel(const __grid_constant__ Window conv, int words, const uint32_t* bytes,
                const uint32_t* filters, const uint32_t* border, const float* curve, void* out) {
  __shared__ __align__(16) uint32_t pixels[2][kDepth][kPixelRow];
  __shared__ __align__(16) uint32_t weights[2][kDepth][kTileChannels];
  const int thread = threadIdx.x;
  const unsigned total = static_cast<unsigned>(conv.images) * conv.out_height * conv.out_width;
  const int length = conv.kernel[0] * conv.kernel[1] * words;

  // every thread brings words of one pixel
  const int brought = thread % kTilePixels, first_depth = thread / kTilePixels;
  const unsigned pixel = blockIdx.x * kTilePixels + brought;
  const unsigned columns = conv.out_width, area = conv.out_height * columns;
  const int image = pixel / area;
  const int place = pixel % area;
  const int top = static_cast<int>(place / columns) * conv.stride[0] - conv.pads[0];
  const int left = static_cast<int>(place % columns) * conv.stride[1] - conv.pads[1];
  const uint32_t* weight = filters + static_cast<long long>(blockIdx.y) * length * kTileChannels;

  uint32_t next_pixel[kOwn];
  uint4 next_weight;
  const auto fetch = [&](int depth) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int index = depth + first_depth + i * (kThreads / kTilePixels);
      const int tap = index / words;
      const int ky = tap / conv.kernel[1];
      const int y = top + ky * conv.dilation[0];
      const int x = left + (tap - ky * conv.kernel[1]) * conv.dilation[1];
      const bool inside = y >= 0 && y < conv.height && x >= 0 && x < conv.width;
      const uint32_t* from = border;
      if (inside && index < length && pixel < total) {
        const long long row = static_cast<long long>(image) * conv.height + y;
        from = bytes + (row * conv.width + x) * words;
      }
      next_pixel[i] = __ldg(from + index % words);
    }
    const int index = depth + thread / (kTileChannels / 4);
    next_weight = make_uint4(0, 0, 0, 0);
    if (index < length) {
      next_weight = __ldg(reinterpret_cast<const uint4*>(
          weight + static_cast<long long>(index) * kTileChannels + thread % 16 * 4));
    }
  };

  int sums[kOwn][kOwn] = {};
  const int own_channel = thread % 16 * kOwn, own_pixel = thread / 16 * kOwn;
  fetch(0);
  for (int depth = 0, stage = 0; depth < length; depth += kDepth, stage ^= 1) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      pixels[stage][first_depth + i * (kThreads / kTilePixels)][brought] = next_pixel[i];
    }
    *reinterpret_cast<uint4*>(&weights[stage][thread / 16][own_channel]) = next_weight;
    __syncthreads();  // with two stages one barrier is enough
    if (depth + kDepth < length) {
      fetch(depth + kDepth);
    }
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      const uint4 a = *reinterpret_cast<const uint4*>(&pixels[stage][k][own_pixel]);
      const uint4 b = *reinterpret_cast<const uint4*>(&weights[stage][k][own_channel]);
      const uint32_t as[kOwn] = {a.x, a.y, a.z, a.w}, bs[kOwn] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j) {
          sums[i][j] = dot_bytes(as[i], bs[j], sums[i][j]);
        }
      }
    }
  }

  const int channel = blockIdx.y * kTileChannels + own_channel;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const unsigned target = blockIdx.x * kTilePixels + own_pixel + i;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      if (target >= total || channel + j >= conv.out_channels) {
        continue;
      }
      const unsigned at = target * conv.out_channels + channel + j;
      if (curve == nullptr) {
        static_cast<int*>(out)[at] = sums[i][j];
        continue;
      }
      static_cast<float*>(out)[at] =
          __fmaf_rn(static_cast<float>(sums[i][j]), __ldg(curve + channel + j),
                    __ldg(curve + conv.out_channels + channel + j));
    }
  }
}

// The largest of up to nine sums, then its value.
__global__ void __launch_bounds__(kThreads)
    pool_kernel(const int* sums, unsigned total, int height, int width, int channels,
                const float* curve, float* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  const unsigned pixel = own / channels, channel = own % channels;
  const unsigned columns = (width + 1) / 2, rows = (height + 1) / 2;
  const int x = pixel % columns * 2, y = pixel / columns % rows * 2;
  const long long image = pixel / columns / rows;
  int best = INT32_MIN;
  for (int row = max(0, y - 1); row < min(height, y + 2); ++row) {
    for (int column = max(0, x - 1); column < min(width, x + 2); ++column) {
      best =
          max(best, __ldg(sums + ((image * height + row) * width + column) * channels + channel));
    }
  }
  out[own] = __fmaf_rn(static_cast<float>(best), __ldg(curve + channel),
                       __ldg(curve + channels + channel));
}

}  // namespace

const char* conv_int8(const Window& window, const uint32_t* x, const uint32_t* weight,
                      const uint32_t* border, const float* curve, void* out, cudaStream_t stream) {
  const unsigned pixels =
      static_cast<unsigned>(window.images) * window.out_height * window.out_width;
  const dim3 grid((pixels + kTilePixels - 1) / kTilePixels,
                  (window.out_channels + kTileChannels - 1) / kTileChannels);
  return launch(byte_kernel, grid, kThreads, 0, stream, window, (window.channels + 3) / 4, x,
                weight, border, curve, out);
}

const char* pool_sums(const int* sums, int images, int height, int width, int channels,
                      const float* curve, float* out, cudaStream_t stream) {
  const unsigned total =
      static_cast<unsigned>(images) * ((height + 1) / 2) * ((width + 1) / 2) * channels;
  return launch(pool_kernel, dim3((total + kThreads - 1) / kThreads), kThreads, 0, stream, sums,
                total, height, width, channels, curve, out);
}

}  // namespace binseg
