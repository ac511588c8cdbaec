// WebAssembly for machines that count the bits of a vector's bytes in few steps, as ARM's do.
#include "wasm.h"

#include "table.h"

namespace binseg {
namespace {

struct Wasm : WasmLanes {
  static constexpr Arrangement kArrangement = Arrangement::kWords;
  static constexpr int kBitVectors = 2, kByteVectors = 2;
  static constexpr int kPoolPixels = 4;
  static constexpr int kBitWeight = 4, kByteWeight = 4;  // bytes of one channel in one word
  // few enough for the 16 registers of x86
  template <bool Bytes, int V>
  static constexpr int pixels() {
    return Bytes ? 2 : 3;
  }
  template <bool Bytes>
  using Rows = PlainRows;

  template <int P, int V>
  struct BitSums {
    Int sums[P][V];
    void count(const ConvArgs& a, const char* w, const uint8_t* const* taps, int64_t x) {
      v128_t bytes[P][V];
      unroll<P>([&](auto p) BINSEG_INLINE {
        unroll<V>([&](auto v) BINSEG_INLINE {
          sums[p][v] = set(a.start);
          bytes[p][v] = set(0);
        });
      });
      const int pixel = static_cast<int>(a.pixel_step), run = static_cast<int>(a.run);
      int until_flush = kSteps;
      for (int t = 0; t < static_cast<int>(a.tap_count); ++t) {
        const uint8_t* in = taps[t] + static_cast<int>(x) * pixel;
        int left = run;
        while (left > 0) {
          const int steps = left < until_flush ? left : until_flush;
          for (int i = 0; i < steps; ++i, in += 4, w += kBlock * 4) {
            v128_t weights[V];
            unroll<V>([&](auto v) BINSEG_INLINE { weights[v] = load(w + v * 16); });
            unroll<P>([&](auto p) BINSEG_INLINE {
              const v128_t input = wasm_v128_load32_splat(in + p * pixel);
              unroll<V>([&](auto v) BINSEG_INLINE {
                bytes[p][v] = wasm_i8x16_add(bytes[p][v],
                                             wasm_i8x16_popcnt(wasm_v128_xor(input, weights[v])));
              });
            });
          }
          left -= steps;
          until_flush -= steps;
          if (until_flush == 0) {
            flush<P, V>(sums, bytes);
            until_flush = kSteps;
          }
        }
      }
      flush<P, V>(sums, bytes);
    }
    Int get(int p, int v) const { return sums[p][v]; }
  };

  // Pairs of 16 bits, even and odd bytes apart.
  template <int P, int V>
  static inline void multiply(Int (&sums)[P][V], const ConvArgs& a, const char* w,
                              const uint8_t* const* taps, int64_t x) {
    unroll<P>([&](auto p)
                  BINSEG_INLINE { unroll<V>([&](auto v) BINSEG_INLINE { sums[p][v] = set(0); }); });
    const v128_t low = wasm_i32x4_const_splat(0x00FF00FF);
    const int pixel = static_cast<int>(a.pixel_step), run = static_cast<int>(a.run);
    for (int t = 0; t < static_cast<int>(a.tap_count); ++t) {
      const uint8_t* in = taps[t] + static_cast<int>(x) * pixel;
      for (int i = 0; i < run; ++i, in += 4, w += kBlock * 4) {
        v128_t odd_w[V], even_w[V];
        unroll<V>([&](auto v) BINSEG_INLINE {
          const v128_t weight = load(w + v * 16);
          odd_w[v] = wasm_i16x8_shr(weight, 8);
          even_w[v] = wasm_i16x8_shr(wasm_i16x8_shl(weight, 8), 8);
        });
        unroll<P>([&](auto p) BINSEG_INLINE {
          const v128_t input = wasm_v128_load32_splat(in + p * pixel);
          const v128_t even = wasm_v128_and(input, low), odd = wasm_u16x8_shr(input, 8);
          unroll<V>([&](auto v) BINSEG_INLINE {
            const v128_t one = wasm_i32x4_dot_i16x8(even, even_w[v]);
            const v128_t two = wasm_i32x4_dot_i16x8(odd, odd_w[v]);
            sums[p][v] = wasm_i32x4_add(sums[p][v], wasm_i32x4_add(one, two));
          });
        });
      }
    }
  }

 private:
  static constexpr int kSteps = 31;  // a byte gains at most 8 a step
  template <int P, int V>
  static inline void flush(Int (&sums)[P][V], v128_t (&bytes)[P][V]) {
    unroll<P>([&](auto p) BINSEG_INLINE {
      unroll<V>([&](auto v) BINSEG_INLINE {
        const v128_t pairs = wasm_u16x8_extadd_pairwise_u8x16(bytes[p][v]);
        sums[p][v] = wasm_i32x4_add(sums[p][v], wasm_u32x4_extadd_pairwise_u16x8(pairs));
        bytes[p][v] = set(0);
      });
    });
  }
};

}  // namespace

extern const Kernels kWasm;
const Kernels kWasm = make_kernels<Wasm>("wasm");
}  // namespace binseg
