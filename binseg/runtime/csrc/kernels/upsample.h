// The largest of bilinearly upsampled scores.
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace binseg {
namespace {

// Between four source pixels (a square) every class is interpolated with the same four weights, so
// that a class whose largest corner lies below the smallest corner of another can win nowhere
// there. Most squares are left with one class, mostly that of the square before.
template <class Isa>
class Upsampler {
 public:
  explicit Upsampler(const UpsampleArgs& args)
      : a(args),
        // values between the corners are rounded, and may lie outside them by a few units
        margin_(args.largest * 0x1p-20f),
        bounded_(args.largest < __builtin_inff()) {}

  // All rows of the result whose upper source row is `row`: [y0, y1).
  void make_band(int64_t row, int64_t y0, int64_t y1) {
    const float* upper = a.scores + row * a.in_width * a.classes;
    const float* lower = row + 1 < a.in_height ? upper + a.in_width * a.classes : upper;
    int64_t begin = 0;  // of a run of squares with `only_` alone
    for (int64_t x0 = 0, x1; x0 < a.width; x0 = x1) {
      const int64_t column = a.left[x0];
      for (x1 = x0; x1 < a.width && a.left[x1] == column;) ++x1;
      const int64_t here = column * a.classes;
      const int64_t next = column + 1 < a.in_width ? here + a.classes : here;
      corners_[0] = upper + here;
      corners_[1] = upper + next;
      corners_[2] = lower + here;
      corners_[3] = lower + next;
      const int before = only_;
      if (still_only_one()) continue;
      fill(y0, y1, begin, x0, before);
      begin = x0;
      find_candidates();
      only_ = candidates_[0];
      if (count_ == 1) continue;
      compare_candidates(y0, y1, x0, x1);
      begin = x1;
    }
    fill(y0, y1, begin, a.width, only_);
  }

 private:
  const UpsampleArgs& a;
  const float margin_;
  const bool bounded_;  // else nothing is known about what lies between the corners
  const float* corners_[4];
  alignas(64) float low_[256], high_[256];  // of the corners of each class
  int candidates_[256], count_ = 0;
  int only_ = 0;  // the class that won last

  void fill(int64_t y0, int64_t y1, int64_t x0, int64_t x1, int id) const {
    if (x0 == x1) return;
    for (int64_t y = y0; y < y1; ++y)
      __builtin_memset(a.out + y * a.out_row + x0, id, static_cast<size_t>(x1 - x0));
  }

  static int lanes_left(int64_t count) {
    return count < Isa::kLanes ? static_cast<int>(count) : Isa::kLanes;
  }

  // Finds low and high, and whether no class but `only_` can win.
  bool still_only_one() {
    for (int64_t c = 0; c < a.classes; c += Isa::kLanes) {
      const int lanes = lanes_left(a.classes - c);
      const auto p = load_lanes<Isa>(corners_[0] + c, lanes);
      const auto q = load_lanes<Isa>(corners_[1] + c, lanes);
      const auto r = load_lanes<Isa>(corners_[2] + c, lanes);
      const auto s = load_lanes<Isa>(corners_[3] + c, lanes);
      Isa::storef(low_ + c, Isa::min(Isa::min(p, q), Isa::min(r, s)));
      Isa::storef(high_ + c, Isa::max(Isa::max(p, q), Isa::max(r, s)));
    }
    if (!bounded_) return false;
    const auto bound = Isa::setf(low_[only_] - margin_);
    for (int64_t c = 0; c < a.classes; c += Isa::kLanes) {
      const uint32_t exist = static_cast<uint32_t>((1ull << lanes_left(a.classes - c)) - 1);
      uint32_t able = Isa::not_negative(Isa::subf(Isa::loadf(high_ + c), bound)) & exist;
      if (only_ >= c && only_ < c + Isa::kLanes) able &= ~(1u << (only_ - c));
      if (able) return false;
    }
    return true;
  }

  void find_candidates() {
    float bound = low_[0];
    for (int64_t c = 1; c < a.classes; ++c) bound = low_[c] > bound ? low_[c] : bound;
    bound -= margin_;
    count_ = 0;
    for (int64_t c = 0; c < a.classes; ++c)
      if (high_[c] >= bound || !bounded_) candidates_[count_++] = static_cast<int>(c);
  }

  void compare_candidates(int64_t y0, int64_t y1, int64_t x0, int64_t x1) {
    for (int64_t x = x0; x < x1; x += Isa::kLanes) {
      const int lanes = lanes_left(x1 - x);
      const auto after = load_lanes<Isa>(a.weight_x + x, lanes);
      const auto before = Isa::subf(Isa::setf(1.0f), after);
      for (int64_t y = y0; y < y1; ++y) {
        const float below = a.weight_y[y], above = 1.0f - below;
        float best[Isa::kLanes], values[Isa::kLanes];
        int32_t ids[Isa::kLanes];
        for (int i = 0; i < count_; ++i) {
          const int c = candidates_[i];
          const float left = above * corners_[0][c] + below * corners_[2][c];
          const float right = above * corners_[1][c] + below * corners_[3][c];
          Isa::storef(values, Isa::addf(Isa::mul(before, Isa::setf(left)),
                                        Isa::mul(after, Isa::setf(right))));
          for (int j = 0; j < Isa::kLanes; ++j) {
            const bool larger = i == 0 || values[j] > best[j];
            best[j] = larger ? values[j] : best[j];
            ids[j] = larger ? c : ids[j];
          }
        }
        uint8_t* to = a.out + y * a.out_row + x;
        for (int j = 0; j < lanes; ++j) to[j] = static_cast<uint8_t>(ids[j]);
        only_ = ids[lanes - 1];
      }
    }
  }
};

// Tasks are source rows.
template <class Isa>
void upsample(const UpsampleArgs& a, int64_t begin, int64_t end) {
  Upsampler<Isa> upsampler(a);
  int64_t y1 = 0;
  while (y1 < a.height && a.top[y1] < begin) ++y1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t y0 = y1;
    while (y1 < a.height && a.top[y1] == row) ++y1;
    if (y0 < y1) upsampler.make_band(row, y0, y1);
  }
}

}  // namespace
}  // namespace binseg
