// The convolution of bits or bytes, over an instruction set `Isa` that supplies the vector type and
// the inner loop. A lane is one output channel: sums come out in channel order, so that nothing is
// ever added across lanes and the comparison of an epilogue is the packed word of the next layer.
//
// A row of results is made in passes over V vectors of channels, and in each pass in tiles of P
// pixels, whose sums go straight to what follows them (`Epilogue`).
#pragma once

#include "kernels.h"
#include "lanes.h"

namespace binseg {
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Scratch memory of a call, handed out from the front.
class Scratch {
 public:
  explicit Scratch(void* memory) : at_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    char* const found = at_;
    at_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return reinterpret_cast<T*>(found);
  }

 private:
  char* at_;
};

// What is added to the accumulators of the pixels of a tile, where there is zero padding.
struct Starts {
  const int32_t* of[kLargestTile];
};
inline bool has_starts(const ConvArgs& a, int64_t base, int64_t y, int64_t x, int64_t pixels) {
  return a.starts && (a.row_class[base * a.out_height + y] != 0 || x < a.inner_from[base] ||
                      x + pixels > a.inner_to[base]);
}
inline Starts find_starts(const ConvArgs& a, int64_t base, int64_t block, int64_t y, int64_t x,
                          int64_t pixels) {
  Starts starts;
  const int64_t row = base * a.row_classes + a.row_class[base * a.out_height + y];
  for (int64_t p = 0; p < pixels; ++p) {
    const int64_t column = a.column_class[base * a.out_width + x + p];
    const int32_t* found = a.starts[row * a.column_classes + column];
    starts.of[p] = found ? found + block * kBlock : nullptr;
  }
  return starts;
}

// The sums of one tile of one base, handed on in groups of G vectors.
template <class Isa, bool Bytes, int P, int V, class Epilogue>
inline void tile(const ConvArgs& a, const uint8_t* const* taps, int64_t base, int64_t block,
                 int64_t first, int64_t y, int64_t x, Epilogue& epilogue) {
  const char* weight =
      static_cast<const char*>(a.weight) + base * a.weight_base + block * a.weight_block;
  epilogue.prefetch(base, block * kBlock + first, y, x, P, V);
  if constexpr (Bytes) {
    typename Isa::Int sums[P][V];
    Isa::template multiply<P, V>(sums, a, weight + first * Isa::kByteWeight, taps, x);
    epilogue.template take<P, V>(base, block, first, y, x, sums);
  } else {
    constexpr int G = V < Isa::template group<P>() ? V : Isa::template group<P>();
    typename Isa::template BitSums<P, V> sums;
    sums.count(a, weight + first * Isa::kBitWeight, taps, x);
    const bool edge = has_starts(a, base, y, x, P);
    Starts starts;
    if (edge) starts = find_starts(a, base, block, y, x, P);
    for (int g = 0; g < V; g += G) {
      typename Isa::Int group[P][G];
      unroll<P>([&](auto p) BINSEG_INLINE {
        unroll<G>([&](auto v) BINSEG_INLINE { group[p][v] = sums.get(p, g + v); });
      });
      if (a.doubled) {
        const auto plus = Isa::set(a.doubled_plus);
        unroll<P>([&](auto p) BINSEG_INLINE {
          unroll<G>([&](auto v) BINSEG_INLINE {
            group[p][v] = Isa::add(Isa::add(group[p][v], group[p][v]), plus);
          });
        });
      }
      if (edge) {
        unroll<P>([&](auto p) BINSEG_INLINE {
          if (!starts.of[p]) return;
          const int32_t* from = starts.of[p] + first + g * Isa::kLanes;
          unroll<G>([&](auto v) BINSEG_INLINE {
            group[p][v] = Isa::add(group[p][v], Isa::load(from + v * Isa::kLanes));
          });
        });
      }
      epilogue.template take<P, G>(base, block, first + g * Isa::kLanes, y, x, group);
    }
  }
}

