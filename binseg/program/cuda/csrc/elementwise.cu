// Operators that work on one number after the other, and sums in a fixed order.
#include "kernels.h"
#include "tanh.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 256;

unsigned blocks_of(long long count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

__device__ __forceinline__ float at(const Strided& x, const unsigned (&place)[5]) {
  long long offset = 0;
#pragma unroll
  for (int i = 0; i < 5; ++i) {
    offset += place[i] * x.strides[i];
  }
  return __ldg(static_cast<const float*>(x.data) + offset);
}

__global__ void __launch_bounds__(kThreads)
    fma_kernel(const __grid_constant__ Strided a, const __grid_constant__ Strided b,
               const __grid_constant__ Strided c, unsigned total, float* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  unsigned place[5], index = own;
#pragma unroll
  for (int i = 4; i >= 0; --i) {
    const unsigned size = a.sizes[i];
    place[i] = index % size;
    index /= size;
  }
  out[own] = __fmaf_rn(at(a, place), at(b, place), at(c, place));
}

__global__ void __launch_bounds__(kThreads)
    tanh_kernel(const float* x, unsigned total, bool sigmoid, float* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own < total) {
    const float value = __ldg(x + own);
    out[own] = sigmoid ? exact_sigmoid(value) : exact_tanh(value);
  }
}

__global__ void __launch_bounds__(kThreads)
    quantize_kernel(const float* x, unsigned total, float inverse_scale, float zero_point,
                    uint8_t* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own < total) {
    const float level = __fadd_rn(rintf(__fmul_rn(__ldg(x + own), inverse_scale)), zero_point);
    // fmaxf takes the other operand where one is nan
    out[own] = static_cast<uint8_t>(fminf(fmaxf(level, 0.0f), 255.0f));
  }
}

__device__ __forceinline__ float sum_of(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double sum_of(double a, double b) { return a + b; }

template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_kernel(const T* x, unsigned total, int count, int inner, T* out) {
  const unsigned own = blockIdx.x * kThreads + threadIdx.x;
  if (own >= total) {
    return;
  }
  const T* from = x + static_cast<long long>(own / inner) * count * inner + own % inner;
  T sum = 0;
  for (int i = 0; i < count; ++i) {
    sum = sum_of(sum, __ldg(from + static_cast<long long>(i) * inner));
  }
  out[own] = sum;
}

}  // namespace

const char* fma(const Strided& a, const Strided& b, const Strided& c, float* out,
                cudaStream_t stream) {
  long long total = 1;
  for (const long long size : a.sizes) {
    total *= size;
  }
  return launch(fma_kernel, dim3(blocks_of(total)), kThreads, 0, stream, a, b, c,
                static_cast<unsigned>(total), out);
}

const char* tanh(const float* x, long long count, bool sigmoid, float* out, cudaStream_t stream) {
  return launch(tanh_kernel, dim3(blocks_of(count)), kThreads, 0, stream, x,
                static_cast<unsigned>(count), sigmoid, out);
}

const char* quantize(const float* x, long long count, float inverse_scale, int zero_point,
                     uint8_t* out, cudaStream_t stream) {
  return launch(quantize_kernel, dim3(blocks_of(count)), kThreads, 0, stream, x,
                static_cast<unsigned>(count), inverse_scale, static_cast<float>(zero_point), out);
}

const char* ordered_sum(const void* x, bool is_double, int outer, int count, int inner, void* out,
                        cudaStream_t stream) {
  const unsigned total = static_cast<unsigned>(outer) * inner;
  const dim3 grid(blocks_of(total));
  if (is_double) {
    return launch(sum_kernel<double>, grid, kThreads, 0, stream, static_cast<const double*>(x),
                  total, count, inner, static_cast<double*>(out));
  }
  return launch(sum_kernel<float>, grid, kThreads, 0, stream, static_cast<const float*>(x), total,
                count, inner, static_cast<float*>(out));
}

}  // namespace binseg
