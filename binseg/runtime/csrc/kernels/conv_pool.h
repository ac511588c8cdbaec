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

  PoolRows(const ConvArgs& a, Scratch& scratch) {
    const int64_t width = (a.out_width + 1) / 2;
    above = scratch.take<int32_t>(width * kBlock);
    both = scratch.take<int32_t>(width * kBlock);
    tail = scratch.take<int32_t>(kBlock);
  }
};

// Which row of sums this is.
struct PoolRow {
  int64_t y;
  // an odd row ends a pooled one, but for the one before the first; so does the last row
  bool finishes;
  PoolRow(const ConvArgs& a, int64_t y, int64_t begin)
      : y(y), finishes(y >= 2 * begin && (y % 2 == 1 || y + 1 == a.out_height)) {}
};

template <class Isa, int P, int V>
inline BINSEG_INLINE void pool_sums(const ConvArgs& a, int64_t base, int64_t block, int64_t first,
                                    const PoolRow& row, int64_t x,
                                    const typename Isa::Int (&sums)[P][V], PoolRows<Isa>& rows) {
  using Int = typename Isa::Int;
  const int64_t y = row.y;
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
      if (y > 0) across[q][v] = Isa::maxi(across[q][v], Isa::load(above + i));
      Isa::store(both + i, across[q][v]);
    });
  } else {
    each_value<Q, V>([&](auto q, auto v) BINSEG_INLINE {
      const int64_t i = q * kBlock + v * Isa::kLanes;
      Isa::store(above + i, across[q][v]);
      if (row.finishes) across[q][v] = Isa::maxi(across[q][v], Isa::load(both + i));
    });
  }
  if (!row.finishes) return;
  const Group<Isa, Q, V> at(a.finish, base, block * kBlock + first, y / 2, x / 2);
  typename Isa::Float values[Q][V];
  curve_values<Isa, Q, V>(a, base, block, first, across, values);
  finish_group<Isa, Q, V>(a.finish, at, values);
}

// Calls f<P>(x) over a row of `width` sums: tiles of Most, an even number, then of two, then of
// one.
template <int Most, class F>
inline void each_pool_tile(int64_t width, F&& f) {
  static_assert(Most % 2 == 0);
  int64_t x = 0;
  for (; x + Most <= width; x += Most) f.template operator()<Most>(x);
  for (; x + 2 <= width; x += 2) f.template operator()<2>(x);
  if (x < width) f.template operator()<1>(x);
}

template <class Isa, int P, int V>
inline void pool_tile(const ConvArgs& a, const uint8_t* const* taps, int64_t base, int64_t block,
                      int64_t first, const PoolRow& row, int64_t x, PoolRows<Isa>& rows) {
  const char* weight = static_cast<const char*>(a.weight) + base * a.weight_base +
                       block * a.weight_block + first * Isa::kByteWeight;
  typename Isa::Int sums[P][V];
  Isa::template multiply<P, V>(sums, a, weight, taps, x);
  pool_sums<Isa, P, V>(a, base, block, first, row, x, sums, rows);
}

// Rows are those of the pooled result. One pass of V vectors at a time over all rows.
template <class Isa>
void convolve_and_pool(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  constexpr int V = Isa::kPoolVectors;
  static_assert(V * Isa::kLanes <= 32);
  Scratch scratch(memory);
  auto** taps = scratch.take<const uint8_t*>(a.tap_count);
  PoolRows<Isa> rows(a, scratch);
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
        const PoolRow row(a, y, begin);
        each_pool_tile<Isa::kPoolPixels>(a.out_width, [&]<int P>(int64_t x) {
          pool_tile<Isa, P, V>(a, taps, base, block, first, row, x, rows);
        });
      }
    }
  }
}

}  // namespace
}  // namespace binseg
