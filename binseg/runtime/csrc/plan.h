// From the shape of a convolution to what its kernels need: a picture with a border, the places of
// the taps in it, and what zero padding changes.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "kernels.h"

namespace binseg {

using Ints = std::vector<int64_t>;

// A picture whose rows have the border that the taps need, and the taps' places in it. Borders are
// never wider than the picture: a tap that reads only the border gets a row of its own.
class Plan {
 public:
  ConvArgs args{};

  Plan(const Plan&) = delete;  // args points into it

  // shape: in_channels, out_channels, kernel height and width, stride, padding value or byte,
  // then one dilation for each base.
  // `sizes`: of the picture, batch, height, width, bases, words; for bytes bases is 1 and a word is
  // four channels. `each_range(n, f)` calls f(begin, end) until [0, n) is done, on many threads.
  template <class EachRange>
  Plan(const void* image, const void* weight, const Ints& sizes, const Ints& shape, bool bytes,
       EachRange&& each_range) {
    const int64_t in_channels = shape[0];
    kernel_height_ = shape[2];
    kernel_width_ = shape[3];
    args.out_channels = shape[1];
    args.stride = shape[4];
    padding_ = shape[5];
    dilations_.assign(shape.begin() + 6, shape.end());
    args.bases = static_cast<int64_t>(dilations_.size());
    args.blocks = (args.out_channels + kBlock - 1) / kBlock;
    args.batch = sizes[0];
    args.height = sizes[1];
    width_ = sizes[2];
    args.in_bases = sizes[3];
    args.in_words = sizes[4];
    args.out_height = (args.height + args.stride - 1) / args.stride;
    args.out_width = (width_ + args.stride - 1) / args.stride;
    pixel_ = args.in_bases * args.in_words;
    args.pixel_step = args.stride * pixel_;
    args.weight = static_cast<const uint32_t*>(weight);
    args.terms = static_cast<int32_t>(kernel_height_ * kernel_width_ * in_channels);
    args.rows_per_task = 4;
    fill_border_words(in_channels, bytes);
    place_taps();
    surround(static_cast<const uint32_t*>(image), each_range);
    if (!bytes && padding_ == 0) correct_zero_padding(in_channels);
  }

  // Rows of numbers for each output channel, filled up to whole blocks.
  template <class T>
  const T* filled(const T* from, int64_t count, std::vector<T>& space) const {
    const int64_t to = args.blocks * kBlock;
    if (to == args.out_channels) return from;
    space.assign(count * to, T(0));
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(from + i * args.out_channels, args.out_channels, space.data() + i * to);
    return space.data();
  }

 private:
  int64_t kernel_height_, kernel_width_, padding_, width_, pixel_;
  int64_t left_ = 0, right_ = 0;
  Ints dilations_;
  std::vector<uint32_t> border_words_, border_row_;
  std::vector<Tap> taps_;
  std::vector<int32_t> row_class_, column_class_, correction_values_;
  std::vector<const int32_t*> corrections_;

  void fill_border_words(int64_t in_channels, bool bytes) {
    border_words_.assign(args.in_words, 0);
    if (bytes) {
      std::fill(border_words_.begin(), border_words_.end(),
                static_cast<uint32_t>(padding_) * 0x01010101u);
    } else if (padding_ == 1) {
      for (int64_t c = 0; c < in_channels; ++c) border_words_[c / 32] |= 1u << (c % 32);
    }
  }

  int64_t border(int64_t kernel, int64_t base) const { return dilations_[base] * (kernel - 1) / 2; }

