// Binary convolution, then a threshold, to bits.
#include "conv_epilogue.cuh"
#include "conv_launch.cuh"

namespace binseg {
namespace {

template <class Engine, class T>
__global__ void __launch_bounds__(kThreads, T::kResident)
    bits_kernel(const __grid_constant__ Conv conv, int stages, const int* low, const int* span,
                uint32_t* out) {
  const int columns = gridDim.y / conv.bases;
  const int base = blockIdx.y / columns;
  ConvTile<Engine, T> tile(conv, blockIdx.y - base * columns);
  tile.run(base, base + 1, stages, [&](int) {
#pragma unroll
    for (int group = 0; group < T::kGroups; ++group) {
      if (!tile.has(group)) {
        continue;
      }
      const int channel = tile.channel(group), count = tile.count(group);
      int constants[8];
      tile.constants(base, channel, constants);
      unsigned spans[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int place = base * conv.out_channels + channel + i;
        // so that the sums come out with `low` taken off, modulo 2³²
        const unsigned taken = i < count ? __ldg(low + place) : 0;
        constants[i] = static_cast<int>(static_cast<unsigned>(constants[i]) - taken);
        spans[i] = i < count ? __ldg(span + place) : 0;
      }
      tile.each_row([&](int m, int half, unsigned pixel, bool inside) {
        int s[8];
        tile.sums(base, group, m, half, channel, constants, s);
        unsigned byte = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const bool bit = static_cast<unsigned>(s[i]) <= spans[i];
          byte |= (i < count && bit ? 1u : 0u) << i;
        }
        tile.store_word(out, conv.bases, base, group, pixel, inside, byte);
      });
    }
  });
}

}  // namespace

const char* conv_bits(const Conv& conv, const int* low, const int* span, uint32_t* out,
                      cudaStream_t stream) {
  return with_tile<128>(conv, [&](auto engine, auto tile) {
    using T = decltype(tile);
    return launch_tile<T>(bits_kernel<decltype(engine), T>, conv, tile_columns(conv) * conv.bases,
                          1, 0, stream, low, span, out);
  });
}

}  // namespace binseg
