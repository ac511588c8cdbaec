// A convolution of bits or bytes, from a program's tensors to the arguments of its kernels. What
// does not depend on the image's size is made once, when the program is opened; the rest once for
// each size, so that a call of a kernel does nothing but its loop.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace binseg {

struct ConvShape {
  bool bytes = false;                         // else bits
  int64_t in_channels = 0, out_channels = 0;  // of one base
  int64_t in_bases = 1;                       // 1: all bases read the same channels
  int64_t bases = 1;
  bool shared_weight = false;  // one base's weights, curve and thresholds serve all
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  // of each base
  int64_t top[kMostBases] = {}, left[kMostBases] = {};
  int64_t dilation_h[kMostBases] = {}, dilation_w[kMostBases] = {};
  int64_t padding = -1;  // bits: what lies outside, -1, 0 or 1; bytes are given a border instead
  // Bytes from one input pixel to the next, and from one of its bases to the next. Bits of a base
  // fill whole words; bytes may lie side by side. At least four bytes after the last pixel's border
  // must be readable.
  int64_t pixel_bytes = 0, base_bytes = 0;
};

class ConvLayer {
 public:
  // Bits: `weight` holds weights (bases * out_channels, kernel_h, kernel_w, in_channels) as in a
  // program, the first in the lowest bit of the first byte; bytes: int8 in the same order.
  // (With shared_weight those of one base.) All numbers have been checked.
  ConvLayer(const Kernels& kernels, const ConvShape& shape, const void* weight);

  // Rows of the result's `curve`: bits 3, bytes 2, each of bases * out_channels.
  void set_curve(const float* curve, bool tanh);
  // Of conv_bits: bases * out_channels each.
  void set_thresholds(const uint32_t* low, const uint32_t* span);

  // Sets what depends on the size of the input; borders() is then known. The caller sets image,
  // row_stride, border_row, what a merge needs and finish before it calls a kernel.
  void set_size(int64_t height, int64_t width, int64_t out_height, int64_t out_width);
  // Pixels of border left and right of each row, and in `border_row`, that taps read.
  int64_t border_left() const { return args_.border_left; }
  int64_t border_right() const { return args_.border_right; }

  ConvArgs& args() { return args_; }
  // Bytes of scratch memory, at a multiple of 64, that one call needs.
  int64_t scratch_bytes(bool pool) const;

 private:
  const Kernels& kernels_;
  ConvShape shape_;
  ConvArgs args_{};
  bool joined_ = false;  // the taps of a row lie side by side
  int64_t words_ = 0;    // of one tap, or joined of one row of taps
  int64_t weight_bases_ = 1;
  std::vector<uint64_t> weight_, run_masks_;
  std::vector<int32_t> weight_sums_;  // [weight bases][taps][blocks * 64], for zero padding
  std::vector<float> curve_[3];
  std::vector<uint32_t> low_, span_;
  std::vector<Tap> taps_;
  std::vector<int32_t> row_class_, column_class_, start_values_, inner_from_, inner_to_;
  std::vector<const int32_t*> starts_;

  void arrange_bits(const uint8_t* weight);
  void arrange_bytes(const int8_t* weight);
  void arrange_tiles(const uint8_t* weight);
  void place_taps(int64_t width, int64_t out_width);
  void place_starts(int64_t height, int64_t width);
  int64_t tile_scratch_bytes(bool pool) const;
  std::vector<std::vector<int64_t>> outside_classes(int64_t kernel, int64_t stride,
                                                    int64_t dilation, int64_t before, int64_t size,
                                                    int64_t out_size, int32_t* of) const;
};

}  // namespace binseg
