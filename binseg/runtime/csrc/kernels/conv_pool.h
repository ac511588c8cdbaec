// The stem: an 8-bit convolution whose sums are max-pooled (3×3, stride 2, border 1), across while
// they are in registers and downwards while they are in the first cache, then finished.
#pragma once

#include "conv.h"
#include "epilogues.h"

namespace binseg {
namespace {

// Between rows lie two rows of maxima across: those of the odd row above and of it and the even
// row below it.
template <class Isa>
struct PoolRows {
  int32_t *above, *both;  // [pooled width][64]
  int32_t* tail;          // [64] last odd column so far
};

template <class Isa, int P, int V>
inline void pool_tile(const ConvArgs& a, const uint8_t* const* taps, int64_t base, int64_t block,
                      int64_t first, int64_t y, int64_t x, bool finishes, bool starts,
                      PoolRows<Isa>& rows) {
  using Int = typename Isa::Int;
  const char* weight = static_cast<const char*>(a.weight) + base * a.weight_base +
                       block * a.weight_block + first * Isa::kByteWeight;
  Int sums[P][V];
  Isa::template multiply<P, V>(sums, a, weight, taps, x);
  // column x is even: maxima of columns (x - 1, x, x + 1), (x + 1, x + 2, x + 3), …
  constexpr int Q = (P + 1) / 2;
  Int across[Q][V];
  unroll<Q>([&](auto q) BINSEG_INLINE {
    unroll<V>([&](auto v) BINSEG_INLINE {
      Int most = sums[2 * q][v];
      if constexpr (2 * q + 1 < P) most = Isa::maxi(most, sums[2 * q + 1][v]);
      if constexpr (q > 0) {
        most = Isa::maxi(most, sums[2 * q - 1][v]);
      } else if (x > 0) {
        most = Isa::maxi(most, Isa::load(rows.tail + v * Isa::kLanes));
      }
      across[q][v] = most;
    });
  });
  if constexpr (P % 2 == 0) {
    unroll<V>([&](auto v)
                  BINSEG_INLINE { Isa::store(rows.tail + v * Isa::kLanes, sums[P - 1][v]); });
  }
  int32_t* both = rows.both + x / 2 * kBlock;
  int32_t* above = rows.above + x / 2 * kBlock;
  if (y % 2 == 0) {  // the first row of a call has nothing above it, or the row above just made
    each_value<Q, V>([&](auto q, auto v) BINSEG_INLINE {
      const int64_t i = q * kBlock + v * Isa::kLanes;
      if (!starts) across[q][v] = Isa::maxi(across[q][v], Isa::load(above + i));
      Isa::store(both + i, across[q][v]);
    });
  } else {
    each_value<Q, V>([&](auto q, auto v) BINSEG_INLINE {
      const int64_t i = q * kBlock + v * Isa::kLanes;
      Isa::store(above + i, across[q][v]);
      if (finishes) across[q][v] = Isa::maxi(across[q][v], Isa::load(both + i));
    });
  }
  if (!finishes) return;
  const Group<Isa, Q, V> at(a.finish, base, block * kBlock + first, y / 2, x / 2);
  typename Isa::Float values[Q][V];
  curve_values<Isa, Q, V>(a, base, block, first, across, values);
  finish_group<Isa, Q, V>(a.finish, at, values);
}

// Rows are those of the pooled result. One pass of V vectors at a time over all rows.
template <class Isa>
void convolve_and_pool(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  constexpr int V = Isa::kPoolVectors, P = Isa::kPoolPixels;
  static_assert(P % 2 == 0 && V * Isa::kLanes <= 32);
  const int64_t width = (a.out_width + 1) / 2;
  Scratch scratch(memory);
  auto** taps = scratch.take<const uint8_t*>(a.tap_count);
  PoolRows<Isa> rows;
  rows.above = scratch.take<int32_t>(width * kBlock);
  rows.both = scratch.take<int32_t>(width * kBlock);
  rows.tail = scratch.take<int32_t>(kBlock);
  typename Isa::template Rows<true> unpacked(a, scratch);
  const int64_t first_row = begin > 0 ? 2 * begin - 1 : 0;
  const int64_t last_row = least(a.out_height, 2 * end);
  for (int64_t pass = 0; pass < a.bases * a.blocks; ++pass) {
    const int64_t base = pass / a.blocks, block = pass % a.blocks;
    const int64_t channels = least(kBlock, a.out_channels - block * kBlock);
    for (int64_t first = 0; first < (channels + 31) / 32 * 32; first += V * Isa::kLanes) {
      for (int64_t y = first_row; y < last_row; ++y) {
        unpacked.clear();
        locate_taps(a, y, base, unpacked, taps);
        // an odd row ends a pooled one, but for the one before the first; so does the last row
        const bool finishes = y >= 2 * begin && (y % 2 == 1 || y + 1 == a.out_height);
        const bool starts = y == 0;
        int64_t x = 0;
        for (; x + P <= a.out_width; x += P)
          pool_tile<Isa, P, V>(a, taps, base, block, first, y, x, finishes, starts, rows);
        for (; x + 2 <= a.out_width; x += 2)
          pool_tile<Isa, 2, V>(a, taps, base, block, first, y, x, finishes, starts, rows);
        if (x < a.out_width)
          pool_tile<Isa, 1, V>(a, taps, base, block, first, y, x, finishes, starts, rows);
      }
    }
  }
}

}  // namespace
}  // namespace binseg
