// Every launcher: pointers to device memory, sizes, a stream. Each returns null or what went wrong.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef BINSEG_EMULATED
#include "emulation.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace binseg {

constexpr int kMostBases = 64;

enum class EngineKind { kCudaCores = 0, kTensorCores = 1, kWarpGroups = 2 };

// A binary convolution. `weight` is in the order of MMA fragments and `table` holds the constants
// of its sums; both come from binseg/kernels/cuda.py, where their layouts are described.
struct Conv {
  const uint32_t* bits;
  const uint32_t* weight;
  const int* table;
  int images, height, width;
  int out_height, out_width;
  int words;        // of one base, in one pixel
  int input_bases;  // 1 or `bases`
  int kernel_height, kernel_width, stride;
  int bases, out_channels;
  int steps;         // of 8 words, that cover taps · words
  bool corrected;    // whether border pixels need the table's rectangle sums
  EngineKind engine;
  int rows;  // pixels of a tile on tensor cores: 128, 64 or 32
  size_t shared_limit;
  int dilations[kMostBases];
};

// f(s): see `conv_real` in binseg/kernels/ops.py.
struct Curve {
  const float* values;  // (3, bases · out_channels)
  bool tanh;
};

const char* conv_sum(const Conv& conv, void* out, bool narrow, cudaStream_t stream);

const char* conv_bits(const Conv& conv, const int* low, const int* span, uint32_t* out,
                      cudaStream_t stream);

struct Real {
  Curve curve;
  const float* residual;  // or null
  int residual_bases;
  const float* post;  // (4, bases · out_channels) or null
  float* out;
  uint32_t* signs;  // or null
};
const char* conv_real(const Conv& conv, const Real& real, cudaStream_t stream);

struct Merge {
  Curve curve;
  const float* residual;
  int residual_bases;
  const float* lambdas;
  const float* gates;  // or null
  float* branches;     // null without gates
  float* merged;       // or null
  uint32_t* signs;     // or null
};
const char* conv_merge(const Conv& conv, const Merge& merge, cudaStream_t stream);

// A map of any strides, in elements; innermost dimension last.
struct Strided {
  const void* data;
  long long sizes[5];
  long long strides[5];
};

// Rows of `bases · C` gains and shifts, for all pictures or for each.
struct Affine {
  const float* values;  // (2, bases · C) or (N, 2, bases · C); null for none
  long long stride;     // from one picture to the next, or 0
};

// x: (N, H, W, bases, C).
const char* pack_sign(const Strided& x, bool bfloat16, const Affine& affine, uint32_t* out,
                      cudaStream_t stream);

// x: (1, N, H, W, C).
const char* quantize(const Strided& x, float inverse_scale, int zero_point, uint32_t* out,
                     cudaStream_t stream);

struct ByteConv {
  const uint32_t* x;  // four channels to a word
  const uint32_t* weight;
  int images, height, width;
  int out_height, out_width;
  int words;
  int kernel_height, kernel_width, stride, dilation;
  int out_channels;
  int zero_point;
};

// curve: (2, C_out), or null where `out` is to hold the sums as int32.
const char* conv_int8(const ByteConv& conv, const float* curve, bool relu, void* out,
                      cudaStream_t stream);

const char* pool_sums(const int* sums, int images, int height, int width, int channels,
                      const float* curve, float* out, uint32_t* signs, cudaStream_t stream);

// scores: (1, N, h, w, C).
const char* upsample_argmax(const Strided& scores, int height, int width, uint8_t* out,
                            cudaStream_t stream);

// Chains of tensor-core instructions, for measuring their rate: `blocks` CTAs of 128 threads run
// `rounds` rounds. A round of a CTA is 64 products of 16 × 8 × 256 bits, or 16 of 64 × 256 × 256.
const char* mma_rate(int blocks, int rounds, int* out, cudaStream_t stream);
const char* wgmma_rate(int blocks, int rounds, int* out, cudaStream_t stream);

}  // namespace binseg
