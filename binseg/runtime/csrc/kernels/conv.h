// The convolution of bits or bytes, over an instruction set `Isa` that supplies the vector type and
// the inner loop. A lane is one output channel: sums come out in channel order, so that nothing is
// ever added across lanes and the comparison of an epilogue is the packed word of the next layer.
#pragma once

#include "kernels.h"

namespace binseg {
namespace {

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Where the words of a tap begin, for output row y and column 0.
inline void locate_taps(const ConvArgs& a, int64_t n, int64_t y, int64_t base,
                        const uint32_t** where) {
  const Tap* taps = a.taps + base * a.tap_count;
  const int64_t offset = a.in_bases == 1 ? 0 : base * a.in_words;
  const int64_t pixel = a.in_bases * a.in_words;
  for (int64_t t = 0; t < a.tap_count; ++t) {
    const int64_t row = y * a.stride + taps[t].row;
    const bool outside = row < 0 || row >= a.height || taps[t].column < 0;
    const uint32_t* start =
        outside ? a.border_row : a.image + n * a.image_stride + row * a.row_stride;
    where[t] = start + (taps[t].column < 0 ? 0 : taps[t].column) * pixel + offset;
  }
}

// Sums of a tile for one base, handed to the epilogue V vectors at a time; `channels` of the block
// exist. An epilogue may take the counts of differing bits instead of the sums, which are
// terms - 2 * count, as long as nothing was added to them.
template <class Isa, bool Bytes, int V, int Pixels, class Epilogue>
inline void tile(const ConvArgs& a, const uint32_t* const* taps, int64_t base, int64_t block,
                 int64_t channels, int64_t y, int64_t x, Epilogue& epilogue) {
  using Vector = typename Isa::Int;
  const uint32_t* weight = a.weight + (base * a.blocks + block) * a.tap_count * a.run * kBlock;
  const int32_t* corrections[Pixels];
  if constexpr (!Bytes) {
    for (int p = 0; p < Pixels; ++p) {
      corrections[p] = nullptr;
      if (a.corrections) {
        const int64_t row = a.row_class[base * a.out_height + y];
        const int64_t column = a.column_class[base * a.out_width + x + p];
        const int32_t* found =
            a.corrections[(base * a.row_classes + row) * a.column_classes + column];
        corrections[p] = found ? found + block * kBlock : nullptr;
      }
    }
  }
  epilogue.template announce<Pixels>(base, y, x);
  for (int first = 0; first < channels; first += V * Isa::kLanes) {
    Vector sums[Pixels][V];
    if constexpr (Bytes) {
      Isa::template multiply<Pixels, V>(sums, weight + first, taps, a.tap_count, a.run,
                                        x * a.pixel_step, a.pixel_step);
    } else {
      Isa::template count<Pixels, V>(sums, weight + first, taps, a.tap_count, a.run,
                                     x * a.pixel_step, a.pixel_step);
      if (a.corrections || !Epilogue::kTakesCounts) {
        const Vector terms = Isa::set(a.terms);
#pragma GCC unroll 8
        for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) {
            sums[p][v] = Isa::sub(terms, Isa::add(sums[p][v], sums[p][v]));
            if (corrections[p]) {
              sums[p][v] =
                  Isa::add(sums[p][v], Isa::load(corrections[p] + first + v * Isa::kLanes));
            }
          }
        }
      }
    }
    epilogue.template take<Pixels>(base, first / Isa::kLanes, y, x, sums);
  }
}

// Calls f<V> with as many vectors as a pass over `channels` of a block should take.
template <class Isa, class F>
inline void with_vectors(int64_t channels, F&& f) {
  constexpr int V = Isa::kVectors;
  if constexpr (V * Isa::kLanes > kBlock / 2) {
    if (channels <= kBlock / 2) return f.template operator()<V / 2>();
  }
  f.template operator()<V>();
}

// Calls f<Pixels>(x) over a row of `width` pixels in tiles of at most Isa::kPixels.
template <class Isa, class F>
inline void each_tile(int64_t width, F&& f) {
  int64_t x = 0;
  for (; x + Isa::kPixels <= width; x += Isa::kPixels) f.template operator()<Isa::kPixels>(x);
  const int64_t rest = width - x;
  if constexpr (Isa::kPixels > 4) {
    if (rest == 4) return f.template operator()<4>(x);
  }
  if constexpr (Isa::kPixels > 3) {
    if (rest == 3) return f.template operator()<3>(x);
  }
  if constexpr (Isa::kPixels > 2) {
    if (rest == 2) return f.template operator()<2>(x);
  }
  if constexpr (Isa::kPixels > 1) {
    if (rest == 1) return f.template operator()<1>(x);
  }
}

// All convolutions but the pooled one. `Epilogue::kMerges` says that it takes the bases together.
template <class Isa, bool Bytes, class Epilogue>
void convolve(const ConvArgs& a, int64_t begin, int64_t end, void* scratch) {
  auto** taps = static_cast<const uint32_t**>(scratch);
  const int64_t table = (a.bases * a.tap_count * (int64_t)sizeof(void*) + 63) / 64 * 64;
  auto* space = reinterpret_cast<float*>(static_cast<char*>(scratch) + table);
  const int64_t chunks = (a.out_height + a.rows_per_task - 1) / a.rows_per_task;
  const int64_t together = Epilogue::kMerges ? a.bases : 1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t chunk = Epilogue::kMerges ? task / a.blocks % chunks : task % chunks;
    const int64_t block = Epilogue::kMerges ? task % a.blocks : task / chunks % a.blocks;
    const int64_t rest = task / (chunks * a.blocks);
    const int64_t first_base = Epilogue::kMerges ? 0 : rest % a.bases;
    const int64_t n = Epilogue::kMerges ? rest : rest / a.bases;
    Epilogue epilogue(a, n, first_base, block, space);
    const int64_t channels = least(kBlock, a.out_channels - block * kBlock);
    const int64_t last_row = least(a.out_height, (chunk + 1) * a.rows_per_task);
    for (int64_t y = chunk * a.rows_per_task; y < last_row; ++y) {
      for (int64_t k = 0; k < together; ++k)
        locate_taps(a, n, y, first_base + k, taps + k * a.tap_count);
      with_vectors<Isa>(channels, [&]<int V>() {
        each_tile<Isa>(a.out_width, [&]<int Pixels>(int64_t x) {
          for (int64_t k = 0; k < together; ++k)
            tile<Isa, Bytes, V, Pixels>(a, taps + k * a.tap_count, first_base + k, block, channels,
                                        y, x, epilogue);
          epilogue.template finish<Pixels>(y, x);
        });
      });
    }
  }
}

}  // namespace
}  // namespace binseg
