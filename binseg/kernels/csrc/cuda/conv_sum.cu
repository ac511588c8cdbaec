// Binary convolution to integers.
#include "conv_epilogue.cuh"
#include "conv_launch.cuh"

namespace binseg {
namespace {

template <class Engine, class T>
__global__ void __launch_bounds__(kThreads, T::kResident)
    sum_kernel(const __grid_constant__ Conv conv, int stages, void* out, bool narrow, bool wide) {
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
      tile.each_row([&](int m, int half, unsigned pixel, bool inside) {
        int s[8];
        tile.sums(base, group, m, half, channel, constants, s);
        if (!inside) {
          return;
        }
        const unsigned place = (pixel * conv.bases + base) * conv.out_channels + channel;
        if (narrow) {
          int16_t* p = static_cast<int16_t*>(out) + place;
          if (wide && count == 8) {
            *reinterpret_cast<uint4*>(p) =
                make_uint4((s[0] & 0xffff) | (s[1] << 16), (s[2] & 0xffff) | (s[3] << 16),
                           (s[4] & 0xffff) | (s[5] << 16), (s[6] & 0xffff) | (s[7] << 16));
          } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
              if (i < count) {
                p[i] = static_cast<int16_t>(s[i]);
              }
            }
          }
        } else {
          int* p = static_cast<int*>(out) + place;
          if (wide && count == 8) {
            reinterpret_cast<int4*>(p)[0] = make_int4(s[0], s[1], s[2], s[3]);
            reinterpret_cast<int4*>(p)[1] = make_int4(s[4], s[5], s[6], s[7]);
          } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
              if (i < count) {
                p[i] = s[i];
              }
            }
          }
        }
      });
    }
  });
}

}  // namespace

const char* conv_sum(const Conv& conv, void* out, bool narrow, cudaStream_t stream) {
  const bool wide = aligned(out) && conv.out_channels % (narrow ? 8 : 4) == 0;
  return with_tile<128>(conv, [&](auto engine, auto tile) {
    using T = decltype(tile);
    return launch_tile<T>(sum_kernel<decltype(engine), T>, conv, tile_columns(conv) * conv.bases, 1,
                          0, stream, out, narrow, wide);
  });
}

}  // namespace binseg
