// Kernels without a convolution: quantize, upsample with argmax.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace binseg {
namespace {

template <class Isa>
struct Quantizer {
  typename Isa::Float scale, zero_point, least, most;

  explicit Quantizer(const MapArgs& a)
      : scale(Isa::setf(a.inverse_scale)),
        zero_point(Isa::setf(static_cast<float>(a.zero_point))),
        least(Isa::setf(0.0f)),
        most(Isa::setf(255.0f)) {}
  // rounding comes before the zero point, as in the reference; max(nan, 0) is 0
  typename Isa::Int operator()(typename Isa::Float x) const {
    const auto level = Isa::addf(Isa::round(Isa::mul(x, scale)), zero_point);
    return Isa::to_int(Isa::min(Isa::max(level, least), most));
  }
};

template <class Isa>
void quantize(const MapArgs& a, int64_t begin, int64_t end) {
  const Quantizer<Isa> quantizer(a);
  const int64_t fours = (a.channels + 3) / 4;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t start = row / a.height * a.stride_n + row % a.height * a.stride_h;
    const float* from = static_cast<const float*>(a.x) + start;
    auto* out = static_cast<uint8_t*>(a.out) + row * a.width * fours * 4;
    if (a.stride_c == 1 && a.channels >= Isa::kLanes) {
      for (int64_t x = 0; x < a.width; ++x) {
        uint8_t* to = out + x * fours * 4;
        for (int64_t c = 0; c < a.channels; c += Isa::kLanes) {
          const int64_t left = a.channels - c;
          const int count = left < Isa::kLanes ? static_cast<int>(left) : Isa::kLanes;
          const float* at = from + x * a.stride_w + c;
          Isa::store_bytes(to + c, quantizer(load_lanes<Isa>(at, count)), count);
        }
        for (int64_t c = a.channels; c < fours * 4; ++c) to[c] = 0;
      }
      continue;
    }
    auto* words = reinterpret_cast<uint32_t*>(out);
    for (int64_t f = 0; f < fours; ++f) {
      for (int64_t x = 0; x < a.width; x += Isa::kLanes) {
        const int64_t left = a.width - x;
        const int count = left < Isa::kLanes ? static_cast<int>(left) : Isa::kLanes;
        auto levels = Isa::set(0);
        for (int64_t c = f * 4; c < f * 4 + 4 && c < a.channels; ++c) {
          const float* at = from + c * a.stride_c + x * a.stride_w;
          float lanes[Isa::kLanes];
          if (a.stride_w != 1) {
            for (int i = 0; i < count; ++i) lanes[i] = at[i * a.stride_w];
            at = lanes;
          }
          const auto level = quantizer(load_lanes<Isa>(at, count));
          levels = Isa::or_(levels, Isa::shift_left(level, static_cast<int>(c % 4) * 8));
        }
        int32_t lanes[Isa::kLanes];
        Isa::store(lanes, levels);
        for (int i = 0; i < count; ++i)
          words[(x + i) * fours + f] = static_cast<uint32_t>(lanes[i]);
      }
    }
  }
}

// Between four source pixels every class is interpolated with the same four weights. A class whose
// largest corner lies below the smallest corner of another can win nowhere there, and most squares
// are left with one class.
inline void fill_square(const UpsampleArgs& a, const float* const* corners, int64_t n, int64_t y0,
                        int64_t y1, int64_t x0, int64_t x1) {
  float most[256];
  float bound = -__builtin_inff();
  for (int64_t c = 0; c < a.classes; ++c) {
    float low = corners[0][c], high = low;
    for (int i = 1; i < 4; ++i) {
      const float value = corners[i][c];
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    most[c] = high;
    bound = low > bound ? low : bound;
  }
  int candidates[256], count = 0;
  for (int64_t c = 0; c < a.classes; ++c)
    if (most[c] >= bound) candidates[count++] = static_cast<int>(c);
  uint8_t* out = a.out + n * a.height * a.width;
  if (count <= 1) {
    for (int64_t y = y0; y < y1; ++y)
      __builtin_memset(out + y * a.width + x0, count ? candidates[0] : 0, x1 - x0);
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
      for (int64_t j = 0; j < length; ++j) out[y * a.width + x + j] = static_cast<uint8_t>(ids[j]);
    }
  }
}

// Tasks are source rows: batch * in_height.
inline void upsample(const UpsampleArgs& a, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t n = task / a.in_height, row = task % a.in_height;
    int64_t y0 = 0;
    while (y0 < a.height && a.top[y0] < row) ++y0;
    int64_t y1 = y0;
    while (y1 < a.height && a.top[y1] == row) ++y1;
    if (y0 == y1) continue;
    const float* picture = a.scores + n * a.in_height * a.in_width * a.classes;
    const float* upper = picture + row * a.in_width * a.classes;
    const float* lower = row + 1 < a.in_height ? upper + a.in_width * a.classes : upper;
    for (int64_t x0 = 0, x1; x0 < a.width; x0 = x1) {
      const int64_t column = a.left[x0];
      for (x1 = x0; x1 < a.width && a.left[x1] == column;) ++x1;
      const int64_t here = column * a.classes;
      const int64_t next = column + 1 < a.in_width ? here + a.classes : here;
      const float* corners[4] = {upper + here, upper + next, lower + here, lower + next};
      fill_square(a, corners, n, y0, y1, x0, x1);
    }
  }
}

}  // namespace
}  // namespace binseg
