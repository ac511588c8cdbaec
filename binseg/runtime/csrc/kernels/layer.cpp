#include "layer.h"

#include <algorithm>
#include <map>

#include "tiles.h"

namespace binseg {
namespace {

constexpr int64_t kLeft = INT64_MAX;  // a tap that no output pixel finds inside

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool contains(const std::vector<int64_t>& sorted, int64_t value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

// Where the byte-wide sums of 32 channels have their lanes, so that they unpack in order: see
// `avx2.cpp`.
int64_t nibble_place(int64_t channel) {
  const int64_t in_block = channel % 32;
  return channel - in_block + (in_block / 8 % 2) * 16 + (in_block / 16) * 8 + in_block % 8;
}

}  // namespace

ConvLayer::ConvLayer(const Kernels& kernels, const ConvShape& shape, const void* weight)
    : kernels_(kernels), shape_(shape) {
  args_.stride = shape.stride_h;
  args_.bases = shape.bases;
  args_.out_channels = shape.out_channels;
  args_.blocks = ceil_div(shape.out_channels, kBlock);
  args_.pixel = shape.pixel_bytes;
  args_.pixel_step = shape.stride_w * shape.pixel_bytes;
  // what lies between two pixels is read, too, where taps lie side by side
  args_.base_bytes = shape.in_bases == 1 ? shape.pixel_bytes : shape.base_bytes;
  args_.base_step = shape.in_bases == 1 ? 0 : shape.base_bytes;
  args_.channel_base = shape.shared_weight ? 0 : args_.blocks * kBlock;
  weight_bases_ = shape.shared_weight ? 1 : shape.bases;
  const int64_t terms = shape.kernel_h * shape.kernel_w * shape.in_channels;
  const bool tiles = kernels.arrangement == Arrangement::kTiles;
  if (!shape.bytes && tiles) {
    args_.doubled = true;  // sums are -s at once
  } else if (!shape.bytes) {
    // so that halves of sums are integers, also of those that zero padding shortens
    args_.doubled = terms % 2 != 0 || (shape.padding == 0 && shape.in_channels % 2 != 0);
    args_.start = args_.doubled ? 0 : static_cast<int32_t>(-(terms / 2));
    args_.doubled_plus = args_.doubled ? static_cast<int32_t>(-terms) : 0;
    args_.wide = terms > 32767;  // also where `start` alone would not fit
  }
  // where rows are unpacked, no other bases lie between the pixels of one
  joined_ = shape.kernel_w > 1 && (shape.in_bases == 1 || (tiles && !shape.bytes)) &&
            std::all_of(shape.dilation_w, shape.dilation_w + shape.bases,
                        [](int64_t d) { return d == 1; });
  if (joined_) {
    words_ = shape.bytes ? ceil_div(shape.kernel_w * shape.pixel_bytes, 4)
                         : shape.kernel_w * shape.base_bytes / 4;
  } else {
    words_ = ceil_div(shape.base_bytes, 4);
  }
  args_.run = words_;
  args_.tap_count = shape.kernel_h * (joined_ ? 1 : shape.kernel_w);
  if (tiles) {
    arrange_tiles(static_cast<const uint8_t*>(weight));
  } else if (shape.bytes) {
    arrange_bytes(static_cast<const int8_t*>(weight));
  } else {
    arrange_bits(static_cast<const uint8_t*>(weight));
  }
}

void ConvLayer::arrange_bits(const uint8_t* weight) {
  const bool nibbles = kernels_.arrangement == Arrangement::kUnpacked;
  const int64_t taps = shape_.kernel_h * shape_.kernel_w, words = shape_.base_bytes / 4;
  const int64_t of_word = nibbles ? kBlock * 8 : kBlock * 4;  // bytes
  args_.weight_block = taps * words * of_word;
  args_.weight_base = shape_.shared_weight ? 0 : args_.blocks * args_.weight_block;
  weight_.assign(static_cast<size_t>(weight_bases_ * args_.blocks * args_.weight_block / 8), 0);
  const int64_t length = args_.blocks * kBlock;
  if (shape_.padding == 0)
    weight_sums_.assign(static_cast<size_t>(weight_bases_ * taps * length), 0);
  auto* const to = reinterpret_cast<uint8_t*>(weight_.data());
  int64_t bit = 0;
  for (int64_t k = 0; k < weight_bases_; ++k) {
    for (int64_t o = 0; o < shape_.out_channels; ++o) {
      uint8_t* const block = to + (k * args_.blocks + o / kBlock) * args_.weight_block;
      for (int64_t t = 0; t < taps; ++t) {
        int32_t sum = 0;
        for (int64_t c = 0; c < shape_.in_channels; ++c, ++bit) {
          if (!(weight[bit / 8] >> (bit % 8) & 1)) continue;
          sum += 2;
          uint8_t* const word = block + (t * words + c / 32) * of_word;
          if (nibbles) {
            word[c % 32 / 4 * kBlock + nibble_place(o % kBlock)] |=
                static_cast<uint8_t>(1u << (c % 4));
          } else {
            word[o % kBlock * 4 + c % 32 / 8] |= static_cast<uint8_t>(1u << (c % 8));
          }
        }
        if (!weight_sums_.empty())
          weight_sums_[static_cast<size_t>((k * taps + t) * length + o)] =
              sum - static_cast<int32_t>(shape_.in_channels);
      }
    }
  }
  args_.weight = weight_.data();
}

void ConvLayer::arrange_bytes(const int8_t* weight) {
  const bool pairs = kernels_.arrangement == Arrangement::kUnpacked;
  const int64_t of_word = pairs ? kBlock * 8 : kBlock * 4;
  args_.weight_block = args_.tap_count * words_ * of_word;
  args_.weight_base = shape_.shared_weight ? 0 : args_.blocks * args_.weight_block;
  weight_.assign(static_cast<size_t>(weight_bases_ * args_.blocks * args_.weight_block / 8), 0);
  auto* const to = reinterpret_cast<uint8_t*>(weight_.data());
  for (int64_t k = 0; k < weight_bases_; ++k) {
    for (int64_t o = 0; o < shape_.out_channels; ++o) {
      uint8_t* const block = to + (k * args_.blocks + o / kBlock) * args_.weight_block;
      for (int64_t y = 0; y < shape_.kernel_h; ++y) {
        for (int64_t x = 0; x < shape_.kernel_w; ++x) {
          for (int64_t c = 0; c < shape_.in_channels; ++c, ++weight) {
            const int64_t tap = joined_ ? y : y * shape_.kernel_w + x;
            const int64_t byte = (joined_ ? x * shape_.pixel_bytes : 0) + c;
            uint8_t* const word = block + (tap * words_ + byte / 4) * of_word;
            if (pairs) {  // channels 0 and 1 of each four, then 2 and 3, of 16 bits
              const auto half = static_cast<uint16_t>(static_cast<int16_t>(*weight));
              uint8_t* const at = word + byte % 4 / 2 * kBlock * 4 + o % kBlock * 4 + byte % 2 * 2;
              at[0] = static_cast<uint8_t>(half);
              at[1] = static_cast<uint8_t>(half >> 8);
            } else {
              word[o % kBlock * 4 + byte % 4] = static_cast<uint8_t>(*weight);
            }
          }
        }
      }
    }
  }
  args_.weight = weight_.data();
}

void ConvLayer::arrange_tiles(const uint8_t* weight) {
  const bool bits = !shape_.bytes;
  const int64_t pixel = bits ? shape_.base_bytes * 8 : shape_.pixel_bytes;
  const int64_t taps = shape_.kernel_h * shape_.kernel_w;
  const int64_t of_tap = joined_ ? shape_.kernel_w * pixel : bits ? pixel : shape_.base_bytes;
  args_.run = ceil_div(of_tap, kTileBytes);
  const int64_t slice = args_.tap_count * args_.run * kTileWeights;  // 32 channels
  args_.weight_block = (bits ? slice / 8 : slice) * (kBlock / kTileChannels);
  args_.weight_base = shape_.shared_weight ? 0 : args_.blocks * args_.weight_block;
  weight_.assign(static_cast<size_t>(weight_bases_ * args_.blocks * args_.weight_block / 8), 0);
  run_masks_.assign(static_cast<size_t>(args_.run * kTilePixels), 0);
  const int64_t length = args_.blocks * kBlock;
  if (bits && shape_.padding == 0)
    weight_sums_.assign(static_cast<size_t>(weight_bases_ * taps * length), 0);
  auto* const to = reinterpret_cast<uint8_t*>(weight_.data());
  int64_t from = 0;
  for (int64_t k = 0; k < weight_bases_; ++k) {
    for (int64_t o = 0; o < shape_.out_channels; ++o) {
      uint8_t* const block = to + (k * args_.blocks + o / kBlock) * args_.weight_block;
      for (int64_t t = 0; t < taps; ++t) {
        int32_t sum = 0;
        for (int64_t c = 0; c < shape_.in_channels; ++c, ++from) {
          const int64_t byte = (joined_ ? t % shape_.kernel_w * pixel : 0) + c;
          const int64_t step = (joined_ ? t / shape_.kernel_w : t) * args_.run + byte / kTileBytes;
          const int64_t row = byte % kTileBytes / 4, lane = o % 16 * 4 + byte % 4;
          const int64_t at = o % kBlock / kTileChannels * slice + step * kTileWeights +
                             o % kTileChannels / 16 * (kTileWeights / 2) + row * kTileBytes + lane;
          // the same for all channels and taps
          run_masks_[static_cast<size_t>(byte / kTileBytes * kTilePixels + row)] |=
              0x1111111111111111u << (byte % 4);
          if (!bits) {
            block[at] = weight[from];
          } else if (weight[from / 8] >> (from % 8) & 1) {
            block[at / 8] |= static_cast<uint8_t>(1u << (at % 8));
            sum += 2;
          }
        }
        if (!weight_sums_.empty())
          weight_sums_[static_cast<size_t>((k * taps + t) * length + o)] =
              sum - static_cast<int32_t>(shape_.in_channels);
      }
    }
  }
  args_.weight = weight_.data();
  args_.run_masks = run_masks_.data();
}

void ConvLayer::set_curve(const float* curve, bool tanh) {
  const int64_t length = args_.blocks * kBlock, count = weight_bases_ * shape_.out_channels;
  const float *first = curve, *second = curve + count;
  const float* third = shape_.bytes ? second : second + count;
  // from the sum to the accumulator, which is the sum over -2 or -1
  const float times = shape_.bytes ? 1.0f : args_.doubled ? -1.0f : -2.0f;
  for (auto& row : curve_) row.assign(static_cast<size_t>(weight_bases_ * length), 0.0f);
  bool linear = true, one_sided = true;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i / shape_.out_channels * length + i % shape_.out_channels);
    curve_[0][at] = tanh ? first[i] : first[i] * times;
    curve_[1][at] = shape_.bytes ? curve_[0][at] : second[i] * times;
    curve_[2][at] = third[i] + 0.0f;  // no negative zero
    linear = linear && curve_[0][at] == curve_[1][at];
    one_sided = one_sided && curve_[1][at] == 0;
  }
  args_.curve.kind = tanh        ? Curve::kTanh
                     : linear    ? Curve::kLinear
                     : one_sided ? Curve::kOneSided
                                 : Curve::kTwoSided;
  for (int i = 0; i < 3; ++i) args_.curve.rows[i] = curve_[i].data();
}

