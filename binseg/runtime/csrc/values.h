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

// Known when the program is read.
struct ValueType {
  ValueKind kind = ValueKind::kReal;
  int64_t channels = 0;  // of all bases; an image has 3
  int64_t bases = 1;     // of bits
  bool bfloat16 = false;
  float inverse_scale = 1;  // of bytes
  int32_t zero_point = 0;

  int64_t channels_of_base() const { return channels / bases; }
};

// What lies left and right of each row of an image, bits or bytes, for the convolutions that read
// it: so many pixels, each of these bytes.
struct Border {
  int64_t left = 0, right = 0;
  std::vector<uint8_t> pixel;  // empty: nobody has asked for one
};

// Known for one size of the image.
struct Value {
  ValueType type;
  int64_t height = 0, width = 0;
  Border border;
  int64_t row = 0, pixel = 0, step = 0;  // from one to the next, in bytes; step: bases
  uint8_t* data = nullptr;               // pixel (0, 0)

  // Sets the strides of a value that lies by itself, and returns how many bytes it needs.
  int64_t lay_out();

  // A real map whose channels are split into bases with `channels` each (0: all serve each base).
  RealMap real(int64_t channels) const;
  // The same where its only pixel is read at every place.
  RealMap spread() const;
  BitMap bits() const;
  ByteMap bytes() const;

  int64_t element_bytes() const { return type.bfloat16 ? 2 : 4; }  // of real
};

}  // namespace binseg
