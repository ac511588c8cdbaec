// The last binary convolution of a group block: all bases of a tile one after the other in the same
// CTA, their weighted sum, the next block's gates, and signs.
#include "conv_epilogue.cuh"
#include "conv_launch.cuh"

namespace binseg {
namespace {

// out_k of all bases until the merged map is known: in shared memory where they fit, or else in the
// branches' own place in global memory, which each thread reads back alone.
template <class T>
class Kept {
 public:
  static constexpr size_t kBaseBytes = T::kRows * kBlock * sizeof(float);

  __device__ __forceinline__ Kept(bool shared, int stages)
      : memory_(shared ? reinterpret_cast<float4*>(dynamic_shared() + T::kHead +
                                                   stages * T::kStageWords * sizeof(uint32_t))
                       : nullptr) {}

  __device__ __forceinline__ void put(int base, int group, int m, int half, float* place, int count,
                                      bool wide, const float (&values)[8]) const {
    if (memory_ != nullptr) {
      float4* own = slot(base, group, m, half);
      own[0] = make_float4(values[0], values[1], values[2], values[3]);
      own[kThreads] = make_float4(values[4], values[5], values[6], values[7]);
    } else {
      store8(place, count, wide, values);
    }
  }

  __device__ __forceinline__ void get(int base, int group, int m, int half, const float* place,
                                      int count, bool wide, float (&values)[8]) const {
    if (memory_ != nullptr) {
      const float4* own = slot(base, group, m, half);
      const float4 low = own[0], high = own[kThreads];
      values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
      values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    } else if (wide && count == 8) {
      // plain loads: these values were written by this kernel
      const float4 low = reinterpret_cast<const float4*>(place)[0];
      const float4 high = reinterpret_cast<const float4*>(place)[1];
      values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
      values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        values[i] = i < count ? place[i] : 0.0f;
      }
    }
  }

 private:
  __device__ __forceinline__ float4* slot(int base, int group, int m, int half) const {
    const int index = ((base * T::kMTiles + m) * 2 + half) * T::kGroups + group;
    return memory_ + index * 2 * kThreads + threadIdx.x;
  }

  float4* memory_;
};

template <class Engine, class T>
__global__ void __launch_bounds__(kThreads, T::kResident)
    merge_kernel(const __grid_constant__ Conv conv, int stages, const __grid_constant__ Merge merge,
                 bool wide, bool keep_in_shared) {
  ConvTile<Engine, T> tile(conv, blockIdx.y);
  const Kept<T> kept(keep_in_shared, stages);
  float merged[T::kGroups][T::kMTiles][2][8] = {};

  tile.run(0, conv.bases, stages, [&](int base) {
    const float lambda = __ldg(merge.lambdas + base);
    const int residual_base = merge.residual_bases == 1 ? 0 : base;
#pragma unroll
    for (int group = 0; group < T::kGroups; ++group) {
      if (!tile.has(group)) {
        continue;
      }
      const int channel = tile.channel(group), count = tile.count(group);
      int constants[8];
      tile.constants(base, channel, constants);
      Curve8 curve;
      curve.load(merge.curve, conv, base, channel, count, wide);
      tile.each_row([&](int m, int half, unsigned pixel, bool inside) {
        int s[8];
        tile.sums(base, group, m, half, channel, constants, s);
        float values[8];
        curve.apply(merge.curve.tanh, s, values);
        const int exist = inside ? count : 0;
        if (merge.residual != nullptr) {
          const unsigned place = (pixel * merge.residual_bases + residual_base) * conv.out_channels;
          add8(merge.residual + place + channel, exist, wide, values);
        }
        if (merge.post != nullptr) {
          shifted_prelu8(merge.post + base * conv.out_channels + channel,
                         static_cast<long long>(conv.bases) * conv.out_channels, count, wide,
                         values);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float& sum = merged[group][m][half][i];
          sum = __fmaf_rn(lambda, values[i], sum);
        }
        if (merge.gates != nullptr) {
          float* branch = merge.branches + (pixel * conv.bases + base) * conv.out_channels;
          kept.put(base, group, m, half, branch + channel, exist, wide, values);
        }
      });
    }
  });

#pragma unroll
  for (int group = 0; group < T::kGroups; ++group) {
    if (!tile.has(group)) {
      continue;
    }
    const int channel = tile.channel(group), count = tile.count(group);
    tile.each_row([&](int m, int half, unsigned pixel, bool inside) {
      const int exist = inside ? count : 0;
      const float (&sum)[8] = merged[group][m][half];
      if (merge.merged != nullptr) {
        store8(merge.merged + pixel * conv.out_channels + channel, exist, wide, sum);
      }
      if (merge.gates == nullptr) {
        if (merge.signs != nullptr) {
          const unsigned byte = merge.threshold == nullptr
                                    ? signs8(sum, count)
                                    : moved_signs8(merge.threshold + channel, count, wide, sum);
          tile.store_word(merge.signs, 1, 0, group, pixel, inside, byte);
        }
        return;
      }
#pragma unroll 1
      for (int base = 0; base < conv.bases; ++base) {
        const float gate = __ldg(merge.gates + base);
        float* branch = merge.branches + (pixel * conv.bases + base) * conv.out_channels + channel;
        float values[8];
        kept.get(base, group, m, half, branch, exist, wide, values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          values[i] = __fmaf_rn(gate, __fsub_rn(values[i], sum[i]), sum[i]);
        }
        store8(branch, exist, wide, values);
        if (merge.signs != nullptr) {
          const float* threshold = merge.threshold + base * conv.out_channels + channel;
          const unsigned byte = merge.threshold == nullptr
                                    ? signs8(values, count)
                                    : moved_signs8(threshold, count, wide, values);
          tile.store_word(merge.signs, conv.bases, base, group, pixel, inside, byte);
        }
      }
    });
  }
}

}  // namespace

const char* conv_merge(const Conv& conv, const Merge& merge, cudaStream_t stream) {
  const bool wide = conv.out_channels % 4 == 0 && aligned(merge.branches) &&
                    aligned(merge.merged) && aligned(merge.residual) &&
                    aligned(merge.curve.values) && aligned(merge.post) && aligned(merge.threshold);
  return with_tile<64>(conv, [&](auto engine, auto tile) {
    using T = decltype(tile);
    // half the shared memory at most, for two CTAs on a multiprocessor are worth more than it saves
    const size_t half = conv.shared_limit / 2 - 512;
    const size_t kept = merge.gates == nullptr ? 0 : conv.bases * Kept<T>::kBaseBytes;
    const size_t stages = 2 * T::kStageWords * sizeof(uint32_t);
    const bool shared = kept > 0 && T::kHead + stages + kept <= half;
    Conv limited = conv;
    limited.shared_limit = shared ? half : conv.shared_limit;
    return launch_tile<T>(merge_kernel<decltype(engine), T>, limited, tile_columns(conv),
                          conv.bases, shared ? kept : 0, stream, merge, wide, shared);
  });
}

}  // namespace binseg