void ConvLayer::set_thresholds(const uint32_t* low, const uint32_t* span) {
  const int64_t length = args_.blocks * kBlock, count = weight_bases_ * shape_.out_channels;
  low_.assign(static_cast<size_t>(weight_bases_ * length), 0);
  span_.assign(static_cast<size_t>(weight_bases_ * length), 0);
  const int64_t factor = args_.doubled ? 1 : 2;
  const auto up = [factor](int64_t x) { return x > 0 ? ceil_div(x, factor) : -(-x / factor); };
  const auto down = [&up](int64_t x) { return -up(-x); };
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i / shape_.out_channels * length + i % shape_.out_channels);
    const int64_t first = static_cast<int32_t>(low[i]), last = first + span[i];
    constexpr int64_t kWhole = int64_t(1) << 32;
    // with a range that wraps around, what it leaves out is the interval
    const bool wraps = last > INT32_MAX;
    const int64_t from = wraps ? last - kWhole + 1 : first, to = wraps ? first - 1 : last;
    const int64_t low_a = up(-to), high_a = down(-from);
    const int64_t inside = high_a >= low_a ? high_a - low_a + 1 : 0;
    if (wraps) {
      low_[at] = static_cast<uint32_t>(inside ? high_a + 1 : 0);
      span_[at] = static_cast<uint32_t>(kWhole - 1 - inside);
    } else {
      // no accumulator is this large, so none is inside an empty interval
      low_[at] = static_cast<uint32_t>(inside ? low_a : INT32_MAX);
      span_[at] = static_cast<uint32_t>(inside ? inside - 1 : 0);
    }
  }
  args_.low = low_.data();
  args_.span = span_.data();
}

