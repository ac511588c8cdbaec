// What the binding hands to the kernels of one instruction set. Plain data, no torch, no std types:
// each instruction set is compiled with flags of its own, and code shared with it by accident (an
// inline function of the standard library, say) could be the copy that the linker keeps.
#pragma once

#include <cstddef>
#include <cstdint>

namespace binseg {

constexpr int kBlock = 64;  // output channels that lie side by side in packed weights
constexpr int kMostBases = 8;
constexpr int kLargestTile = 8;  // pixels; no instruction set takes more at once

// One position of the kernel, seen from output pixel (0, 0).
struct Tap {
  int64_t row;     // of the input; may lie outside
  int64_t column;  // pixel of the padded row, or -1 where every output pixel reads the border
};

// A convolution of bits or bytes; a "word" is 32 channels of one bit or 4 of one byte.
struct ConvArgs {
  const uint32_t* image;             // [n][height][padded width][in_bases * words]
  const uint32_t* border_row;        // the same, of border words only
  int64_t image_stride, row_stride;  // in words
  int64_t height;
  int64_t pixel_step;  // words from the input of one output pixel to that of the next
  int64_t in_bases, in_words;
  int64_t batch, out_height, out_width, out_channels, blocks, bases, stride;

  const Tap* taps;  // [bases][tap_count]
  int64_t tap_count;
  int64_t run;             // words of one tap that lie side by side in image and weights
  const uint32_t* weight;  // [bases][blocks][tap_count][run][64]
  int32_t terms;           // bits: the sum is terms - 2 * popcount; bytes: unused

  // Zero padding of bits: what to add to the sums of pixels near the border; null elsewhere.
  const int32_t* const* corrections;  // [bases][row classes][column classes] -> [blocks * 64]
  const int32_t* row_class;           // [bases][out_height]
  const int32_t* column_class;        // [bases][out_width]
  int64_t row_classes, column_classes;

  // epilogues
  // Of the sums, or where `corrections` is null of the counts: [bases][blocks * 64].
  const uint32_t *low, *span;
  const float* curve;     // [3][bases][blocks * 64]; bytes: [2][blocks * 64]
  const float* post;      // [4][bases][blocks * 64] or null
  const float* residual;  // [n][out_height][out_width][residual_bases][out_channels] or null
  bool one_sided;         // the curve is flat below zero
  int64_t residual_bases;
  const float *lambdas, *gates;  // [bases]; gates may be null
  bool relu;

  void* out;       // [n][out_height][out_width][bases][out_channels]
  float* merged;   // [n][out_height][out_width][out_channels] or null
  uint32_t* bits;  // [n][out_height][out_width][bases or 1][bit_words] or null
  int64_t bit_words, bit_bases;
  bool streams;  // `out` is too large to stay in a cache until it is read

  int64_t rows_per_task;
};

// Sign or quantization of a real map with any strides, in elements.
struct MapArgs {
  const void* x;
  bool bfloat16;
  int64_t batch, height, width, bases, channels;
  int64_t stride_n, stride_h, stride_w, stride_b, stride_c;
  const float* affine;    // signs: [n or 1][2][bases * channels] or null
  int64_t affine_stride;  // from one picture to the next, or 0
  void* out;              // bits: [n][h][w][bases][words]; bytes: [n][h][w][4 * fours]
  float inverse_scale;
  int32_t zero_point;
};

struct UpsampleArgs {
  const float* scores;  // [n][in_height][in_width][classes]
  int64_t batch, in_height, in_width, classes, height, width;
  const int32_t *top, *left;         // [height], [width]: index of the source pixel above / before
  const float *weight_y, *weight_x;  // of the source pixel below / after, in [0, 1)
  uint8_t* out;                      // [n][height][width]
};

using ConvKernel = void (*)(const ConvArgs&, int64_t begin, int64_t end, void* scratch);
using MapKernel = void (*)(const MapArgs&, int64_t begin, int64_t end);

// Tasks of a convolution, of which a call does [begin, end): base-major (where bases are apart),
// then blocks, then groups of rows.
struct Kernels {
  const char* name;
  ConvKernel sum32, sum16, bits, real, real_tanh, real_post, real_tanh_post, merge, merge_tanh,
      int8, int8_pool;
  MapKernel pack_sign, quantize;  // tasks are rows: batch * height
  void (*upsample)(const UpsampleArgs&, int64_t begin, int64_t end);
};

// Bytes of scratch memory that one task needs.
inline int64_t scratch_bytes(const ConvArgs& a, bool merge, bool pool) {
  int64_t bytes = a.bases * a.tap_count * sizeof(void*) + 64;
  if (merge) bytes += a.bases * kLargestTile * kBlock * sizeof(float);
  if (pool) bytes += 4 * a.out_width * kBlock * sizeof(int32_t);
  return bytes + 64;
}

}  // namespace binseg
