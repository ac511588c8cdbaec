// 8-bit convolution and what stands before and behind it: for the first layer of a network.
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

__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const __grid_constant__ Strided x, float inverse_scale, float zero_point,
                    unsigned total, uint32_t* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  const unsigned fours = static_cast<unsigned>(x.sizes[4] + 3) / 4;
  const unsigned columns = x.sizes[3], rows = x.sizes[2];
  unsigned index = own;
  const unsigned four = index % fours;
  index /= fours;
  const unsigned column = index % columns;
  index /= columns;
  const unsigned row = index % rows;
  const float* data = static_cast<const float*>(x.data) + index / rows * x.strides[1] +
                      row * x.strides[2] + column * x.strides[3];
  uint32_t word = 0;
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    if (four * 4 + i < x.sizes[4]) {
      const float value = __ldg(data + (four * 4 + i) * x.strides[4]);
      const float level = __fadd_rn(rintf(__fmul_rn(value, inverse_scale)), zero_point);
      // fmaxf takes the other operand where one is nan
      word |= static_cast<uint32_t>(fminf(fmaxf(level, 0.0f), 255.0f)) << (8 * i);
    }
  }
  out[own] = word;
}

// 64 pixels × 64 channels by a CTA, 4 × 4 by a thread; `out` gets real values or, without a curve,
// sums.
__global__ void __launch_bounds__(kThreads)
    byte_kernel(const __grid_constant__ ByteConv conv, const float* curve, bool relu, void* out) {
  __shared__ __align__(16) uint32_t pixels[2][kDepth][kPixelRow];
  __shared__ __align__(16) uint32_t weights[2][kDepth][kTileChannels];
  const int thread = threadIdx.x;
  const unsigned total = static_cast<unsigned>(conv.images) * conv.out_height * conv.out_width;
  const int length = conv.kernel_height * conv.kernel_width * conv.words;
  const uint32_t border = static_cast<uint32_t>(conv.zero_point) * 0x01010101u;

  // every thread brings words of one pixel
  const int brought = thread % kTilePixels, first_depth = thread / kTilePixels;
  const unsigned pixel = blockIdx.x * kTilePixels + brought;
  const unsigned columns = conv.out_width, area = conv.out_height * columns;
  const int image = pixel / area;
  const int place = pixel % area;
  const int top = static_cast<int>(place / columns) * conv.stride -
                  conv.dilation * (conv.kernel_height - 1) / 2;
  const int left = static_cast<int>(place % columns) * conv.stride -
                   conv.dilation * (conv.kernel_width - 1) / 2;
  const uint32_t* weight =
      conv.weight + static_cast<long long>(blockIdx.y) * length * kTileChannels;

  uint32_t next_pixel[kOwn];
  uint4 next_weight;
  const auto fetch = [&](int depth) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int index = depth + first_depth + i * (kThreads / kTilePixels);
      const int tap = index / conv.words;
      const int ky = tap / conv.kernel_width;
      const int y = top + ky * conv.dilation;
      const int x = left + (tap - ky * conv.kernel_width) * conv.dilation;
      const bool inside = y >= 0 && y < conv.height && x >= 0 && x < conv.width;
      next_pixel[i] = border;
      if (inside && index < length && pixel < total) {
        const long long row = static_cast<long long>(image) * conv.height + y;
        next_pixel[i] = __ldg(conv.x + (row * conv.width + x) * conv.words + index % conv.words);
      }
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
      const float scaled = __fmul_rn(static_cast<float>(sums[i][j]), __ldg(curve + channel + j));
      const float value = __fadd_rn(scaled, __ldg(curve + conv.out_channels + channel + j));
      static_cast<float*>(out)[at] = relu && value < 0.0f ? 0.0f : value;
    }
  }
}

// A warp makes 32 channels of one pixel: the largest of up to nine sums, then its value and sign.
__global__ void __launch_bounds__(kThreads)
    pool_kernel(const int* sums, unsigned total, int height, int width, int channels,
                const float* curve, float* out, uint32_t* signs) {
  const int lane = threadIdx.x % kWarp;
  const unsigned words = (channels + 31) / 32;
  const unsigned index = blockIdx.x * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (index >= total) {
    return;  // a whole warp at a time
  }
  const unsigned pixel = index / words, channel = index % words * 32 + lane;
  const unsigned columns = (width + 1) / 2, rows = (height + 1) / 2;
  const int x = pixel % columns * 2, y = pixel / columns % rows * 2;
  const long long image = pixel / columns / rows;
  const bool exists = channel < static_cast<unsigned>(channels);
  float value = -1.0f;
  if (exists) {
    int best = INT32_MIN;
    for (int row = max(0, y - 1); row < min(height, y + 2); ++row) {
      for (int column = max(0, x - 1); column < min(width, x + 2); ++column) {
        best = max(best, __ldg(sums + ((image * height + row) * width + column) * channels +
                               channel));
      }
    }
    value = __fadd_rn(__fmul_rn(static_cast<float>(best), __ldg(curve + channel)),
                      __ldg(curve + channels + channel));
    out[static_cast<long long>(pixel) * channels + channel] = value;
  }
  const uint32_t word = ballot(exists && value >= 0.0f);
  if (lane == 0) {
    signs[index] = word;
  }
}

}  // namespace

const char* quantize(const Strided& x, float inverse_scale, int zero_point, uint32_t* out,
                     cudaStream_t stream) {
  const long long fours = (x.sizes[4] + 3) / 4;
  const unsigned total = static_cast<unsigned>(x.sizes[1] * x.sizes[2] * x.sizes[3] * fours);
  return launch(quantize_kernel, dim3((total + kThreads - 1) / kThreads), kThreads, 0, stream, x,
                inverse_scale, static_cast<float>(zero_point), total, out);
}

const char* conv_int8(const ByteConv& conv, const float* curve, bool relu, void* out,
                      cudaStream_t stream) {
  const unsigned pixels = static_cast<unsigned>(conv.images) * conv.out_height * conv.out_width;
  const dim3 grid((pixels + kTilePixels - 1) / kTilePixels,
                  (conv.out_channels + kTileChannels - 1) / kTileChannels);
  return launch(byte_kernel, grid, kThreads, 0, stream, conv, curve, relu, out);
}

const char* pool_sums(const int* sums, int images, int height, int width, int channels,
                      const float* curve, float* out, uint32_t* signs, cudaStream_t stream) {
  const unsigned pixels = static_cast<unsigned>(images) * ((height + 1) / 2) * ((width + 1) / 2);
  const unsigned total = pixels * ((channels + 31) / 32);
  constexpr unsigned kWarps = kThreads / kWarp;
  return launch(pool_kernel, dim3((total + kWarps - 1) / kWarps), kThreads, 0, stream, sums, total,
                height, width, channels, curve, out, signs);
}

}  // namespace binseg
