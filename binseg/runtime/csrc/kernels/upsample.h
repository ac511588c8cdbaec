// The largest of bilinearly upsampled scores.
#pragma once

#include "kernels.h"

namespace binseg {
namespace {

// Between four source pixels every class is interpolated with the same four weights. A class whose
// largest corner lies below the smallest corner of another can win nowhere there, and most squares
// are left with one class.
inline void fill_square(const UpsampleArgs& a, const float* const* corners, int64_t y0,
                        int64_t y1, int64_t x0, int64_t x1) {
  float most[256];
  float bound = -__builtin_inff(), size = 0;
  for (int64_t c = 0; c < a.classes; ++c) {
    float low = corners[0][c], high = low;
    for (int i = 1; i < 4; ++i) {
      const float value = corners[i][c];
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    most[c] = high;
    bound = low > bound ? low : bound;
    size = high > size ? high : -low > size ? -low : size;
  }
  // values between the corners are rounded, and may lie outside them by a few units
  bound -= size * 0x1p-20f;
  int candidates[256], count = 0;
  for (int64_t c = 0; c < a.classes; ++c)
    if (most[c] >= bound) candidates[count++] = static_cast<int>(c);
  if (count <= 1) {
    for (int64_t y = y0; y < y1; ++y)
      __builtin_memset(a.out + y * a.out_row + x0, count ? candidates[0] : 0, x1 - x0);
    return;
  }
  constexpr int64_t kPiece = 64;
  for (int64_t y = y0; y < y1; ++y) {
    const float below = a.weight_y[y], above = 1.0f - below;
    for (int64_t x = x0; x < x1; x += kPiece) {
      const int64_t length = x1 - x < kPiece ? x1 - x : kPiece;
      float best[kPiece];
      int32_t ids[kPiece];
      for (int i = 0; i < count; ++i) {
        const int c = candidates[i];
        const float left = above * corners[0][c] + below * corners[2][c];
        const float right = above * corners[1][c] + below * corners[3][c];
        for (int64_t j = 0; j < length; ++j) {
          const float weight = a.weight_x[x + j];
          const float value = (1.0f - weight) * left + weight * right;
          const bool larger = i == 0 || value > best[j];
          best[j] = larger ? value : best[j];
          ids[j] = larger ? c : ids[j];
        }
      }
      for (int64_t j = 0; j < length; ++j) a.out[y * a.out_row + x + j] = static_cast<uint8_t>(ids[j]);
    }
  }
}

// Tasks are source rows.
inline void upsample(const UpsampleArgs& a, int64_t begin, int64_t end) {
  int64_t y1 = 0;
  while (y1 < a.height && a.top[y1] < begin) ++y1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t y0 = y1;
    while (y1 < a.height && a.top[y1] == row) ++y1;
    if (y0 == y1) continue;
    const float* upper = a.scores + row * a.in_width * a.classes;
    const float* lower = row + 1 < a.in_height ? upper + a.in_width * a.classes : upper;
    for (int64_t x0 = 0, x1; x0 < a.width; x0 = x1) {
      const int64_t column = a.left[x0];
      for (x1 = x0; x1 < a.width && a.left[x1] == column;) ++x1;
      const int64_t here = column * a.classes;
      const int64_t next = column + 1 < a.in_width ? here + a.classes : here;
      const float* corners[4] = {upper + here, upper + next, lower + here, lower + next};
      fill_square(a, corners, y0, y1, x0, x1);
    }
  }
}

}  // namespace
}  // namespace binseg
