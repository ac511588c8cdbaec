// AMX: 16 pixels of 64 bytes times 64 bytes of 16 channels in one instruction. Bits are unpacked to
// bytes of ±1: that is eight times as much memory in the caches, and twice as fast as counting
// bits. All else is as with AVX-512.
#include "avx512.h"
#include "tiles.h"

namespace binseg {
namespace {

// Nothing that is written before it is moved behind it: compilers do not know what tiles read.
inline void fence() { asm volatile("" ::: "memory"); }

// The registers while a kernel runs: 0 to 3 sums, 4 and 5 pixels, 6 and 7 weights.
class TileRegisters {
 public:
  explicit TileRegisters(int64_t pixels) {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = 64;
      config.rows[i] = static_cast<uint8_t>(i < 6 ? pixels : 16);
    }
    asm volatile("ldtilecfg (%0)" ::"r"(&config) : "memory");
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// Rows of the input of one base or of several, unpacked when they are first needed.
template <bool Bytes>
class TileRows {
 public:
  TileRows(const ConvArgs& a, const TilePlan& plan, Scratch& scratch)
      : a_(a),
        plan_(plan),
        apart_(a.base_step != 0),
        where_(scratch.take<const uint8_t*>(plan.together * (a.height + 1))),
        rows_(scratch.take<uint8_t>(plan.together * plan.kept * plan.row_bytes)) {}

  void clear() {
    for (int64_t i = 0; i < plan_.together * (a_.height + 1); ++i) where_[i] = nullptr;
    count_ = 0;
  }
  // What a tap reads for output row y, column 0 of base first + j.
  const uint8_t* find(const Tap& tap, int64_t y, int64_t first, int64_t j) {
    int64_t row = y * a_.stride + tap.row;
    if (tap.outside || row < 0 || row >= a_.height) row = a_.height;
    const uint8_t*& found = where_[(apart_ ? j * (a_.height + 1) : 0) + row];
    if (!found) {
      uint8_t* const to = rows_ + count_++ * plan_.row_bytes;
      const uint8_t* from = row < a_.height ? a_.image + row * a_.row_stride : a_.border_row;
      unpack(from + (first + j) * a_.base_step - a_.border_left * a_.pixel, to);
      found = to;
    }
    return found + (a_.border_left + (tap.outside ? 0 : tap.offset / a_.pixel)) * plan_.pixel;
  }

 private:
  const ConvArgs& a_;
  const TilePlan& plan_;
  const bool apart_;
  const uint8_t** where_;  // [bases][height + 1], the last for the border
  uint8_t* rows_;
  int64_t count_ = 0;

  static void unpack_some(const uint8_t* from, uint8_t* to, int64_t bytes) {
    if constexpr (Bytes) {
      __builtin_memcpy(to, from, static_cast<size_t>(bytes));
    } else {
      const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
      for (; bytes >= 8; bytes -= 8, from += 8, to += 64) {
        uint64_t bits;
        __builtin_memcpy(&bits, from, 8);
        _mm512_storeu_si512(to, _mm512_mask_blend_epi8(bits, minus, plus));
      }
      if (bytes == 0) return;
      uint32_t bits;  // words have four bytes
      __builtin_memcpy(&bits, from, 4);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                          _mm256_mask_blend_epi8(bits, _mm256_set1_epi8(-1), _mm256_set1_epi8(1)));
    }
  }
  void unpack(const uint8_t* from, uint8_t* to) const {
    const int64_t pixels = a_.border_left + a_.in_width + a_.border_right;
    if (a_.base_bytes == a_.pixel) return unpack_some(from, to, pixels * a_.pixel);
    for (int64_t p = 0; p < pixels; ++p)
      unpack_some(from + p * a_.pixel, to + p * plan_.pixel, a_.base_bytes);
  }
};

// One slice of weights as bytes: -1 where a bit is set, so that sums are -s, and 0 where a run has
// no weights.
__attribute__((noinline)) void unpack_weights(const ConvArgs& a, const uint8_t* bits, uint8_t* to) {
  const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
  for (int64_t t = 0; t < a.tap_count; ++t) {
    for (int64_t i = 0; i < a.run; ++i) {
      const uint64_t* masks = a.run_masks + i * kTilePixels;
      for (int64_t r = 0; r < 2 * kTilePixels; ++r, bits += 8, to += kTileBytes) {
        uint64_t row;
        __builtin_memcpy(&row, bits, 8);
        const __m512i weights = _mm512_mask_blend_epi8(row, plus, minus);
        _mm512_store_si512(to, _mm512_maskz_mov_epi8(masks[r % kTilePixels], weights));
      }
    }
  }
}

// The kernel of one call. Sums are [pixel][32 channels].
template <bool Bytes>
class TileConv {
 public:
  static constexpr int kVectors = kTileChannels / 16;
  using Sums = int32_t[2 * kTilePixels][kTileChannels];