void ConvLayer::set_size(int64_t height, int64_t width, int64_t out_height, int64_t out_width) {
  args_.height = height;
  args_.in_width = width;
  args_.out_height = out_height;
  args_.out_width = out_width;
  place_taps(width, out_width);
  if (!shape_.bytes && shape_.padding == 0) place_starts(height, width);
}

void ConvLayer::place_taps(int64_t width, int64_t out_width) {
  const int64_t reach = (out_width - 1) * shape_.stride_w;  // input column of the last output
  int64_t left = 0, right = 0;
  std::vector<int64_t> offsets;  // pixels, or kLeft
  for (int64_t k = 0; k < shape_.bases; ++k) {
    for (int64_t x = 0; x < shape_.kernel_w; ++x) {
      const int64_t offset = x * shape_.dilation_w[k] - shape_.left[k];
      const bool missed = !joined_ && (offset >= width || offset + reach < 0);
      offsets.push_back(missed ? kLeft : offset);
      if (missed) {  // such taps read a row of the border from pixel 0 on
        right = std::max(right, reach - (width - 1));
        continue;
      }
      left = std::max(left, -offset);
      right = std::max(right, offset + reach - (width - 1));
    }
  }
  args_.border_left = left;
  args_.border_right = right;
  taps_.clear();
  for (int64_t k = 0; k < shape_.bases; ++k) {
    for (int64_t y = 0; y < shape_.kernel_h; ++y) {
      const int64_t row = y * shape_.dilation_h[k] - shape_.top[k];
      for (int64_t x = 0; x < (joined_ ? 1 : shape_.kernel_w); ++x) {
        const int64_t offset = offsets[static_cast<size_t>(k * shape_.kernel_w + x)];
        const bool outside = offset == kLeft;
        taps_.push_back({row, outside ? 0 : offset * shape_.pixel_bytes, outside});
      }
    }
  }
  args_.taps = taps_.data();
  const auto [first, last] = std::minmax_element(
      taps_.begin(), taps_.end(), [](const Tap& a, const Tap& b) { return a.row < b.row; });
  args_.tap_from = first->row;
  args_.tap_to = last->row;
}

