// WebAssembly for x86, where a shuffle is one instruction and counting the bits of bytes takes
// eight: like `avx2.cpp`, with half as long vectors. Needs relaxed SIMD for a shuffle that does not
// check its indices, which here are all below 16.
#include "table.h"
#include "unpacked_rows.h"
#include "wasm.h"

namespace binseg {
namespace {

struct WasmX86 : WasmLanes {
  static constexpr Arrangement kArrangement = Arrangement::kUnpacked;
  static constexpr int kBitVectors = 16, kByteVectors = 2;
  static constexpr int kPoolPixels = 2;
  static constexpr int kBitWeight = 1, kByteWeight = 4;  // bytes of one channel in one half word
  // bits: 8 vectors of byte-wide counts, 4 weights, a table
  template <bool Bytes, int V>
  static constexpr int pixels() {
    return 2;
  }
  template <bool Bytes>
  using Rows = UnpackedRows<WasmX86, Bytes>;
  template <bool Bytes>
  static void unpack16(const uint8_t* from, uint8_t* to) {
    const v128_t bytes = load(from);
    v128_t first = bytes, second = set(0);
    if constexpr (!Bytes) {
      const v128_t high = wasm_i8x16_const_splat(static_cast<int8_t>(0xF0));
      first = wasm_v128_and(wasm_i16x8_shl(bytes, 4), high);
      second = wasm_v128_and(bytes, high);
    }
    wasm_v128_store(to, wasm_i8x16_shuffle(first, second, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                           6, 22, 7, 23));
    wasm_v128_store(to + 16, wasm_i8x16_shuffle(first, second, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                                13, 29, 14, 30, 15, 31));
  }

  template <int P, int V>
  struct BitSums {
    static constexpr int kParts = V / 4;  // vectors of 16 byte-wide counts
    alignas(16) int32_t sums[P][V * 4];

    void count(const ConvArgs& a, const char* w, const uint8_t* const* taps, int64_t x) {
      const Int start = set(a.start);
      v128_t bytes[P][kParts];
      unroll<P>([&](auto p) BINSEG_INLINE {
        unroll<V>([&](auto v) BINSEG_INLINE { WasmLanes::store(sums[p] + v * 4, start); });
        unroll<kParts>([&](auto h) BINSEG_INLINE { bytes[p][h] = set(0); });
      });
      const int pixel = static_cast<int>(unpacked_step(a));
      const int run = static_cast<int>(a.run);
      int until_flush = kWords;
      for (int t = 0; t < static_cast<int>(a.tap_count); ++t) {
        const uint8_t* in = taps[t] + static_cast<int>(x) * pixel;
        int left = run;
        while (left > 0) {
          const int words = left < until_flush ? left : until_flush;
          for (int i = 0; i < words * 8 / kUnrolled;
               ++i, in += kUnrolled, w += kBlock * kUnrolled) {
            unroll<kUnrolled>([&](auto g) BINSEG_INLINE {
              v128_t weights[kParts];
              unroll<kParts>([&](auto h)
                                 BINSEG_INLINE { weights[h] = load(w + g * kBlock + h * 16); });
              unroll<P>([&](auto p) BINSEG_INLINE {
                const v128_t table = load(kTables.differ + in[p * pixel + g]);
                unroll<kParts>([&](auto h) BINSEG_INLINE {
                  bytes[p][h] =
                      wasm_i8x16_add(bytes[p][h], wasm_i8x16_relaxed_swizzle(table, weights[h]));
                });
              });
            });
          }
          left -= words;
          until_flush -= words;
          if (until_flush == 0) {
            flush(bytes);
            until_flush = kWords;
          }
        }
      }
      flush(bytes);
    }
    Int get(int p, int v) const { return load(sums[p] + v * 4); }

   private:
    static constexpr int kWords = 7;     // a byte gains at most 32 a word
    static constexpr int kUnrolled = 2;  // of the 8 half words of a word; more is no faster

    // Of each 32 channels, bytes are those of 0 to 7, 16 to 23, 8 to 15 and 24 to 31.
    void flush(v128_t (&bytes)[P][kParts]) {
      unroll<P>([&](auto p) BINSEG_INLINE {
        unroll<kParts>([&](auto h) BINSEG_INLINE {
          int32_t* const to = sums[p] + h / 2 * 32 + h % 2 * 8;
          const v128_t low = wasm_u16x8_extend_low_u8x16(bytes[p][h]);
          const v128_t high = wasm_u16x8_extend_high_u8x16(bytes[p][h]);
          plus(to, wasm_u32x4_extend_low_u16x8(low));
          plus(to + 4, wasm_u32x4_extend_high_u16x8(low));
          plus(to + 16, wasm_u32x4_extend_low_u16x8(high));
          plus(to + 20, wasm_u32x4_extend_high_u16x8(high));
          bytes[p][h] = set(0);
        });
      });
    }
    static void plus(int32_t* to, Int x) { WasmLanes::store(to, add(load(to), x)); }
  };

  // Pairs of 16 bits, the first two of each four channels and the last two apart. Not inlined: a
  // page's module is to be small.
  template <int P, int V>
  [[gnu::noinline]] static void multiply(Int (&sums)[P][V], const ConvArgs& a, const char* w,
                                         const uint8_t* const* taps, int64_t x) {
    Int s[P][V];
    unroll<P>([&](auto p)
                  BINSEG_INLINE { unroll<V>([&](auto v) BINSEG_INLINE { s[p][v] = set(0); }); });
    const int pixel = static_cast<int>(unpacked_step(a));
    const int run = static_cast<int>(a.run);
    for (int t = 0; t < static_cast<int>(a.tap_count); ++t) {
      const uint8_t* in = taps[t] + static_cast<int>(x) * pixel;
      for (int i = 0; i < run; ++i, in += 8, w += kBlock * 8) {
        v128_t first[V], last[V];
        unroll<V>([&](auto v) BINSEG_INLINE {
          first[v] = load(w + v * 16);
          last[v] = load(w + kBlock * 4 + v * 16);
        });
        unroll<P>([&](auto p) BINSEG_INLINE {
          const v128_t one = wasm_v128_load32_splat(in + p * pixel);
          const v128_t two = wasm_v128_load32_splat(in + p * pixel + 4);
          unroll<V>([&](auto v) BINSEG_INLINE {
            s[p][v] = add(s[p][v], wasm_i32x4_dot_i16x8(one, first[v]));
            s[p][v] = add(s[p][v], wasm_i32x4_dot_i16x8(two, last[v]));
          });
        });
      }
    }
    unroll<P>([&](auto p) BINSEG_INLINE {
      unroll<V>([&](auto v) BINSEG_INLINE { sums[p][v] = s[p][v]; });
    });
  }
};

}  // namespace

extern const Kernels kWasm;
const Kernels kWasm = make_kernels<WasmX86>("wasm");
}  // namespace binseg
