// Chains of tensor-core instructions on registers and shared memory: what this GPU can do at most.
#include "kernels.h"
#include "primitives.cuh"

namespace binseg {
namespace {

constexpr int kThreads = 128;
constexpr int kChains = 16;

__global__ void __launch_bounds__(kThreads) mma_rate_kernel(int rounds, int* out) {
  int sums[kChains][4] = {};
  const uint32_t seed = threadIdx.x * 0x9e3779b9u;
  const uint32_t a[4] = {seed, ~seed, seed << 1, seed >> 1};
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) {
      mma_bits(sums[i], a, seed + i, seed ^ i);
    }
  }
  int total = 0;
  for (int i = 0; i < kChains; ++i) {
    total += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
  }
  out[blockIdx.x * kThreads + threadIdx.x] = total;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// d += popcount(a & b) over 64 × 256 and 256 × 256 bits in shared memory.
__device__ __forceinline__ void wgmma(int (&d)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k256.s32.b1.b1.and.popc {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "
      "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, "
      "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "
      "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, "
      "%66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "
      "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, "
      "%98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "
      "%126, %127 "
      "}, %128, %129, 1;"
      :
        "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]),
        "+r"(d[7]), "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]),
        "+r"(d[14]), "+r"(d[15]), "+r"(d[16]), "+r"(d[17]), "+r"(d[18]), "+r"(d[19]),
        "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]), "+r"(d[24]), "+r"(d[25]),
        "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31]),
        "+r"(d[32]), "+r"(d[33]), "+r"(d[34]), "+r"(d[35]), "+r"(d[36]), "+r"(d[37]),
        "+r"(d[38]), "+r"(d[39]), "+r"(d[40]), "+r"(d[41]), "+r"(d[42]), "+r"(d[43]),
        "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]), "+r"(d[48]), "+r"(d[49]),
        "+r"(d[50]), "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]),
        "+r"(d[56]), "+r"(d[57]), "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]),
        "+r"(d[62]), "+r"(d[63]), "+r"(d[64]), "+r"(d[65]), "+r"(d[66]), "+r"(d[67]),
        "+r"(d[68]), "+r"(d[69]), "+r"(d[70]), "+r"(d[71]), "+r"(d[72]), "+r"(d[73]),
        "+r"(d[74]), "+r"(d[75]), "+r"(d[76]), "+r"(d[77]), "+r"(d[78]), "+r"(d[79]),
        "+r"(d[80]), "+r"(d[81]), "+r"(d[82]), "+r"(d[83]), "+r"(d[84]), "+r"(d[85]),
        "+r"(d[86]), "+r"(d[87]), "+r"(d[88]), "+r"(d[89]), "+r"(d[90]), "+r"(d[91]),
        "+r"(d[92]), "+r"(d[93]), "+r"(d[94]), "+r"(d[95]), "+r"(d[96]), "+r"(d[97]),
        "+r"(d[98]), "+r"(d[99]), "+r"(d[100]), "+r"(d[101]), "+r"(d[102]), "+r"(d[103]),
        "+r"(d[104]), "+r"(d[105]), "+r"(d[106]), "+r"(d[107]), "+r"(d[108]), "+r"(d[109]),
        "+r"(d[110]), "+r"(d[111]), "+r"(d[112]), "+r"(d[113]), "+r"(d[114]), "+r"(d[115]),
        "+r"(d[116]), "+r"(d[117]), "+r"(d[118]), "+r"(d[119]), "+r"(d[120]), "+r"(d[121]),
        "+r"(d[122]), "+r"(d[123]), "+r"(d[124]), "+r"(d[125]), "+r"(d[126]), "+r"(d[127])
      : "l"(a), "l"(b));
}

// Rows of 128 bytes, exchanged over 128 bytes; groups of eight rows are 1024 bytes apart.
__device__ __forceinline__ uint64_t describe(const void* shared) {
  const uint64_t address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  return ((address & 0x3ffff) >> 4) | (1ull << 16) | (64ull << 32) | (1ull << 62);
}
#endif

__global__ void __launch_bounds__(kThreads, 2)
    wgmma_rate_kernel([[maybe_unused]] int rounds, [[maybe_unused]] int* out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ __align__(1024) uint32_t a[64 * 32];
  __shared__ __align__(1024) uint32_t b[256 * 32];
  for (int i = threadIdx.x; i < 64 * 32; i += kThreads) {
    a[i] = i * 0x9e3779b9u;
  }
  for (int i = threadIdx.x; i < 256 * 32; i += kThreads) {
    b[i] = i * 0x85ebca6bu;
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t first = describe(a), second = describe(b);
  int sums[128] = {};
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int step = i % 4;  // of 32 bytes
      wgmma(sums, first + 2 * step, second + 2 * step);
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  int total = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) {
    total += sums[i];
  }
  out[blockIdx.x * kThreads + threadIdx.x] = total;
#endif
}

}  // namespace

const char* mma_rate(int blocks, int rounds, int* out, cudaStream_t stream) {
  return launch(mma_rate_kernel, dim3(blocks), kThreads, 0, stream, rounds, out);
}

const char* wgmma_rate(int blocks, int rounds, int* out, cudaStream_t stream) {
  return launch(wgmma_rate_kernel, dim3(blocks), kThreads, 0, stream, rounds, out);
}

}  // namespace binseg