// The kernels count a tap outside the image as -1 in every channel. Which taps those are depends
// on the row and the column alone; most pixels have none, and class 0 is theirs.
void ConvLayer::place_starts(int64_t height, int64_t width) {
  const int64_t bases = shape_.bases, taps = shape_.kernel_h * shape_.kernel_w;
  std::vector<std::vector<std::vector<int64_t>>> rows, columns;
  row_class_.resize(static_cast<size_t>(bases * args_.out_height));
  column_class_.resize(static_cast<size_t>(bases * args_.out_width));
  inner_from_.assign(static_cast<size_t>(bases), 0);
  inner_to_.assign(static_cast<size_t>(bases), 0);
  args_.row_classes = args_.column_classes = 0;
  for (int64_t k = 0; k < bases; ++k) {
    int32_t* const of_row = row_class_.data() + k * args_.out_height;
    int32_t* const of_column = column_class_.data() + k * args_.out_width;
    rows.push_back(outside_classes(shape_.kernel_h, shape_.stride_h, shape_.dilation_h[k],
                                   shape_.top[k], height, args_.out_height, of_row));
    columns.push_back(outside_classes(shape_.kernel_w, shape_.stride_w, shape_.dilation_w[k],
                                      shape_.left[k], width, args_.out_width, of_column));
    args_.row_classes = std::max<int64_t>(args_.row_classes, rows.back().size());
    args_.column_classes = std::max<int64_t>(args_.column_classes, columns.back().size());
    const int32_t* const end = of_column + args_.out_width;
    const int32_t* const first = std::find<const int32_t*>(of_column, end, 0);
    inner_from_[static_cast<size_t>(k)] = static_cast<int32_t>(first - of_column);
    inner_to_[static_cast<size_t>(k)] = static_cast<int32_t>(
        std::find_if(first, end, [](int32_t c) { return c != 0; }) - of_column);
  }
  const int64_t length = args_.blocks * kBlock;
  const int64_t table = args_.row_classes * args_.column_classes;
  const int64_t half = args_.doubled ? 1 : 2;
  starts_.assign(static_cast<size_t>(bases * table), nullptr);
  start_values_.assign(static_cast<size_t>(bases * table * length), 0);
  for (int64_t k = 0; k < bases; ++k) {
    const int32_t* sums = weight_sums_.data() + (shape_.shared_weight ? 0 : k * taps * length);
    const auto &of_rows = rows[static_cast<size_t>(k)],
               &of_columns = columns[static_cast<size_t>(k)];
    for (size_t r = 0; r < of_rows.size(); ++r) {
      for (size_t c = 0; c < of_columns.size(); ++c) {
        if (of_rows[r].empty() && of_columns[c].empty()) continue;
        const auto at = static_cast<size_t>((k * args_.row_classes + static_cast<int64_t>(r)) *
                                                args_.column_classes +
                                            static_cast<int64_t>(c));
        int32_t* const values = start_values_.data() + at * static_cast<size_t>(length);
        starts_[at] = values;
        for (int64_t y = 0; y < shape_.kernel_h; ++y) {
          const bool row_outside = contains(of_rows[r], y);
          for (int64_t x = 0; x < shape_.kernel_w; ++x) {
            if (!row_outside && !contains(of_columns[c], x)) continue;
            const int32_t* sum = sums + (y * shape_.kernel_w + x) * length;
            for (int64_t o = 0; o < length; ++o) values[o] += sum[o];
          }
        }
        // s grows by that much, and the accumulator falls by half of it
        for (int64_t o = 0; o < length; ++o) values[o] = static_cast<int32_t>(-values[o] / half);
      }
    }
  }
  args_.starts = starts_.data();
  args_.row_class = row_class_.data();
  args_.column_class = column_class_.data();
  args_.inner_from = inner_from_.data();
  args_.inner_to = inner_to_.data();
}

