// Signs of real maps as bits, from memory of any strides.
#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kPackThreads = 256;
constexpr int kWordsOfWarp = 4;  // loads under way at once

template <bool BFloat16>
__device__ __forceinline__ float load_real(const void* data, long long place) {
  if constexpr (BFloat16) {
    const unsigned bits = __ldg(static_cast<const unsigned short*>(data) + place);
    return __uint_as_float(bits << 16);
  } else {
    return __ldg(static_cast<const float*>(data) + place);
  }
}

// x, or gain · x + shift; `channel` counts over all bases.
template <bool Scaled>
__device__ __forceinline__ float scale(float x, const float* affine, int channel, int channels) {
  if constexpr (Scaled) {
    return __fmaf_rn(x, __ldg(affine + channel), __ldg(affine + channels + channel));
  } else {
    return x;
  }
}

// A word's first channel: where it lies, which it is over all bases, and how many of its base are
// left from it on.
struct Word {
  long long place;
  int channel, left;
};

__device__ __forceinline__ Word find_word(const Strided& x, unsigned index, int words) {
  const unsigned bases = x.sizes[3], columns = x.sizes[2], rows = x.sizes[1];
  const int channels = static_cast<int>(x.sizes[4]);
  const unsigned word = index % words;
  index /= words;
  const unsigned base = index % bases;
  index /= bases;
  const unsigned column = index % columns;
  index /= columns;
  const unsigned row = index % rows, image = index / rows;
  const int first = static_cast<int>(word) * 32;
  return {image * x.strides[0] + row * x.strides[1] + column * x.strides[2] + base * x.strides[3] +
              first * x.strides[4],
          static_cast<int>(base) * channels + first, channels - first};
}

// Channels side by side in memory: a lane is a channel, a ballot is a word.
template <bool BFloat16, bool Scaled>
__global__ void __launch_bounds__(kPackThreads)
    pack_channels(const __grid_constant__ Strided x, const float* affine, unsigned total, int words,
                  bool dense, uint32_t* out) {
  const int lane = threadIdx.x % kWarp;
  const unsigned first = (blockIdx.x * (kPackThreads / kWarp) + threadIdx.x / kWarp) * kWordsOfWarp;
  const int channels = static_cast<int>(x.sizes[3] * x.sizes[4]);
  bool bits[kWordsOfWarp];
#pragma unroll
  for (int i = 0; i < kWordsOfWarp; ++i) {
    const unsigned index = first + i;
    Word word = {static_cast<long long>(index) * kWarp, 0, kWarp};
    if ((Scaled || !dense) && index < total) {
      word = find_word(x, index, words);
    }
    bits[i] = index < total && lane < word.left &&
              scale<Scaled>(load_real<BFloat16>(x.data, word.place + lane), affine,
                            word.channel + lane, channels) >= 0.0f;
  }
#pragma unroll
  for (int i = 0; i < kWordsOfWarp; ++i) {
    const uint32_t word = ballot(bits[i]);
    if (lane == 0 && first + i < total) {
      out[first + i] = word;
    }
  }
}

// Pixels side by side in memory: a thread makes one word from 32 planes.
template <bool BFloat16, bool Scaled>
__global__ void __launch_bounds__(kPackThreads)
    pack_planes(const __grid_constant__ Strided x, const float* affine, unsigned total, int words,
                uint32_t* out) {
  unsigned index = blockIdx.x * kPackThreads + threadIdx.x;
  if (index >= total) {
    return;
  }
  const unsigned bases = x.sizes[3], columns = x.sizes[2], rows = x.sizes[1];
  const unsigned column = index % columns;
  index /= columns;
  const unsigned row = index % rows;
  index /= rows;
  const unsigned word = index % words;
  index /= words;
  const unsigned base = index % bases;
  const unsigned image = index / bases;
  const long long place = image * x.strides[0] + row * x.strides[1] + column * x.strides[2] +
                          base * x.strides[3] + word * 32 * x.strides[4];
  const int channels = static_cast<int>(x.sizes[4]);
  const int first = static_cast<int>(word) * 32;
  uint32_t bits = 0;
#pragma unroll 8
  for (int i = 0; i < 32; ++i) {
    if (first + i < channels &&
        scale<Scaled>(load_real<BFloat16>(x.data, place + i * x.strides[4]), affine,
                      base * channels + first + i, bases * channels) >= 0.0f) {
      bits |= 1u << i;
    }
  }
  out[(((image * rows + row) * columns + column) * bases + base) * words + word] = bits;
}

template <bool BFloat16, bool Scaled>
const char* pack(const Strided& x, const float* affine, uint32_t* out, cudaStream_t stream) {
  const int words = static_cast<int>((x.sizes[4] + 31) / 32);
  long long pixels = x.sizes[3], stride = x.sizes[4];
  bool dense = x.sizes[4] % 32 == 0 && x.strides[4] == 1;
  for (int i = 3; i >= 0; --i) {
    dense = dense && (x.sizes[i] == 1 || x.strides[i] == stride);
    stride *= x.sizes[i];
    pixels *= i < 3 ? x.sizes[i] : 1;
  }
  const unsigned total = static_cast<unsigned>(pixels * words);
  if (x.strides[4] == 1 || x.sizes[4] == 1) {
    constexpr int kWords = kPackThreads / kWarp * kWordsOfWarp;
    return launch(pack_channels<BFloat16, Scaled>, dim3((total + kWords - 1) / kWords),
                  kPackThreads, 0, stream, x, affine, total, words, dense, out);
  }
  return launch(pack_planes<BFloat16, Scaled>, dim3((total + kPackThreads - 1) / kPackThreads),
                kPackThreads, 0, stream, x, affine, total, words, out);
}

}  // namespace

const char* pack_sign(const Strided& x, bool bfloat16, const float* affine, uint32_t* out,
                      cudaStream_t stream) {
  if (affine == nullptr) {
    return bfloat16 ? pack<true, false>(x, affine, out, stream)
                    : pack<false, false>(x, affine, out, stream);
  }
  return bfloat16 ? pack<true, true>(x, affine, out, stream)
                  : pack<false, true>(x, affine, out, stream);
}

}  // namespace binseg