  void place_taps() {
    const int64_t reach = (args.out_width - 1) * args.stride;  // input column of the last output
    Ints offsets;  // kMissed where no output pixel reads the picture
    constexpr int64_t kMissed = INT64_MAX;
    for (int64_t k = 0; k < args.bases; ++k) {
      for (int64_t x = 0; x < kernel_width_; ++x) {
        const int64_t offset = x * dilations_[k] - border(kernel_width_, k);
        const bool missed = offset >= width_ || offset + reach < 0;
        offsets.push_back(missed ? kMissed : offset);
        if (missed) continue;
        left_ = std::max(left_, -offset);
        right_ = std::max(right_, offset + reach - (width_ - 1));
      }
    }
    // Taps of one kernel row lie side by side in memory where nothing lies between two pixels.
    const bool joined = kernel_width_ > 1 && args.in_bases == 1 && alike_and_dense(offsets);
    args.run = joined ? kernel_width_ * args.in_words : args.in_words;
    args.tap_count = joined ? kernel_height_ : kernel_height_ * kernel_width_;
    for (int64_t k = 0; k < args.bases; ++k) {
      for (int64_t y = 0; y < kernel_height_; ++y) {
        const int64_t row = y * dilations_[k] - border(kernel_height_, k);
        for (int64_t x = 0; x < (joined ? 1 : kernel_width_); ++x) {
          const int64_t offset = offsets[k * kernel_width_ + x];
          taps_.push_back({row, offset == kMissed ? -1 : left_ + offset});
        }
      }
    }
    args.taps = taps_.data();
  }

  bool alike_and_dense(const Ints& offsets) const {
    for (int64_t d : dilations_)
      if (d != 1) return false;
    return std::find(offsets.begin(), offsets.end(), INT64_MAX) == offsets.end();
  }

  template <class EachRange>
  void surround(const uint32_t* image, EachRange&& each_range) {
    const int64_t padded = left_ + width_ + right_;
    args.row_stride = padded * pixel_;
    args.image_stride = args.height * args.row_stride;
    border_row_.resize(std::max<int64_t>(padded, 1) * pixel_);
    for (size_t i = 0; i < border_row_.size(); ++i)
      border_row_[i] = border_words_[i % args.in_words];
    args.border_row = border_row_.data();
    args.image = image;
    if (left_ + right_ == 0) return;
    auto* copy = static_cast<uint32_t*>(padded_memory(args.batch * args.image_stride * 4));
    args.image = copy;
    each_range(args.batch * args.height, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        uint32_t* to = copy + row * args.row_stride;
        std::memcpy(to, args.border_row, left_ * pixel_ * 4);
        std::memcpy(to + left_ * pixel_, image + row * width_ * pixel_, width_ * pixel_ * 4);
        std::memcpy(to + (left_ + width_) * pixel_, args.border_row, right_ * pixel_ * 4);
      }
    });
  }

  static void* padded_memory(size_t bytes) {
    thread_local std::vector<uint64_t> memory;
    if (memory.size() * 8 < bytes) memory.resize(bytes / 8 + 1);
    return memory.data();
  }

  // The kernels count a tap outside the picture as -1 in every channel. Which taps those are
  // depends on the row and the column alone; most pixels have none.
  void correct_zero_padding(int64_t in_channels) {
    std::vector<std::vector<Ints>> rows(args.bases), columns(args.bases);
    row_class_.resize(args.bases * args.out_height);
    column_class_.resize(args.bases * args.out_width);
    for (int64_t k = 0; k < args.bases; ++k) {
      rows[k] = classes(kernel_height_, k, args.height, args.out_height,
                        row_class_.data() + k * args.out_height);
      columns[k] = classes(kernel_width_, k, width_, args.out_width,
                           column_class_.data() + k * args.out_width);
      args.row_classes = std::max<int64_t>(args.row_classes, rows[k].size());
      args.column_classes = std::max<int64_t>(args.column_classes, columns[k].size());
    }
    const int64_t length = args.blocks * kBlock;
    const int64_t table = args.row_classes * args.column_classes;
    corrections_.assign(args.bases * table, nullptr);
    correction_values_.assign(args.bases * table * length, 0);
    for (int64_t k = 0; k < args.bases; ++k) {
      const std::vector<int32_t> sums = weight_sums(k, in_channels);
      for (size_t r = 0; r < rows[k].size(); ++r) {
        for (size_t c = 0; c < columns[k].size(); ++c) {
          if (rows[k][r].empty() && columns[k][c].empty()) continue;
          const int64_t at = (k * args.row_classes + r) * args.column_classes + c;
          int32_t* values = correction_values_.data() + at * length;
          corrections_[at] = values;
          for (int64_t y = 0; y < kernel_height_; ++y) {
            const bool row_outside = contains(rows[k][r], y);
            for (int64_t x = 0; x < kernel_width_; ++x) {
              if (!row_outside && !contains(columns[k][c], x)) continue;
              const int32_t* sum = sums.data() + (y * kernel_width_ + x) * length;
              for (int64_t o = 0; o < length; ++o) values[o] += sum[o];
            }
          }
        }
      }
    }
    args.corrections = corrections_.data();
    args.row_class = row_class_.data();
    args.column_class = column_class_.data();
  }

  static bool contains(const Ints& sorted, int64_t value) {
    return std::binary_search(sorted.begin(), sorted.end(), value);
  }

  // The distinct sets of taps that lie outside, and which of them each output position has.
  std::vector<Ints> classes(int64_t kernel, int64_t base, int64_t size, int64_t out_size,
                            int32_t* of) const {
    std::map<Ints, int32_t> numbers;
    std::vector<Ints> found;
    for (int64_t i = 0; i < out_size; ++i) {
      Ints outside;
      for (int64_t tap = 0; tap < kernel; ++tap) {
        const int64_t at = i * args.stride + tap * dilations_[base] - border(kernel, base);
        if (at < 0 || at >= size) outside.push_back(tap);
      }
      const auto [entry, is_new] = numbers.try_emplace(outside, found.size());
      if (is_new) found.push_back(outside);
      of[i] = entry->second;
    }
    return found;
  }

  // Sum of the weights (each ±1) of every tap and output channel: [tap][blocks * 64].
  std::vector<int32_t> weight_sums(int64_t base, int64_t in_channels) const {
    const int64_t taps = kernel_height_ * kernel_width_, length = args.blocks * kBlock;
    std::vector<int32_t> sums(taps * length, static_cast<int32_t>(-in_channels));
    const uint32_t* w = args.weight + base * args.blocks * taps * args.in_words * kBlock;
    for (int64_t block = 0; block < args.blocks; ++block)
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t word = 0; word < args.in_words; ++word)
          for (int64_t o = 0; o < kBlock; ++o, ++w)
            sums[tap * length + block * kBlock + o] += 2 * __builtin_popcount(*w);
    return sums;
  }
};

