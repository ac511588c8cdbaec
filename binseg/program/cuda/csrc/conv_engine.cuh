// What multiplies the bits of a tile, and how a tile lies in shared memory.
#pragma once

#include "kernels.h"
#include "primitives.cuh"

namespace binseg {

constexpr int kThreads = 128;
constexpr int kBlock = 64;     // output channels of a tile
constexpr int kStepWords = 8;  // one MMA
constexpr int kChunkSteps = 4;
constexpr int kChunkWords = kStepWords * kChunkSteps;
constexpr int kStepWeights = kBlock * kStepWords;
constexpr int kChunkWeights = kBlock * kChunkWords;

// A warp makes MTiles × 16 pixels and NTiles × 8 channels.
template <int MTiles, int NTiles>
struct Tile {
  static constexpr int kMTiles = MTiles;
  static constexpr int kNTiles = NTiles;
  static constexpr int kGroups = NTiles / 4;  // of 32 channels: one word of an output map
  static constexpr int kWarpsN = 8 / NTiles;
  static constexpr int kWarpsM = 4 / kWarpsN;
  static constexpr int kRows = kWarpsM * MTiles * 16;
  static constexpr int kStageWords = kRows * kChunkWords + kChunkWeights;
  static constexpr int kResident = 3;  // CTAs on a multiprocessor, which leave 168 registers
  // what lies before the stages: pixels, corners of border rectangles, ones of each row
  static constexpr size_t kHead = kRows * (2 * sizeof(int4) + kWarpsN * sizeof(int));
};

struct Fragment {
  uint32_t words[4];
};

// Where word pair `pair` (of 16 in a chunk) of a row lies, in words: 16-byte units are exchanged so
// that the four rows which a half warp reads at once touch different banks.
__device__ __forceinline__ int word_of(int row, int pair) {
  return row * kChunkWords + ((((pair >> 1) ^ ((row & 3) << 1)) << 2) | ((pair & 1) << 1));
}

// Tensor cores: popcount(a & b) from sm_80 on, popcount(a ^ b) on sm_75.
struct TensorCores {
  static constexpr bool kAvailable = true;
  static constexpr bool kWarpGroup = false;
#if BINSEG_ARCH >= 800 || BINSEG_ARCH == 0
  static constexpr bool kAnd = true;
#else
  static constexpr bool kAnd = false;
#endif

  template <class T>
  static __device__ __forceinline__ void step(int (&sums)[T::kMTiles][T::kNTiles][4],
                                              const Fragment (&a)[T::kMTiles], const uint32_t* b,
                                              const uint32_t*, int, int lane) {
#pragma unroll
    for (int pair = 0; pair < T::kNTiles / 2; ++pair) {
      const uint4 w = *reinterpret_cast<const uint4*>(b + (pair * kWarp + lane) * 4);
#pragma unroll
      for (int m = 0; m < T::kMTiles; ++m) {
        mma_bits(sums[m][2 * pair], a[m].words, w.x, w.y);
        mma_bits(sums[m][2 * pair + 1], a[m].words, w.z, w.w);
      }
    }
  }
};

// The same on CUDA cores, which every GPU has: each thread makes its own sums.
struct CudaCores {
  static constexpr bool kAvailable = true;
  static constexpr bool kWarpGroup = false;
  static constexpr bool kAnd = false;

  template <class T>
  static __device__ __forceinline__ void step(int (&sums)[T::kMTiles][T::kNTiles][4],
                                              const Fragment (&)[T::kMTiles], const uint32_t* b,
                                              const uint32_t* a, int pair0, int lane) {
    const int group = lane >> 2, member = lane & 3;
#pragma unroll 1
    for (int word = 0; word < kStepWords; ++word) {
      const int source = word >> 1, high = word & 1;
#pragma unroll
      for (int m = 0; m < T::kMTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = m * 16 + half * 8 + group;
          const uint32_t x = a[word_of(row, pair0 + source) + high];
#pragma unroll
          for (int n = 0; n < T::kNTiles; ++n) {
#pragma unroll
            for (int column = 0; column < 2; ++column) {
              const int owner = (member * 2 + column) * 4 + source;
              const uint32_t w = b[((n >> 1) * kWarp + owner) * 4 + (n & 1) * 2 + high];
              sums[m][n][half * 2 + column] += __popc(x ^ w);
            }
          }
        }
      }
    }
  }
};

// Tensor cores of sm_90a, four warps at a time: pixels from registers, weights from shared memory.
struct WarpGroups {
  static constexpr bool kAvailable = kHasWarpGroups;
  static constexpr bool kWarpGroup = true;
  static constexpr bool kAnd = true;
};

}  // namespace binseg
