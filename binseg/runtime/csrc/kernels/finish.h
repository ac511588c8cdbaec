// *Finish* of docs/program.md as plain data: what becomes of an operator's float32 results y. One
// description for the fused epilogues of convolutions and for the row kernels of all other
// operators.
#pragma once

#include <cstdint>

namespace binseg {

enum class Act : int32_t {
  kNone,
  kRelu,
  kRelu6,
  kPrelu,   // tensor 0: slope
  kRprelu,  // tensors: before, slope, after
  kTanh,
  kSigmoid,
  kSilu,
  kHardtanh,
  kHardsigmoid,
  kHardswish,
  kAbs,
};

// A real map in memory. Element (y, x, base, c) lies at y * row + x * pixel + base * base_step + c,
// in elements; `pixel` is larger than the map's channels where it is a part of a concatenation.
struct RealMap {
  void* data;  // null: there is none
  int64_t row, pixel, base_step;
  bool bfloat16;  // uint16, else float
};

// Bits: word w of pixel (y, x), base b lies at y * row + x * pixel + b * words + w. Rows may have
// words between them (the border that the next convolution reads); unused bits of the last word
// are 0.
struct BitMap {
  uint32_t* data;
  int64_t row, pixel, words;
};

// Bytes, four channels to a word: channel c of base b lies at byte
// y * row + x * pixel + b * base_step + c. Bytes from the last channel to a multiple of four are 0.
struct ByteMap {
  uint8_t* data;
  int64_t row, pixel, base_step;
  float inverse_scale;
  int32_t zero_point;
};

// Channel tensors are [bases][channels filled up to a multiple of 64], so that whole vectors can be
// read; `base_stride` is the distance of two bases, 0 where one base's serve all.
struct Finish {
  int64_t bases, channels;  // of y: channels of one base
  RealMap residual;         // added first; base_step 0: serves all bases
  Act act;
  const float* act_tensors[3];
  const float* threshold;  // null: 0
  int64_t base_stride;
  RealMap real;
  BitMap bits;
  ByteMap bytes;
};

}  // namespace binseg