// The distinct sets of taps that lie outside, the first of them empty, and which of them each
// output position has.
std::vector<std::vector<int64_t>> ConvLayer::outside_classes(int64_t kernel, int64_t stride,
                                                             int64_t dilation, int64_t before,
                                                             int64_t size, int64_t out_size,
                                                             int32_t* of) const {
  std::map<std::vector<int64_t>, int32_t> numbers = {{{}, 0}};
  std::vector<std::vector<int64_t>> found(1);
  for (int64_t i = 0; i < out_size; ++i) {
    std::vector<int64_t> outside;
    for (int64_t tap = 0; tap < kernel; ++tap) {
      const int64_t at = i * stride + tap * dilation - before;
      if (at < 0 || at >= size) outside.push_back(tap);
    }
    const auto [entry, is_new] = numbers.try_emplace(outside, static_cast<int32_t>(found.size()));
    if (is_new) found.push_back(outside);
    of[i] = entry->second;
  }
  return found;
}

int64_t ConvLayer::scratch_bytes(bool pool) const {
  constexpr int64_t kLine = 64;
  const ConvArgs& a = args_;
  int64_t bytes = kRowsAtOnce * a.bases * a.tap_count * 8 + kLine;
  bytes += a.bases * kLargestTile * kBlock * 4 + kLine;
  if (pool) bytes += 2 * ((a.out_width + 1) / 2 + 1) * kBlock * 4 + 4 * kLine + kBlock * 4;
  if (kernels_.arrangement == Arrangement::kUnpacked)
    bytes += most_unpacked_rows(a) * (unpacked_row_bytes(a) + 8) + 2 * kLine;
  if (kernels_.arrangement == Arrangement::kTiles) bytes += tile_scratch_bytes(pool);
  return bytes + kLine;
}

// The larger of what a kernel that merges needs and one that does not.
int64_t ConvLayer::tile_scratch_bytes(bool pool) const {
  constexpr int64_t kLine = 64;
  int64_t most = 0;
  for (const bool merges : {false, true}) {
    const TilePlan plan(args_, shape_.bytes, merges, pool);
    int64_t bytes = plan.rows * plan.together * args_.tap_count * 8 + kLine;
    bytes += plan.together * ((args_.height + 1) * 8 + plan.kept * plan.row_bytes) + 2 * kLine;
    if (!shape_.bytes) bytes += plan.together * plan.slice + kLine;
    bytes += plan.together * 2 * kTilePixels * kTileChannels * 4 + kLine;
    most = std::max(most, bytes);
  }
  return most;
}

}  // namespace binseg
