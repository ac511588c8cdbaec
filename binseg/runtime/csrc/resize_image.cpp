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

std::vector<Share> shares_of(int64_t source, int64_t size, double scale) {
  std::vector<Share> shares;
  for (int64_t i = 0; i < size; ++i) {
    const double begin = static_cast<double>(i) * scale, end = begin + scale;
    const double cell = std::min(scale, static_cast<double>(source) - begin);
    int64_t first = static_cast<int64_t>(std::ceil(begin));
    const int64_t last = std::min(static_cast<int64_t>(std::floor(end)), source - 1);
    first = std::min(first, last);
    const auto add = [&](int64_t from, double weight) {
      shares.push_back({from, i, static_cast<float>(weight)});
    };
    if (static_cast<double>(first) - begin > 1e-3)
      add(first - 1, (static_cast<double>(first) - begin) / cell);
    for (int64_t s = first; s < last; ++s) add(s, 1.0 / cell);
    if (const double rest = end - static_cast<double>(last); rest > 1e-3)
      add(last, std::min(std::min(rest, 1.0), cell) / cell);
  }
  return shares;
}

// Rounded to the nearest, ties to even, for 0 <= value < 2^22: adding 1.5 * 2^23 leaves the integer
// in the lowest bits.
inline int32_t nearest_integer(float value) {
  return std::bit_cast<int32_t>(value + 12582912.0f) - 0x4B400000;
}
inline uint8_t rounded(float value) {
  return static_cast<uint8_t>(std::min(nearest_integer(value), 255));
}

// Where the shares of each result pixel begin; one entry more than pixels.
std::vector<size_t> beginnings(const std::vector<Share>& shares, int64_t size) {
  std::vector<size_t> begins(static_cast<size_t>(size) + 1, shares.size());
  for (size_t i = shares.size(); i-- > 0;) begins[static_cast<size_t>(shares[i].to)] = i;
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

// What the kernels need to know about the columns.
class ShrunkColumns {
 public:
  ShrunkColumns(int64_t source, int64_t size, double scale) {
    const std::vector<Share> all = shares_of(source, size, scale);
    const std::vector<size_t> begins = beginnings(all, size);
    size_t most = 1;
    for (size_t x = 0; x < static_cast<size_t>(size); ++x)
      most = std::max(most, begins[x + 1] - begins[x]);
    row.in_width = source;
    row.width = size;
    row.shares = static_cast<int64_t>(most);
    weights_.resize(static_cast<size_t>(size) * most);
    for (size_t x = 0; x < static_cast<size_t>(size); ++x) {
      first_.push_back(static_cast<int32_t>(all[begins[x]].from));
      for (size_t i = begins[x]; i < begins[x + 1]; ++i)
        weights_[x * most + i - begins[x]] = all[i].weight;
    }
    row.first = first_.data();
    row.weights = weights_.data();
    make_groups();
  }
  ShrunkColumns(const ShrunkColumns&) = delete;  // `row` points into it

  ShrinkRow row{};

 private:
  std::vector<int32_t> first_, base_, index_;
  std::vector<float> weights_, of_channel_;

  // Groups of results, unless one needs more than 32 bytes.
  void make_groups() {
    const int64_t length = row.width * kChannels, bytes = row.in_width * kChannels;
    const int64_t groups = divide_up(length, kShrinkLanes), shares = row.shares;
    if (bytes < 32) return;
    index_.resize(static_cast<size_t>(groups * shares * kShrinkLanes));
    of_channel_.resize(index_.size());
    for (int64_t g = 0; g < groups; ++g) {
      const auto first_of = [&](int64_t i) {
        return static_cast<int64_t>(first_[static_cast<size_t>(i / kChannels)]) * kChannels +
               i % kChannels;
      };
      const int64_t base = std::min(first_of(g * kShrinkLanes), bytes - 32);
      base_.push_back(static_cast<int32_t>(base));
      for (int64_t k = 0; k < shares; ++k) {
        for (int64_t lane = 0; lane < kShrinkLanes; ++lane) {
          const int64_t i = g * kShrinkLanes + lane;
          if (i >= length) break;
          const float weight = weights_[static_cast<size_t>(i / kChannels * shares + k)];
          if (weight == 0) continue;
          const int64_t at = first_of(i) + k * kChannels - base;
          if (at < 0 || at >= 32) return;
          const auto to = static_cast<size_t>((g * shares + k) * kShrinkLanes + lane);
          index_[to] = static_cast<int32_t>(at);
          of_channel_[to] = weight;
        }
      }
    }
    row.groups = groups;
    row.base = base_.data();
    row.index = index_.data();
    row.of_channel = of_channel_.data();
  }
};

void shrink(const ImageView& from, uint8_t* to, int64_t height, int64_t width, int64_t row_bytes,
            double scale_y, double scale_x, const ShrinkKernels& kernels, Pool& pool) {
  const ShrunkColumns columns(from.width, width, scale_x);
  const std::vector<Share> shares = shares_of(from.height, height, scale_y);
  const std::vector<size_t> begins = beginnings(shares, height);
  size_t most = 1;
  for (size_t y = 0; y < static_cast<size_t>(height); ++y)
    most = std::max(most, begins[y + 1] - begins[y]);
  const auto length = static_cast<size_t>(width * kChannels);
  pool.run(height, [&](int64_t begin, int64_t end, int) {
    // source row s lies, shrunk, in row s mod `most`, as long as it is needed
    const size_t step = length + kShrinkLanes;
    std::vector<float> rows(most * step), weights(most);
    std::vector<int64_t> held(most, -1);
    std::vector<const float*> pointers(most);
    std::vector<float> space(
        static_cast<size_t>((from.width + columns.row.shares) * kChannels + 4));
    for (int64_t y = begin; y < end; ++y) {
      const size_t first = begins[static_cast<size_t>(y)];
      const size_t count = begins[static_cast<size_t>(y) + 1] - first;
      for (size_t i = 0; i < count; ++i) {
        const int64_t source = shares[first + i].from;
        const size_t slot = static_cast<size_t>(source) % most;
        if (held[slot] != source)
          kernels.row(columns.row, from.data + source * from.row, &rows[slot * step], space.data());
        held[slot] = source;
        pointers[i] = &rows[slot * step];
        weights[i] = shares[first + i].weight;
      }
      kernels.sum(pointers.data(), weights.data(), static_cast<int64_t>(count),
                  static_cast<int64_t>(length), to + y * row_bytes);
    }
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
    std::vector<Sum> down(length + kBeyond),
        across(static_cast<size_t>(width * kChannels) + kBeyond);
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
                  const ShrinkKernels& kernels, Pool& pool) {
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
      const auto shrinks_by =
          by_y * by_x * 255 <= INT32_MAX ? shrink_evenly<int32_t> : shrink_evenly<int64_t>;
      shrinks_by(from, to, height, width, row, by_y, by_x, pool);
    } else {
      shrink(from, to, height, width, row, scale_y, scale_x, kernels, pool);
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
