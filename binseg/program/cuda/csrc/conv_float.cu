// Convolution of real numbers: fma over taps and channels, one after the other, so that sums are
// those of docs/program.md bit for bit. No library adds in a given order.
#include "scalar_tile.cuh"

namespace binseg {
namespace {

constexpr int kFewChannels = 8;

__device__ __forceinline__ const float* channels_under(const Window& window, const Place& place,
                                                       const float* x, int tap) {
  const long long pixel = place.under(window, tap);
  return pixel < 0 ? nullptr : x + pixel * window.channels * window.groups;
}

// The tile's channels are of one group.
__global__ void __launch_bounds__(kThreads)
    tile_kernel(const __grid_constant__ Window window, const float* x, const float* weight,
                const float* bias, float* out) {
  const unsigned total =
      static_cast<unsigned>(window.images) * window.out_height * window.out_width;
  const int channels = window.channels;
  const int length = window.kernel[0] * window.kernel[1] * channels;
  const int columns = gridDim.y / window.groups;
  const int group = blockIdx.y / columns, block = blockIdx.y % columns;
  const unsigned pixel = blockIdx.x * kTilePixels + brought_pixel();
  const Place place(window, pixel < total ? pixel : 0);
  const int channel = block * kTileChannels + own_channel();
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
  add_products(
      weight + static_cast<long long>(blockIdx.y) * length * kTileChannels, length,
      [&](int index) {
        if (index >= length || pixel >= total) {
          return 0.0f;
        }
        const int tap = index / channels;
        const float* from = channels_under(window, place, x, tap);
        return from == nullptr ? 0.0f : __ldg(from + group * channels + (index - tap * channels));
      },
      [](float a, float b, float sum) { return __fmaf_rn(a, b, sum); }, sums);

#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const unsigned target = blockIdx.x * kTilePixels + own_pixel() + i;
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
    const float* from = channels_under(window, place, x, tap);
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
  const dim3 grid(pixel_tiles(pixels), window.groups * channel_tiles(window.out_channels));
  return launch(tile_kernel, grid, kThreads, 0, stream, window, x, weight, bias, out);
}

}  // namespace binseg