// Thresholds of sums, (s - low) mod 2^32 <= span, as thresholds of counts c with s = terms - 2c.
inline void count_thresholds(int64_t terms, const uint32_t* low, const uint32_t* span,
                             int64_t length, uint32_t* count_low, uint32_t* count_span) {
  const auto up = [](int64_t x) { return (x + (x > 0)) / 2; };    // ⌈x / 2⌉
  const auto down = [](int64_t x) { return (x - (x < 0)) / 2; };  // ⌊x / 2⌋
  for (int64_t i = 0; i < length; ++i) {
    const int64_t first = static_cast<int32_t>(low[i]);
    const int64_t last = first + span[i];
    constexpr int64_t kWhole = int64_t(1) << 32;
    // with a range that wraps around, what it leaves out is the interval
    const bool wraps = last > INT32_MAX;
    const int64_t from = wraps ? last - kWhole + 1 : first, to = wraps ? first - 1 : last;
    const int64_t count_from = up(terms - to), count_to = down(terms - from);
    const int64_t inside = count_to >= count_from ? count_to - count_from + 1 : 0;
    if (wraps) {
      count_low[i] = static_cast<uint32_t>(inside ? count_to + 1 : 0);
      count_span[i] = static_cast<uint32_t>(kWhole - 1 - inside);
    } else {
      // no count is this large, so none is inside an empty interval
      count_low[i] = static_cast<uint32_t>(inside ? count_from : INT32_MAX);
      count_span[i] = static_cast<uint32_t>(inside ? inside - 1 : 0);
    }
  }
}

inline int64_t tasks_of(const ConvArgs& a, bool merge) {
  const int64_t chunks = (a.out_height + a.rows_per_task - 1) / a.rows_per_task;
  return a.batch * (merge ? 1 : a.bases) * a.blocks * chunks;
}

}  // namespace binseg