#ifdef __wasm__
constexpr int kPair = 3;  // a page's module is to be small
#else
constexpr int kPair = 2;
#endif

// Calls f<P>(x) over a row of `width` pixels: tiles of Most, then of two, then of one.
template <int Most, class F>
inline void each_tile(int64_t width, F&& f) {
  int64_t x = 0;
  for (; x + Most <= width; x += Most) f.template operator()<Most>(x);
  if constexpr (Most > 5) {
    for (; x + 5 <= width; x += 5) f.template operator()<5>(x);
  }
  if constexpr (Most > kPair) {
    for (; x + 2 <= width; x += 2) f.template operator()<2>(x);
  }
  if constexpr (Most > 1) {
    for (; x < width; ++x) f.template operator()<1>(x);
  }
}

// Calls f<V>(first) until all words of the block's channels are done, with as many vectors at a
// time as the instruction set takes.
template <class Isa, bool Bytes, class F>
inline void each_pass(int64_t channels, F&& f) {
  constexpr int V = Bytes ? Isa::kByteVectors : Isa::kBitVectors;
  const int64_t words = (channels + 31) / 32 * 32;
  if constexpr (V * Isa::kLanes > 32) {
    static_assert(V * Isa::kLanes == 64);
    if (words == 32) return f.template operator()<V / 2>(0);
    f.template operator()<V>(0);
  } else {
    for (int64_t first = 0; first < words; first += V * Isa::kLanes)
      f.template operator()<V>(first);
  }
}

// Where the words of each tap begin, for output row y, column 0 and one base.
template <class Rows>
inline void locate_taps(const ConvArgs& a, int64_t y, int64_t base, Rows& rows,
                        const uint8_t** where) {
  const Tap* tap = a.taps + base * a.tap_count;
  for (int64_t t = 0; t < a.tap_count; ++t, ++tap) {
    const int64_t row = y * a.stride + tap->row;
    const bool outside = tap->outside || row < 0 || row >= a.height;
    const uint8_t* start = outside ? a.border_row : a.image + row * a.row_stride;
    where[t] = rows.find(start + base * a.base_step, tap->outside ? 0 : tap->offset);
  }
}

// The input as it is; an instruction set may keep rows in another form.
struct PlainRows {
  PlainRows(const ConvArgs&, Scratch&) {}
  void clear() {}
  const uint8_t* find(const uint8_t* row, int64_t offset) const { return row + offset; }
};

template <class Isa, bool Bytes, class Epilogue>
void convolve(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  Scratch scratch(memory);
  const int64_t together = Epilogue::kMerges ? a.bases : 1;
  auto** taps = scratch.take<const uint8_t*>(kRowsAtOnce * together * a.tap_count);
  Epilogue epilogue(a, scratch);
  typename Isa::template Rows<Bytes> rows(a, scratch);
  for (int64_t top = begin; top < end; top += kRowsAtOnce) {
    const int64_t bottom = least(end, top + kRowsAtOnce);
    for (int64_t k = 0; k < a.bases; k += together) {
      rows.clear();
      for (int64_t y = top; y < bottom; ++y)
        for (int64_t j = 0; j < together; ++j)
          locate_taps(a, y, k + j, rows, taps + ((y - top) * together + j) * a.tap_count);
      for (int64_t block = 0; block < a.blocks; ++block) {
        const int64_t channels = least(kBlock, a.out_channels - block * kBlock);
        each_pass<Isa, Bytes>(channels, [&]<int V>(int64_t first) {
          for (int64_t y = top; y < bottom; ++y) {
            const auto* const* of_row = taps + (y - top) * together * a.tap_count;
            each_tile<Isa::template pixels<Bytes, V>()>(a.out_width, [&]<int P>(int64_t x) {
              for (int64_t j = 0; j < together; ++j)
                tile<Isa, Bytes, P, V>(a, of_row + j * a.tap_count, k + j, block, first, y, x,
                                       epilogue);
              epilogue.template finish<P, V>(block, first, y, x);
            });
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace binseg
