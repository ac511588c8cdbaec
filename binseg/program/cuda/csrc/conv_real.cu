// Binary convolution, nonlinearity, BatchNorm and shortcut, to real values and their signs.
#include "conv_epilogue.cuh"
#include "conv_launch.cuh"

namespace binseg {
namespace {

template <class Engine, class T, class Post>
__global__ void __launch_bounds__(kThreads, T::kResident)
    real_kernel(const __grid_constant__ Conv conv, int stages, const __grid_constant__ Real real,
                bool wide) {
  const int columns = gridDim.y / conv.bases;
  const int base = blockIdx.y / columns;
  const int residual_base = real.residual_bases == 1 ? 0 : base;
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
      Curve8 curve;
      curve.load(real.curve, conv, base, channel, count, wide);
      const Post post(real.post, conv, base, channel, count, wide);
      tile.each_row([&](int m, int half, unsigned pixel, bool inside) {
        int s[8];
        tile.sums(base, group, m, half, channel, constants, s);
        float values[8];
        curve.apply(real.curve.tanh, s, values);
        const int exist = inside ? count : 0;
        if (real.residual != nullptr) {
          const unsigned place = (pixel * real.residual_bases + residual_base) * conv.out_channels;
          add8(real.residual + place + channel, exist, wide, values);
        }
        post.apply(values);
        if (real.out != nullptr) {
          store8(real.out + (pixel * conv.bases + base) * conv.out_channels + channel, exist, wide,
                 values);
        }
        if (real.signs != nullptr) {
          tile.store_word(real.signs, conv.bases, base, group, pixel, inside, post.signs(values));
        }
      });
    }
  });
}

}  // namespace

const char* conv_real(const Conv& conv, const Real& real, cudaStream_t stream) {
  const bool wide = conv.out_channels % 4 == 0 && aligned(real.out) && aligned(real.residual) &&
                    aligned(real.curve.values) && aligned(real.post);
  return with_tile<128>(conv, [&](auto engine, auto tile) {
    using T = decltype(tile);
    const auto kernel = real.post == nullptr ? real_kernel<decltype(engine), T, NoPost8>
                                             : real_kernel<decltype(engine), T, Post8>;
    return launch_tile<T>(kernel, conv, tile_columns(conv) * conv.bases, 1, 0, stream, real, wide);
  });
}

}  // namespace binseg
