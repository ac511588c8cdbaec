#include "resize_image.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "fault.h"

namespace binseg {
namespace {

constexpr int64_t kChannels = 3;

// Shrinking by means over areas.

// Source pixel `from` is a part of result pixel `to`.
struct Part {
  int64_t from, to;
  float weight;
};

std::vector<Part> parts_of(int64_t source, int64_t size, double scale) {
  std::vector<Part> parts;
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

uint8_t rounded(float value) {
  return static_cast<uint8_t>(std::clamp(std::nearbyintf(value), 0.0f, 255.0f));
}

// Where the parts of each result pixel begin; one entry more than pixels.
std::vector<size_t> beginnings(const std::vector<Part>& parts, int64_t size) {
  std::vector<size_t> begins(static_cast<size_t>(size) + 1, parts.size());
  for (size_t i = parts.size(); i-- > 0;) begins[static_cast<size_t>(parts[i].to)] = i;
  return begins;
}

void shrink_row(const uint8_t* from, const std::vector<Part>& columns, float* to, int64_t width) {
  std::fill(to, to + width * kChannels, 0.0f);
  for (const Part& part : columns) {
    const uint8_t* pixel = from + part.from * kChannels;
    float* sum = to + part.to * kChannels;
    for (int64_t c = 0; c < kChannels; ++c)
      sum[c] = sum[c] + static_cast<float>(pixel[c]) * part.weight;
  }
}

void shrink(const ImageView& from, uint8_t* to, int64_t height, int64_t width, int64_t row_bytes,
            double scale_y, double scale_x, Pool& pool) {
  const auto columns = parts_of(from.width, width, scale_x);
  const auto rows = parts_of(from.height, height, scale_y);
  const auto begins = beginnings(rows, height);
  const auto length = static_cast<size_t>(width * kChannels);
  pool.run(height, [&](int64_t begin, int64_t end, int) {
    std::vector<float> sums(length), row(length);
    for (int64_t y = begin; y < end; ++y) {
      const size_t first = begins[static_cast<size_t>(y)];
      for (size_t i = first; i < begins[static_cast<size_t>(y) + 1]; ++i) {
        shrink_row(from.data + rows[i].from * from.row, columns, row.data(), width);
        const float weight = rows[i].weight;
        if (i == first) {
          for (size_t c = 0; c < length; ++c) sums[c] = weight * row[c];
        } else {
          for (size_t c = 0; c < length; ++c) sums[c] = sums[c] + weight * row[c];
        }
      }
      for (size_t c = 0; c < length; ++c) to[y * row_bytes + static_cast<int64_t>(c)] = rounded(sums[c]);
    }
  });
}

// By an integer in both directions: sums of bytes.
void shrink_evenly(const ImageView& from, uint8_t* to, int64_t height, int64_t width,
                   int64_t row_bytes, int64_t by_y, int64_t by_x, Pool& pool) {
  const float scale = 1.0f / static_cast<float>(by_y * by_x);
  const bool quarters = by_y == 2 && by_x == 2;
  pool.run(height, [&](int64_t begin, int64_t end, int) {
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        for (int64_t c = 0; c < kChannels; ++c) {
          const uint8_t* at = from.data + y * by_y * from.row + x * by_x * kChannels + c;
          int64_t sum = 0;
          for (int64_t i = 0; i < by_y; ++i, at += from.row)
            for (int64_t j = 0; j < by_x; ++j) sum += at[j * kChannels];
          to[y * row_bytes + x * kChannels + c] =
              quarters ? static_cast<uint8_t>((sum + 2) >> 2)
                       : rounded(static_cast<float>(sum) * scale);
        }
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
      shrink_evenly(from, to, height, width, row, by_y, by_x, pool);
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
