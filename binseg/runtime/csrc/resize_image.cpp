#include "resize_image.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "fault.h"

namespace binseg {
namespace {

constexpr int64_t kChannels = 3;

// Shrinking by means over areas.

// Source pixel `from` is a share of result pixel `to`.
struct Share {
  int64_t from, to;
  float weight;
};

std::vector<Share> parts_of(int64_t source, int64_t size, double scale) {
  std::vector<Share> parts;
  for (int64_t i = 0; i < size; ++i) {
    const double begin = static_cast<double>(i) * scale, end = begin + scale;
    const double cell = std::min(scale, static_cast<double>(source) - begin);
    int64_t first = static_cast<int64_t>(std::ceil(begin));
    const int64_t last = std::min(static_cast<int64_t>(std::floor(end)), source - 1);
    first = std::min(first, last);
    const auto add = [&](int64_t from, double weight) {
      parts.push_back({from, i, static_cast<float>(weight)});
    };
    if (static_cast<double>(first) - begin > 1e-3)
      add(first - 1, (static_cast<double>(first) - begin) / cell);
    for (int64_t s = first; s < last; ++s) add(s, 1.0 / cell);
    if (const double rest = end - static_cast<double>(last); rest > 1e-3)
      add(last, std::min(std::min(rest, 1.0), cell) / cell);
  }
  return parts;
}

// Rounded to the nearest, ties to even, for 0 <= value < 2^22: adding 1.5 * 2^23 leaves the integer
// in the lowest bits.
inline int32_t nearest_integer(float value) {
  return std::bit_cast<int32_t>(value + 12582912.0f) - 0x4B400000;
}
inline uint8_t rounded(float value) {
  return static_cast<uint8_t>(std::min(nearest_integer(value), 255));
}

// Where the parts of each result pixel begin; one entry more than pixels.
std::vector<size_t> beginnings(const std::vector<Share>& parts, int64_t size) {
  std::vector<size_t> begins(static_cast<size_t>(size) + 1, parts.size());
  for (size_t i = parts.size(); i-- > 0;) begins[static_cast<size_t>(parts[i].to)] = i;
  return begins;
}

// A pixel and the first channel of the next one, which is written over afterwards.
template <class Number>
struct Four {
  typedef Number Vector
      __attribute__((vector_size(4 * sizeof(Number)), aligned(alignof(Number)), may_alias));
  static const Vector& at(const Number* from) { return *reinterpret_cast<const Vector*>(from); }
  static Vector& at(Number* to) { return *reinterpret_cast<Vector*>(to); }
};
constexpr size_t kBeyond = 4;

class Shrinker {
 public:
  Shrinker(const ImageView& from, int64_t height, int64_t width, double scale_y, double scale_x)
      : from_(from),
        columns_(parts_of(from.width, width, scale_x)),
        rows_(parts_of(from.height, height, scale_y)),
        first_column_(beginnings(columns_, width)),
        first_row_(beginnings(rows_, height)),
        width_(width) {}

  void make_rows(uint8_t* to, int64_t row_bytes, int64_t begin, int64_t end) const {
    const auto length = static_cast<size_t>(width_ * kChannels);
    std::vector<float> source(static_cast<size_t>(from_.width * kChannels) + kBeyond);
    std::vector<float> row(length + kBeyond), sums(length);
    int64_t in_row = -1;
    for (int64_t y = begin; y < end; ++y) {
      const size_t first = first_row_[static_cast<size_t>(y)];
      for (size_t i = first; i < first_row_[static_cast<size_t>(y) + 1]; ++i) {
        if (in_row != rows_[i].from) shrink_row(in_row = rows_[i].from, source.data(), row.data());
        const float weight = rows_[i].weight;
        if (i == first) {
          for (size_t c = 0; c < length; ++c) sums[c] = weight * row[c];
        } else {
          for (size_t c = 0; c < length; ++c) sums[c] = sums[c] + weight * row[c];
        }
      }
      uint8_t* out = to + y * row_bytes;
      for (size_t c = 0; c < length; ++c) out[c] = rounded(sums[c]);
    }
  }

