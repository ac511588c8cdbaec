// 8-bit convolution, and the pooling of its sums.
#include "scalar_tile.cuh"

namespace binseg {
namespace {

// The places along a sum are words of four channels; `out` gets real values or, without a curve,
// sums.
__global__ void __launch_bounds__(kThreads)
    byte_kernel(const __grid_constant__ Window conv, int words, const uint32_t* bytes,
                const uint32_t* filters, const uint32_t* border, const float* curve, void* out) {
  const unsigned total = static_cast<unsigned>(conv.images) * conv.out_height * conv.out_width;
  const int length = conv.kernel[0] * conv.kernel[1] * words;
  const unsigned pixel = blockIdx.x * kTilePixels + brought_pixel();
  const Place place(conv, pixel < total ? pixel : 0);
  int sums[kOwn][kOwn] = {};
  add_products(
      filters + static_cast<long long>(blockIdx.y) * length * kTileChannels, length,
      [&](int index) {
        const int tap = index / words;
        const long long under = index < length && pixel < total ? place.under(conv, tap) : -1;
        const uint32_t* from = under < 0 ? border : bytes + under * words;
        return __ldg(from + (index - tap * words));
      },
      [](uint32_t a, uint32_t b, int sum) { return dot_bytes(a, b, sum); }, sums);

  const int channel = blockIdx.y * kTileChannels + own_channel();
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const unsigned target = blockIdx.x * kTilePixels + own_pixel() + i;
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
  const dim3 grid(pixel_tiles(pixels), channel_tiles(window.out_channels));
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