  TileConv(const ConvArgs& a, const TilePlan& plan, Scratch& scratch)
      : a_(a),
        plan_(plan),
        rows_(a, plan, scratch),
        taps_(scratch.take<const uint8_t*>(plan.rows * plan.together * a.tap_count)),
        unpacked_(Bytes ? nullptr : scratch.take<uint8_t>(plan.together * plan.slice)),
        sums_(scratch.take<Sums>(plan.together)) {}

  // Output rows [top, bottom) of bases from `first` on come next.
  void start_rows(int64_t top, int64_t bottom, int64_t first) {
    if (top != top_ || a_.base_step != 0) rows_.clear();
    const uint8_t** to = taps_;
    for (int64_t y = top; y < bottom; ++y)
      for (int64_t j = 0; j < plan_.together; ++j)
        for (int64_t t = 0; t < a_.tap_count; ++t)
          *to++ = rows_.find(a_.taps[(first + j) * a_.tap_count + t], y, first, j);
    top_ = top;
    fence();
  }
  // So do 32 channels from `channel` of a block on.
  void start_channels(int64_t first, int64_t block, int64_t channel) {
    const auto* weights = static_cast<const uint8_t*>(a_.weight) + block * a_.weight_block +
                          channel / kTileChannels * (Bytes ? plan_.slice : plan_.slice / 8);
    for (int64_t j = 0; j < plan_.together; ++j) {
      const uint8_t* of_base = weights + (first + j) * a_.weight_base;
      if constexpr (Bytes) {
        weights_[j] = of_base;
      } else {
        uint8_t* const to = unpacked_ + j * plan_.slice;
        unpack_weights(a_, of_base, to);
        weights_[j] = to;
      }
    }
    fence();
  }
  // Makes the sums of two tiles of pixels from x on in row y.
  void multiply(int64_t y, int64_t x) {
    for (int64_t j = 0; j < plan_.together; ++j) {
      const uint8_t* const* taps = taps_ + ((y - top_) * plan_.together + j) * a_.tap_count;
      if (a_.out_width - x > plan_.pixels) {
        multiply_tiles<true>(taps, x * plan_.step, weights_[j], sums_[j]);
      } else {
        multiply_tiles<false>(taps, x * plan_.step, weights_[j], sums_[j]);
      }
    }
  }
  // How many pixels multiply() makes.
  int64_t count(int64_t x) const { return least(a_.out_width - x, 2 * plan_.pixels); }
  // Those of P pixels from `pixel` on.
  template <int P>
  BINSEG_INLINE void get(int64_t j, int64_t pixel, __m512i (&sums)[P][kVectors]) const {
    const int32_t* from = sums_[j][pixel];
    each_value<P, kVectors>([&](auto p, auto v) BINSEG_INLINE {
      sums[p][v] = _mm512_load_si512(from + p * kTileChannels + v * 16);
    });
  }

 private:
  const ConvArgs& a_;
  const TilePlan& plan_;
  TileRows<Bytes> rows_;
  const uint8_t** taps_;  // [row][base][tap]
  uint8_t* unpacked_;
  Sums* sums_;
  const uint8_t* weights_[kMostBases];
  int64_t top_ = -1;

