// Resizing of RGB images of 8 bits, bit for bit as OpenCV's cv2.resize does it.
#pragma once

#include <cstdint>

#include "kernels/shrink_args.h"
#include "pool.h"

namespace binseg {

// An image in memory; rows are `row` bytes apart.
struct ImageView {
  const uint8_t* data;
  int64_t height, width, row;
};

// INTER_AREA where the number of pixels falls, else INTER_LINEAR; a copy where the size stays.
void resize_image(const ImageView& from, uint8_t* to, int64_t height, int64_t width, int64_t row,
                  const ShrinkKernels& kernels, Pool& pool);

// The size that makes the shorter side `short_side` pixels long.
void short_side_size(int64_t& height, int64_t& width, int64_t short_side);

}  // namespace binseg
