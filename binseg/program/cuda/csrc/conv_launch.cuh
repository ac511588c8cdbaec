// From a convolution to the kernel for its engine and tile, and that kernel's grid and memory.
#pragma once

#include "conv_tile.cuh"

namespace binseg {

// Calls launch(engine, tile) with the engine and the tile that were asked for. A kernel that keeps
// more than the sums of one base in registers takes at most 64 pixels.
template <int MostRows, class F>
const char* with_tile(const Conv& conv, F launch) {
  if (conv.engine == EngineKind::kCudaCores) {
    return launch(CudaCores(), Tile<1, 4>());
  }
  if (conv.engine == EngineKind::kWarpGroups) {
    return launch(WarpGroups(), Tile<1, 8>());
  }
  if constexpr (MostRows >= 128) {
    if (conv.rows >= 128) {
      return launch(TensorCores(), Tile<2, 8>());
    }
  }
  if (conv.rows >= 64) {
    return launch(TensorCores(), Tile<2, 4>());
  }
  return launch(TensorCores(), Tile<1, 4>());
}

inline int tile_columns(const Conv& conv) { return (conv.out_channels + kBlock - 1) / kBlock; }

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Launches a kernel(conv, stages, ...) whose CTAs go through `bases` bases, with `kept` bytes of
// shared memory behind the stages.
template <class T, class... Parameters, class... Arguments>
const char* launch_tile(void (*kernel)(Conv, int, Parameters...), const Conv& conv, int columns,
                        int bases, size_t kept, cudaStream_t stream, Arguments... arguments) {
  const long long pixels = static_cast<long long>(conv.images) * conv.out_height * conv.out_width;
  const int chunks = (conv.steps + kChunkSteps - 1) / kChunkSteps;
  const size_t stage = T::kStageWords * sizeof(uint32_t);
  int stages = T::kRows <= 32 ? 4 : 3;
  if (stages > bases * chunks) {
    stages = bases * chunks;
  }
  while (stages > 2 && T::kHead + stages * stage + kept > conv.shared_limit) {
    --stages;
  }
  const dim3 grid(static_cast<unsigned>((pixels + T::kRows - 1) / T::kRows), columns);
  return launch(kernel, grid, kThreads, T::kHead + stages * stage + kept, stream, conv, stages,
                arguments...);
}

}  // namespace binseg
