// Every launcher: pointers to device memory, sizes, a stream. Each returns null or what went wrong.
// What they compute is docs/program.md; `fma` there is __fmaf_rn here, all else is rounded by
// itself.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef BINSEG_EMULATED
#include "emulation.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace binseg {

constexpr int kMostBases = 8;

enum class EngineKind { kCudaCores = 0, kTensorCores = 1, kWarpGroups = 2 };

// A binary convolution. `weight` is in the order of MMA fragments and `table` holds the constants
// of its sums; both come from weights.py, where their layouts are described.
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
  int terms;       // of a sum
  int steps;       // of 8 words, that cover taps · words
  bool corrected;  // whether border pixels need the table's rectangle sums
  EngineKind engine;
  int rows;  // pixels of a tile on tensor cores: 128, 64 or 32
  size_t shared_limit;
  int dilations[kMostBases];
};

// f(s): see `conv_real` in docs/program.md.
struct Curve {
  const float* values;  // (3, bases · out_channels)
  bool tanh;
};

const char* conv_bits(const Conv& conv, const int* low, const int* span, uint32_t* out,
                      cudaStream_t stream);

struct Real {
  Curve curve;
  const float* residual;  // or null
  int residual_bases;
  const float* post;  // (4, bases · out_channels) or null: before, slope, after, threshold
  float* out;         // or null
  uint32_t* signs;    // or null
};
const char* conv_real(const Conv& conv, const Real& real, cudaStream_t stream);

struct Merge {
  Curve curve;
  const float* residual;  // or null
  int residual_bases;
  const float* post;  // (3, bases · out_channels) or null: before, slope, after of each branch
  const float* lambdas;
  const float* gates;      // or null
  const float* threshold;  // or null: of all branches with gates, else of the merged map
  float* branches;         // null without gates
  float* merged;           // or null
  uint32_t* signs;         // or null
};
const char* conv_merge(const Conv& conv, const Merge& merge, cudaStream_t stream);

// A map of any strides, in elements; innermost dimension last.
struct Strided {
  const void* data;
  long long sizes[5];
  long long strides[5];
};

// x: (N, H, W, bases, C); affine: (2, bases · C), gains and shifts, or null.
const char* pack_sign(const Strided& x, bool bfloat16, const float* affine, uint32_t* out,
                      cudaStream_t stream);

// A map (N, H, W, C) seen through a window; the channels are `groups` side by side.
struct Window {
  int images, height, width, channels;  // of one group
  int groups;
  int out_height, out_width, out_channels;  // of one group
  int kernel[2], stride[2], pads[2], dilation[2];
};

// x: four channels to a word. `border`: words of one pixel. `curve`: (2, C_out), or null where
// `out` is to hold the sums as int32.
const char* conv_int8(const Window& window, const uint32_t* x, const uint32_t* weight,
                      const uint32_t* border, const float* curve, void* out, cudaStream_t stream);

const char* pool_sums(const int* sums, int images, int height, int width, int channels,
                      const float* curve, float* out, cudaStream_t stream);

// weight: (groups, blocks of 64 channels, taps · channels, 64); bias: (groups · C_out,) or null.
const char* conv_float(const Window& window, const float* x, const float* weight, const float* bias,
                       float* out, cudaStream_t stream);

// Elementwise; a, b and c are of one size, and strides may be 0.
const char* fma(const Strided& a, const Strided& b, const Strided& c, float* out,
                cudaStream_t stream);
const char* tanh(const float* x, long long count, bool sigmoid, float* out, cudaStream_t stream);
const char* quantize(const float* x, long long count, float inverse_scale, int zero_point,
                     uint8_t* out, cudaStream_t stream);

// (outer, count, inner) → (outer, inner): sums one after the other.
const char* ordered_sum(const void* x, bool is_double, int outer, int count, int inner, void* out,
                        cudaStream_t stream);

struct Resize {
  int images, height, width, channels;
  int out_height, out_width;
  bool bilinear, align_corners;
};
const char* resize(const Resize& resize, const float* x, float* out, cudaStream_t stream);

// scores: (1, N, h, w, C).
const char* upsample_argmax(const Strided& scores, int height, int width, uint8_t* out,
                            cudaStream_t stream);

}  // namespace binseg
