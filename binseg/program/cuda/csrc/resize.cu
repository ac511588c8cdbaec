// Bilinear and nearest resizing, and the class with the largest bilinearly interpolated score.
#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 256;

struct Source {
  int low, high;
  float weight;  // of `high`
};

// Where pixel `index` of `result` lies among `size` ones.
__device__ __forceinline__ Source find_source(int index, int size, int result, bool align_corners) {
  float at;
  if (align_corners) {
    const float scale =
        result > 1 ? __fdiv_rn(static_cast<float>(size - 1), static_cast<float>(result - 1)) : 0.0f;
    at = __fmul_rn(static_cast<float>(index), scale);
  } else {
    const float scale = __fdiv_rn(static_cast<float>(size), static_cast<float>(result));
    at = __fsub_rn(__fmul_rn(__fadd_rn(static_cast<float>(index), 0.5f), scale), 0.5f);
    at = fmaxf(at, 0.0f);
  }
  const float first = fminf(floorf(at), static_cast<float>(size - 1));
  const int low = static_cast<int>(first);
  return {low, min(low + 1, size - 1), fminf(fmaxf(__fsub_rn(at, first), 0.0f), 1.0f)};
}

__device__ __forceinline__ float blend(float weight, float first, float second) {
  return __fadd_rn(__fmul_rn(__fsub_rn(1.0f, weight), first), __fmul_rn(weight, second));
}

__device__ __forceinline__ int find_nearest(int index, int size, int result) {
  const float scale = __fdiv_rn(static_cast<float>(size), static_cast<float>(result));
  return min(static_cast<int>(__fmul_rn(static_cast<float>(index), scale)), size - 1);
}

__global__ void __launch_bounds__(kThreads)
    resize_kernel(const __grid_constant__ Resize size, const float* x, unsigned total, float* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  const unsigned channels = size.channels, columns = size.out_width, rows = size.out_height;
  unsigned index = own;
  const unsigned channel = index % channels;
  index /= channels;
  const int column = index % columns;
  index /= columns;
  const int row = index % rows;
  const float* image =
      x + static_cast<long long>(index / rows) * size.height * size.width * channels + channel;
  const auto read = [&](int y, int x) {
    return __ldg(image + (static_cast<long long>(y) * size.width + x) * channels);
  };
  if (!size.bilinear) {
    out[own] = read(find_nearest(row, size.height, size.out_height),
                    find_nearest(column, size.width, size.out_width));
    return;
  }
  const Source ys = find_source(row, size.height, size.out_height, size.align_corners);
  const Source xs = find_source(column, size.width, size.out_width, size.align_corners);
  const float left = blend(ys.weight, read(ys.low, xs.low), read(ys.high, xs.low));
  const float right = blend(ys.weight, read(ys.low, xs.high), read(ys.high, xs.high));
  out[own] = blend(xs.weight, left, right);
}

__global__ void __launch_bounds__(kThreads)
    upsample_kernel(const __grid_constant__ Strided scores, unsigned total, int height, int width,
                    uint8_t* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  const int rows = scores.sizes[2], columns = scores.sizes[3], classes = scores.sizes[4];
  const unsigned line = own / width;
  const Source x = find_source(own % width, columns, width, false);
  const Source y = find_source(line % height, rows, height, false);
  const float* top = static_cast<const float*>(scores.data) + line / height * scores.strides[1];
  const float* bottom = top + y.high * scores.strides[2];
  top += y.low * scores.strides[2];
  const long long left = x.low * scores.strides[3], right = x.high * scores.strides[3];
  float best = 0.0f;
  int winner = 0;
  for (int i = 0; i < classes; ++i) {
    const float score = blend(x.weight, blend(y.weight, __ldg(top + left), __ldg(bottom + left)),
                              blend(y.weight, __ldg(top + right), __ldg(bottom + right)));
    // nan counts as the largest, as in numpy and torch
    if (i == 0 || score > best || (score != score && best == best)) {
      best = score;
      winner = i;
    }
    top += scores.strides[4];
    bottom += scores.strides[4];
  }
  out[own] = static_cast<uint8_t>(winner);
}

}  // namespace

const char* resize(const Resize& size, const float* x, float* out, cudaStream_t stream) {
  const unsigned total =
      static_cast<unsigned>(size.images) * size.out_height * size.out_width * size.channels;
  return launch(resize_kernel, dim3((total + kThreads - 1) / kThreads), kThreads, 0, stream, size,
                x, total, out);
}

const char* upsample_argmax(const Strided& scores, int height, int width, uint8_t* out,
                            cudaStream_t stream) {
  const unsigned total = static_cast<unsigned>(scores.sizes[1]) * height * width;
  return launch(upsample_kernel, dim3((total + kThreads - 1) / kThreads), kThreads, 0, stream,
                scores, total, height, width, out);
}

}  // namespace binseg