 private:
  const ImageView& from_;
  const std::vector<Share> columns_, rows_;
  const std::vector<size_t> first_column_, first_row_;
  const int64_t width_;

  void shrink_row(int64_t y, float* source, float* to) const {
    using Pixel = Four<float>;
    const uint8_t* bytes = from_.data + y * from_.row;
    for (int64_t i = 0; i < from_.width * kChannels; ++i) source[i] = static_cast<float>(bytes[i]);
    const Share* part = columns_.data();
    for (int64_t x = 0; x < width_; ++x, to += kChannels) {
      const Share* end = columns_.data() + first_column_[static_cast<size_t>(x) + 1];
      Pixel::Vector sum = {};
      for (; part < end; ++part)
        sum = sum + Pixel::at(source + part->from * kChannels) * part->weight;
      Pixel::at(to) = sum;
    }
  }
};

void shrink(const ImageView& from, uint8_t* to, int64_t height, int64_t width, int64_t row_bytes,
            double scale_y, double scale_x, Pool& pool) {
  const Shrinker shrinker(from, height, width, scale_y, scale_x);
  pool.run(height, [&](int64_t begin, int64_t end, int) {
    shrinker.make_rows(to, row_bytes, begin, end);
  });
}

// By an integer in both directions: sums of bytes.
template <class Sum>
void shrink_evenly(const ImageView& from, uint8_t* to, int64_t height, int64_t width,
                   int64_t row_bytes, int64_t by_y, int64_t by_x, Pool& pool) {
  using Pixel = Four<Sum>;
  const float scale = 1.0f / static_cast<float>(by_y * by_x);
  const bool quarters = by_y == 2 && by_x == 2;
  const auto length = static_cast<size_t>(from.width * kChannels);
  pool.run(height, [&](int64_t begin, int64_t end, int) {
    std::vector<Sum> down(length + kBeyond), across(static_cast<size_t>(width * kChannels) + kBeyond);
    for (int64_t y = begin; y < end; ++y) {
      std::fill(down.begin(), down.end(), Sum(0));
      for (int64_t i = 0; i < by_y; ++i) {
        const uint8_t* row = from.data + (y * by_y + i) * from.row;
        for (size_t c = 0; c < length; ++c) down[c] += row[c];
      }
      const Sum* at = down.data();
      for (int64_t x = 0; x < width; ++x) {
        typename Pixel::Vector sum = {};
        for (int64_t j = 0; j < by_x; ++j, at += kChannels) sum += Pixel::at(at);
        Pixel::at(across.data() + x * kChannels) = sum;
      }
      uint8_t* out = to + y * row_bytes;
      for (int64_t c = 0; c < width * kChannels; ++c) {
        const Sum sum = across[static_cast<size_t>(c)];
        out[c] = quarters ? static_cast<uint8_t>((sum + 2) >> 2)
                          : rounded(static_cast<float>(sum) * scale);
      }
    }
  });
}

// Enlarging between pixels, in integers.

struct Between {
  int64_t before, after;
  int16_t weights[2];  // of 2048
};

// Beyond the middle of the first and last pixel columns take that pixel whole; rows take it with
// both weights, which is not quite the same.
std::vector<Between> betweens(int64_t source, int64_t size, double scale, bool columns) {
  std::vector<Between> all;
  for (int64_t i = 0; i < size; ++i) {
    auto at = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
    auto index = static_cast<int64_t>(std::floor(at));
    at -= static_cast<float>(index);
    if (columns && (index < 0 || index >= source - 1)) at = 0;
    const auto weight = [](float w) { return static_cast<int16_t>(std::nearbyintf(w * 2048.0f)); };
    const auto inside = [&](int64_t i) { return std::clamp<int64_t>(i, 0, source - 1); };
    const int64_t after = columns ? inside(inside(index) + 1) : inside(index + 1);
    all.push_back({inside(index), after, {weight(1.0f - at), weight(at)}});
  }
  return all;
}

void enlarge(const ImageView& from, uint8_t* to, int64_t height, int64_t width, int64_t row_bytes,
             double scale_y, double scale_x, Pool& pool) {
  const auto columns = betweens(from.width, width, scale_x, true);
  const auto rows = betweens(from.height, height, scale_y, false);
  const auto length = static_cast<size_t>(width * kChannels);
  const auto across = [&](int64_t y, std::vector<int32_t>& result) {
    const uint8_t* row = from.data + y * from.row;
    for (int64_t x = 0; x < width; ++x) {
      const Between& b = columns[static_cast<size_t>(x)];
      for (int64_t c = 0; c < kChannels; ++c)
        result[static_cast<size_t>(x * kChannels + c)] =
            row[b.before * kChannels + c] * b.weights[0] +
            row[b.after * kChannels + c] * b.weights[1];
    }
  };
  pool.run(height, [&](int64_t begin, int64_t end, int) {
    std::vector<int32_t> upper(length), lower(length);
    int64_t in_upper = -1, in_lower = -1;
    for (int64_t y = begin; y < end; ++y) {
      const Between& b = rows[static_cast<size_t>(y)];
      if (in_lower == b.before) {
        std::swap(upper, lower);
        std::swap(in_upper, in_lower);
      }
      if (in_upper != b.before) across(in_upper = b.before, upper);
      if (in_lower != b.after) across(in_lower = b.after, lower);
      const int32_t w0 = b.weights[0], w1 = b.weights[1];
      for (size_t i = 0; i < length; ++i) {
        const int32_t sum = ((w0 * (upper[i] >> 4)) >> 16) + ((w1 * (lower[i] >> 4)) >> 16);
        to[y * row_bytes + static_cast<int64_t>(i)] = static_cast<uint8_t>((sum + 2) >> 2);
      }
    }
  });
}

}  // namespace

void resize_image(const ImageView& from, uint8_t* to, int64_t height, int64_t width, int64_t row,
                  Pool& pool) {
  if (height == from.height && width == from.width) {
    for (int64_t y = 0; y < height; ++y)
      std::memcpy(to + y * row, from.data + y * from.row, static_cast<size_t>(width * kChannels));
    return;
  }
  // as OpenCV has it, two divisions
  const auto scale_of = [](int64_t source, int64_t size) {
    return 1.0 / (static_cast<double>(size) / static_cast<double>(source));
  };
  const double scale_y = scale_of(from.height, height), scale_x = scale_of(from.width, width);
  const auto by_y = static_cast<int64_t>(std::nearbyint(scale_y)),
             by_x = static_cast<int64_t>(std::nearbyint(scale_x));
  const bool evenly = std::fabs(scale_y - static_cast<double>(by_y)) < DBL_EPSILON &&
                      std::fabs(scale_x - static_cast<double>(by_x)) < DBL_EPSILON;
  const bool shrinks = height * width < from.height * from.width;
  if (shrinks && scale_y >= 1 && scale_x >= 1) {
    if (evenly) {
      const auto shrinks_by = by_y * by_x * 255 <= INT32_MAX ? shrink_evenly<int32_t>
                                                             : shrink_evenly<int64_t>;
      shrinks_by(from, to, height, width, row, by_y, by_x, pool);
    } else {
      shrink(from, to, height, width, row, scale_y, scale_x, pool);
    }
  } else {
    enlarge(from, to, height, width, row, scale_y, scale_x, pool);
  }
}

void short_side_size(int64_t& height, int64_t& width, int64_t short_side) {
  const double scale =
      static_cast<double>(short_side) / static_cast<double>(std::min(height, width));
  for (int64_t* side : {&height, &width}) {
    const double resized = std::nearbyint(static_cast<double>(*side) * scale);
    if (resized > 65535) fail("the image is too long and thin to be resized");
    *side = std::max<int64_t>(1, static_cast<int64_t>(resized));
  }
}

}  // namespace binseg
