// The class with the largest bilinearly interpolated score.
#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 256;

struct Source {
  int low, high;
  float weight;  // of `high`
};

// Pixel centres lie at half-integers, as with align_corners=False.
__device__ __forceinline__ Source find_source(int index, float scale, int size) {
  const float place = fmaxf(0.0f, __fsub_rn(__fmul_rn(index + 0.5f, scale), 0.5f));
  const int low = min(static_cast<int>(place), size - 1);
  return Source{low, min(low + 1, size - 1), fminf(place - low, 1.0f)};
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
  const Source x = find_source(own % width, static_cast<float>(columns) / width, columns);
  const Source y = find_source(line % height, static_cast<float>(rows) / height, rows);
  const float* data =
      static_cast<const float*>(scores.data) + line / height * scores.strides[1];
  const float* top = data + y.low * scores.strides[2];
  const float* bottom = data + y.high * scores.strides[2];
  const long long left = x.low * scores.strides[3], right = x.high * scores.strides[3];
  const float near_x = 1.0f - x.weight, near_y = 1.0f - y.weight;
  float best = 0.0f;
  int winner = 0;
  for (int i = 0; i < classes; ++i) {
    const float upper = near_x * __ldg(top + left) + x.weight * __ldg(top + right);
    const float lower = near_x * __ldg(bottom + left) + x.weight * __ldg(bottom + right);
    const float score = near_y * upper + y.weight * lower;
    // nan counts as the largest, as in torch
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

const char* upsample_argmax(const Strided& scores, int height, int width, uint8_t* out,
                            cudaStream_t stream) {
  const unsigned total = static_cast<unsigned>(scores.sizes[1]) * height * width;
  return launch(upsample_kernel, dim3((total + kThreads - 1) / kThreads), kThreads, 0, stream,
                scores, total, height, width, out);
}

}  // namespace binseg
