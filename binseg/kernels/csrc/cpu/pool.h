// The stem: an 8-bit convolution whose rows are max-pooled (3×3, stride 2, border 1) while they are
// in the cache, then scaled and binarized.
#pragma once

#include "conv.h"
#include "epilogues.h"

namespace binseg {
namespace {

// Sums of one row into [out_width][64].
template <class Isa>
struct RowSums {
  static constexpr bool kMerges = false;
  static constexpr bool kTakesCounts = false;
  int32_t* row;

  template <int Pixels>
  void announce(int64_t, int64_t, int64_t) const {}
  template <int Pixels, int V>
  void take(int64_t, int first, int64_t, int64_t x, typename Isa::Int (&sums)[Pixels][V]) {
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        Isa::store(row + (x + p) * kBlock + (first + v) * Isa::kLanes, sums[p][v]);
    }
  }
};

// Tasks are [n][block][group of pooled rows]; out and bits have the pooled size.
template <class Isa>
void convolve_and_pool(const ConvArgs& a, int64_t begin, int64_t end, void* scratch) {
  auto** taps = static_cast<const uint32_t**>(scratch);
  const int64_t table = (a.tap_count * (int64_t)sizeof(void*) + 63) / 64 * 64;
  auto* rows = reinterpret_cast<int32_t*>(static_cast<char*>(scratch) + table);
  const int64_t length = a.out_width * kBlock;
  const int64_t height = (a.out_height + 1) / 2, width = (a.out_width + 1) / 2;
  const int64_t chunks = (height + a.rows_per_task - 1) / a.rows_per_task;
  int32_t* column_max = rows + 3 * length;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t chunk = task % chunks;
    const int64_t block = task / chunks % a.blocks;
    const int64_t n = task / (chunks * a.blocks);
    const Channels<Isa> channels(a, block);
    const int64_t first = chunk * a.rows_per_task;
    const int64_t last = least(height, first + a.rows_per_task);
    int64_t next = first > 0 ? 2 * first - 1 : 0;  // row of sums that comes next
    for (int64_t y = first; y < last; ++y) {
      const int64_t top = y > 0 ? 2 * y - 1 : 0;
      const int64_t bottom = least(a.out_height - 1, 2 * y + 1);
      for (; next <= bottom; ++next) {
        locate_taps(a, n, next, 0, taps);
        RowSums<Isa> sums{rows + next % 3 * length};
        with_vectors<Isa>(channels.count, [&]<int V>() {
          each_tile<Isa>(a.out_width, [&]<int Pixels>(int64_t x) {
            tile<Isa, true, V, Pixels>(a, taps, 0, block, channels.count, next, x, sums);
          });
        });
      }
      for (int64_t i = 0; i < length; i += Isa::kLanes) {
        auto largest = Isa::load(rows + top % 3 * length + i);
        for (int64_t r = top + 1; r <= bottom; ++r)
          largest = Isa::maxi(largest, Isa::load(rows + r % 3 * length + i));
        Isa::store(column_max + i, largest);
      }
      for (int64_t x = 0; x < width; ++x) {
        const int64_t left = x > 0 ? 2 * x - 1 : 0;
        const int64_t right = least(a.out_width - 1, 2 * x + 1);
        const int64_t pixel = (n * height + y) * width + x;
        uint64_t bits = 0;
        for (int v = 0; v < kBlock / Isa::kLanes; ++v) {
          const int count = channels.of(v);
          if (count == 0) break;
          const int channel = v * Isa::kLanes;
          auto largest = Isa::load(column_max + left * kBlock + channel);
          for (int64_t i = left + 1; i <= right; ++i)
            largest = Isa::maxi(largest, Isa::load(column_max + i * kBlock + channel));
          const float* curve = a.curve + block * kBlock + channel;
          const auto value = Isa::fma(Isa::to_float(largest), Isa::loadf(curve),
                                      Isa::loadf(curve + a.blocks * kBlock));
          float* to =
              static_cast<float*>(a.out) + pixel * a.out_channels + block * kBlock + channel;
          store_lanes<Isa>(to, value, count);
          bits |= static_cast<uint64_t>(Isa::not_negative(value)) << channel;
        }
        store_bits(a, pixel, 0, block, bits & channels.mask());
      }
    }
  }
}

}  // namespace
}  // namespace binseg
