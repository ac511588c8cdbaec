// What the kernels need of the machine: one function for each instruction that C++ cannot name.
// A test puts its own "emulation.h" in place of the CUDA half and runs the same kernels on a CPU.
#pragma once

#include <cstddef>
#include <cstdint>

namespace binseg {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

}  // namespace binseg

#ifdef BINSEG_EMULATED
#include "emulation.h"
#else

#include <cuda_runtime.h>

#ifdef __CUDA_ARCH__
#define BINSEG_ARCH __CUDA_ARCH__
#else
#define BINSEG_ARCH 0
#endif

namespace binseg {

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

// Bytes (4, 8 or 16) from global to shared memory, or zeros where `inside` is false. The data is
// there after `copy_wait` and a barrier.
template <int Bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool inside) {
#if BINSEG_ARCH >= 800
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int length = inside ? Bytes : 0;
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
                 "r"(length)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(global),
                 "n"(Bytes), "r"(length)
                 : "memory");
  }
#else
  if constexpr (Bytes == 16) {
    *static_cast<uint4*>(shared) =
        inside ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
  } else if constexpr (Bytes == 8) {
    *static_cast<uint2*>(shared) = inside ? *static_cast<const uint2*>(global) : make_uint2(0, 0);
  } else {
    *static_cast<uint32_t*>(shared) = inside ? *static_cast<const uint32_t*>(global) : 0u;
  }
#endif
}

__device__ __forceinline__ void copy_commit() {
#if BINSEG_ARCH >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `Pending` of this thread's committed groups are under way.
template <int Pending>
__device__ __forceinline__ void copy_wait() {
#if BINSEG_ARCH >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

// c += popcount(a & b) over 16 × 256 and 256 × 8 bits. Lane (group = lane / 4, member = lane % 4)
// holds of A: word `member` of rows group and group + 8, then word member + 4 of the same rows; of
// B: words member and member + 4 of column group; of C: columns 2·member and 2·member + 1 of row
// group, then of row group + 8.
__device__ __forceinline__ void mma_16x8x256_and(int (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1) {
#if BINSEG_ARCH >= 800
  asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// c += popcount(a ^ b) over 8 × 128 and 128 × 8 bits, which sm_75 has; laid out as the quarters of
// the larger one.
__device__ __forceinline__ void mma_8x8x128_xor(int& c0, int& c1, uint32_t a, uint32_t b) {
#if BINSEG_ARCH >= 750 && BINSEG_ARCH < 800
  asm("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+r"(c0), "+r"(c1)
      : "r"(a), "r"(b));
#endif
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWarpGroups = true;
#else
constexpr bool kHasWarpGroups = false;
#endif

// Makes what this thread has put into shared memory visible to wgmma, after the next barrier.
__device__ __forceinline__ void show_to_wgmma() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Between these two the sums belong to the tensor cores: the empty statements keep the compiler
// from moving its own uses of them in between.
__device__ __forceinline__ void wgmma_begin(int (&d)[8][4]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    asm volatile("" : "+r"(d[i / 4][i % 4])::"memory");
  }
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void wgmma_end(int (&d)[8][4]) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    asm volatile("" : "+r"(d[i / 4][i % 4])::"memory");
  }
#endif
}

// Shared memory in the order that `wgmma_64x64x256_and` reads: cores of 8 columns × 16 bytes, the
// two of the same columns 128 bytes apart, columns in groups of eight 256 bytes apart.
constexpr uint64_t kCoreOffset = 128, kGroupOffset = 256;

__device__ __forceinline__ uint64_t describe_columns(uint64_t address) {
  return ((address & 0x3ffff) >> 4) | (kCoreOffset >> 4 << 16) | (kGroupOffset >> 4 << 32);
}

// d += popcount(a & b) over 64 × 256 and 256 × 64 bits; four warps call it together. Warp i holds
// rows 16·i … of a and d, laid out as `mma_16x8x256_and` has them; b lies in shared memory.
__device__ __forceinline__ void wgmma_64x64x256_and(int (&d)[8][4], const uint32_t (&a)[4],
                                                    const uint32_t* b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k256.s32.b1.b1.and.popc {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, "
      "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31 "
      "}, {%32, %33, %34, %35}, %36, 1;"
      : "+r"(d[0][0]), "+r"(d[0][1]), "+r"(d[0][2]), "+r"(d[0][3]), "+r"(d[1][0]), "+r"(d[1][1]),
        "+r"(d[1][2]), "+r"(d[1][3]), "+r"(d[2][0]), "+r"(d[2][1]), "+r"(d[2][2]), "+r"(d[2][3]),
        "+r"(d[3][0]), "+r"(d[3][1]), "+r"(d[3][2]), "+r"(d[3][3]), "+r"(d[4][0]), "+r"(d[4][1]),
        "+r"(d[4][2]), "+r"(d[4][3]), "+r"(d[5][0]), "+r"(d[5][1]), "+r"(d[5][2]), "+r"(d[5][3]),
        "+r"(d[6][0]), "+r"(d[6][1]), "+r"(d[6][2]), "+r"(d[6][3]), "+r"(d[7][0]), "+r"(d[7][1]),
        "+r"(d[7][2]), "+r"(d[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
        "l"(describe_columns(__cvta_generic_to_shared(b))));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// c + Σ of four products of an unsigned byte of a and a signed byte of b.
__device__ __forceinline__ int dot_bytes(uint32_t a, uint32_t b, int c) {
#if BINSEG_ARCH >= 610
  asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(c) : "r"(a), "r"(b));
#else
  for (int i = 0; i < 32; i += 8) {
    c += static_cast<int>((a >> i) & 255u) * static_cast<signed char>(b >> i);
  }
#endif
  return c;
}

__device__ __forceinline__ uint32_t shuffle_xor(uint32_t value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}

__device__ __forceinline__ uint32_t ballot(bool bit) { return __ballot_sync(kAllLanes, bit); }

// Starts a kernel on a stream; returns what went wrong, or null.
template <typename... Parameters, typename... Arguments>
const char* launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared,
                   cudaStream_t stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return nullptr;  // an empty batch
  }
  if (shared > 48 * 1024) {  // more has to be asked for
    const cudaError_t error = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) {
      cudaGetLastError();
      return cudaGetErrorString(error);
    }
  }
  // clang-format off
  kernel<<<grid, threads, shared, stream>>>(arguments...);
  // clang-format on
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace binseg

#endif

namespace binseg {

// c += popcount(a & b) from sm_80 on, popcount(a ^ b) on sm_75; laid out as `mma_16x8x256_and`.
__device__ __forceinline__ void mma_bits(int (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                         uint32_t b1) {
#if BINSEG_ARCH >= 800 || BINSEG_ARCH == 0
  mma_16x8x256_and(c, a, b0, b1);
#else
  mma_8x8x128_xor(c[0], c[1], a[0], b0);
  mma_8x8x128_xor(c[2], c[3], a[1], b0);
  mma_8x8x128_xor(c[0], c[1], a[2], b1);
  mma_8x8x128_xor(c[2], c[3], a[3], b1);
#endif
}

}  // namespace binseg