  template <bool Two>
  void multiply_tiles(const uint8_t* const* taps, int64_t at, const uint8_t* weights,
                      Sums& sums) const {
    const auto step = static_cast<size_t>(plan_.step);
    const int64_t second = plan_.pixels * plan_.step;
    constexpr size_t kPixel = kTileChannels * sizeof(int32_t);
    int32_t* const more = sums[plan_.pixels];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t t = 0; t < a_.tap_count; ++t) {
      const uint8_t* pixels = taps[t] + at;
      for (int64_t i = 0; i < a_.run; ++i, pixels += kTileBytes, weights += kTileWeights) {
        _tile_loadd(6, weights, 64);
        _tile_loadd(4, pixels, step);
        _tile_loadd(7, weights + kTileWeights / 2, 64);
        if constexpr (Two) _tile_loadd(5, pixels + second, step);
        if constexpr (Bytes) {
          _tile_dpbusd(0, 4, 6);
          _tile_dpbusd(1, 4, 7);
          if constexpr (Two) {
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
          }
        } else {
          _tile_dpbssd(0, 4, 6);
          _tile_dpbssd(1, 4, 7);
          if constexpr (Two) {
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
          }
        }
      }
    }
    _tile_stored(0, sums[0], kPixel);
    _tile_stored(1, sums[0] + 16, kPixel);
    if constexpr (Two) {
      _tile_stored(2, more, kPixel);
      _tile_stored(3, more + 16, kPixel);
    }
  }
};

template <bool Bytes, class Epilogue>
void convolve_tiles(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  using Conv = TileConv<Bytes>;
  Scratch scratch(memory);
  const TilePlan plan(a, Bytes, Epilogue::kMerges, false);
  Epilogue epilogue(a, scratch);
  Conv conv(a, plan, scratch);
  const TileRegisters registers(plan.pixels);
  for (int64_t top = begin; top < end; top += plan.rows) {
    const int64_t bottom = least(end, top + plan.rows);
    for (int64_t k = 0; k < a.bases; k += plan.together) {
      conv.start_rows(top, bottom, k);
      for (int64_t channel = 0; channel < a.out_channels; channel += kTileChannels) {
        const int64_t block = channel / kBlock, first = channel % kBlock;
        conv.start_channels(k, block, first);
        for (int64_t y = top; y < bottom; ++y) {
          for (int64_t x0 = 0; x0 < a.out_width; x0 += 2 * plan.pixels) {
            for (int64_t j = 0; j < plan.together; ++j)
              epilogue.prefetch(k + j, channel, y, x0, conv.count(x0), Conv::kVectors);
            conv.multiply(y, x0);
            each_tile<5>(conv.count(x0), [&]<int P>(int64_t p) {
              const int64_t x = x0 + p;
              for (int64_t j = 0; j < plan.together; ++j) {
                __m512i sums[P][Conv::kVectors];
                conv.template get<P>(j, p, sums);
                if (has_starts(a, k + j, y, x, P)) {
                  const Starts starts = find_starts(a, k + j, block, y, x, P);
                  unroll<P>([&](auto q) BINSEG_INLINE {
                    if (!starts.of[q]) return;
                    unroll<Conv::kVectors>([&](auto v) BINSEG_INLINE {
                      sums[q][v] =
                          Avx512::add(sums[q][v], Avx512::load(starts.of[q] + first + v * 16));
                    });
                  });
                }
                epilogue.template take<P, Conv::kVectors>(k + j, block, first, y, x, sums);
              }
              epilogue.template finish<P, Conv::kVectors>(block, first, y, x);
            });
          }
        }
      }
    }
  }
}

}  // namespace

void convolve_tiles_and_pool(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  using Conv = TileConv<true>;
  Scratch scratch(memory);
  const TilePlan plan(a, true, false, true);
  PoolRows<Avx512> pool(a, scratch);
  Conv conv(a, plan, scratch);
  const TileRegisters registers(plan.pixels);
  const int64_t first_row = begin > 0 ? 2 * begin - 1 : 0;
  const int64_t last_row = least(a.out_height, 2 * end);
  for (int64_t k = 0; k < a.bases; ++k) {
    for (int64_t channel = 0; channel < a.out_channels; channel += kTileChannels) {
      const int64_t block = channel / kBlock, first = channel % kBlock;
      conv.start_channels(k, block, first);
      for (int64_t top = first_row; top < last_row; top += plan.rows) {
        const int64_t bottom = least(last_row, top + plan.rows);
        conv.start_rows(top, bottom, k);
        for (int64_t y = top; y < bottom; ++y) {
          const PoolRow row(a, y, begin);
          for (int64_t x0 = 0; x0 < a.out_width; x0 += 2 * plan.pixels) {
            conv.multiply(y, x0);
            each_pool_tile<10>(conv.count(x0), [&]<int P>(int64_t p) {
              __m512i sums[P][Conv::kVectors];
              conv.template get<P>(0, p, sums);
              pool_sums<Avx512, P, Conv::kVectors>(a, k, block, first, row, x0 + p, sums, pool);
            });
          }
        }
      }
    }
  }
}

void convolve_tiles_to_bits(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  convolve_tiles<false, Threshold<Avx512>>(a, begin, end, memory);
}
void convolve_tiles_to_real(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  convolve_tiles<false, Real<Avx512>>(a, begin, end, memory);
}
void convolve_tiles_and_merge(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  convolve_tiles<false, Merge<Avx512>>(a, begin, end, memory);
}
void convolve_tiles_of_bytes(const ConvArgs& a, int64_t begin, int64_t end, void* memory) {
  convolve_tiles<true, Real<Avx512>>(a, begin, end, memory);
}

}  // namespace binseg
