// Values of a program: what they are, how large they are for an image, where they lie.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/finish.h"

namespace binseg {

enum class ValueKind { kImage, kReal, kBits, kBytes };

constexpr int64_t kLargestSide = 65535;
constexpr int64_t kMostPixels = int64_t(1) << 28;
constexpr int64_t kMostChannels = 65536;
constexpr int64_t kMostBases = 8;

// Known when the program is read.
struct ValueType {
  ValueKind kind = ValueKind::kReal;
  int64_t channels = 0;  // of all bases; an image has 3
  int64_t bases = 1;     // of bits
  bool bfloat16 = false;
  float inverse_scale = 1;  // of bytes
  int32_t zero_point = 0;
};

// What lies left and right of each row of an image, bits or bytes, for the convolutions that read
// it: so many pixels, each of these words.
struct Border {
  int64_t left = 0, right = 0;
  std::vector<uint32_t> pixel;  // empty: nobody asked for one
};

// Known for one size of the image. Strides are in elements: floats, halves, words of bits, bytes.
struct Value {
  ValueType type;
  int64_t height = 0, width = 0;

  Border border;
  int64_t byte_bases = 1;  // bytes: groups of channels, each filled up to a word

  int64_t row = 0, pixel = 0, step = 0;  // step: from one base to the next
  uint8_t* data = nullptr;               // pixel (0, 0)

  int64_t pixels() const { return height * width; }
  int64_t channels_of_base() const { return type.channels / type.bases; }
  int64_t words_of_pixel() const;  // image, bits, bytes
  int64_t element_bytes() const;

  RealMap real(int64_t base_step) const {
    return {data, row, pixel, base_step, type.bfloat16};
  }
  // The same where a value of one pixel is read at every pixel.
  RealMap spread() const { return {data, 0, 0, 0, type.bfloat16}; }
  BitMap bits() const { return {reinterpret_cast<uint32_t*>(data), row, pixel, step}; }
  ByteMap bytes() const {
    return {data, row, pixel, step, type.inverse_scale, type.zero_point};
  }
};

}  // namespace binseg
