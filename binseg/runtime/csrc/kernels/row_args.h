// What operators other than convolutions of bits and bytes hand to their kernels. A kernel makes
// rows of float32 results, some pixels at a time, and finishes them while they are in the cache.
#pragma once

#include <cstdint>

#include "finish.h"

namespace binseg {

constexpr int64_t kRowChunk = 4096;  // floats that are made before they are finished, or one pixel
constexpr int64_t kConvBlock = 32;   // output channels side by side in weights of `RealConvArgs`
constexpr int64_t kFilled = 64;      // channel tensors are filled up to a multiple of this

// y = v, or with `scale` fma(v, scale, shift).
struct PointArgs {
  enum What : int32_t {
    kCopy,      // v is x
    kAdd,       // x + other
    kMul,       // x * other
    kMulPixel,  // x * other, which has one channel
    kImage,     // a pixel of the image
  };
  What what;
  RealMap x;
  RealMap other;         // row and pixel are 0 where it is (1, 1, C)
  const uint8_t* image;  // [height][image_row bytes], three bytes a pixel
  int64_t image_row;
  const float *scale, *shift;
  int64_t width;
  Finish finish;
};

struct ConcatArgs {
  const RealMap* parts;  // row and pixel are 0 where one pixel serves all
  const int64_t* channels;
  int64_t count, width;
  Finish finish;
};

// A convolution of real maps. Lanes are output channels of one group.
struct RealConvArgs {
  RealMap x;
  int64_t height, in_width, width;            // rows and columns of x; columns of the result
  int64_t bases;                              // side by side, all through the same weights
  int64_t groups, in_channels, out_channels;  // groups of one base, channels of one group
  int64_t kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
  // [group][⌈out_channels / kConvBlock⌉][kernel_h][kernel_w][in_channels][kConvBlock]; where
  // in_channels and out_channels are 1: [kernel_h][kernel_w][groups filled to kFilled]
  const float* weight;
  const float* bias;  // [group][blocks][kConvBlock], or [groups filled]
  const void* zeros;  // a pixel of x that is all zero
  Finish finish;
};

struct WindowArgs {
  RealMap x;
  int64_t height, in_width, width, channels;
  int64_t kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
  bool largest;  // else the mean
  // pixels around x that count for the mean
  int64_t count_top, count_left, count_bottom, count_right;
  Finish finish;
};

struct ResizeArgs {
  RealMap x;
  int64_t height, in_width, width, channels;
  const int32_t *top, *left;         // index of the source pixel above / before
  const float *weight_y, *weight_x;  // of the next one; null: nearest
  Finish finish;
};

// Means over parts of x of nearly equal size.
struct AdaptivePoolArgs {
  RealMap x;
  int64_t height, in_width, out_height, width, channels;
  Finish finish;
};

// y = fma((x - mean) * inverse, scale, shift), with the mean and deviation of groups of channels,
// over the whole map or at each pixel.
struct GroupNormArgs {
  RealMap x;
  int64_t height, width, channels, groups;
  bool each_pixel;
  double epsilon;
  double *mean, *inverse;  // [groups], of the whole map
  const float *scale, *shift;
  Finish finish;
};

// One pixel; a call does channels [begin * kFilled, end * kFilled) of x.
struct SpatialMeanArgs {
  RealMap x;
  int64_t height, width, channels;
  float* mean;
};

struct ChannelMeanArgs {
  RealMap x;
  int64_t width, outer, size, inner;
  bool absolute;
  Finish finish;
};

// Tasks are rows of the result.
struct RowKernels {
  void (*point)(const PointArgs&, int64_t begin, int64_t end, void* scratch);
  void (*concat)(const ConcatArgs&, int64_t begin, int64_t end, void* scratch);
  void (*conv)(const RealConvArgs&, int64_t begin, int64_t end, void* scratch);
  void (*depthwise)(const RealConvArgs&, int64_t begin, int64_t end, void* scratch);
  void (*window)(const WindowArgs&, int64_t begin, int64_t end, void* scratch);
  void (*resize)(const ResizeArgs&, int64_t begin, int64_t end, void* scratch);
  void (*spatial_mean)(const SpatialMeanArgs&, int64_t begin, int64_t end, void* scratch);
  void (*adaptive_pool)(const AdaptivePoolArgs&, int64_t begin, int64_t end, void* scratch);
  // of groups, then of rows
  void (*group_moments)(const GroupNormArgs&, int64_t begin, int64_t end, void* scratch);
  void (*group_norm)(const GroupNormArgs&, int64_t begin, int64_t end, void* scratch);
  void (*channel_mean)(const ChannelMeanArgs&, int64_t begin, int64_t end, void* scratch);
};

// Floats of scratch memory for one thread, of a result with so many channels.
inline int64_t row_chunk_floats(int64_t channels) {
  return (channels > kRowChunk ? channels : kRowChunk) + kFilled;
}

}  // namespace binseg
