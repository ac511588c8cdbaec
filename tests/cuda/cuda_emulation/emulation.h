// Enough of CUDA for g++ to compile the kernels, and for a CPU to run them: one block after the
// other, its threads as fibers that change over only where they wait for each other, in an order
// that differs from block to block. Matrix instructions follow the fragment layouts of the PTX ISA.
//
// What it finds beside wrong results: barriers that not all threads reach, collective instructions
// that threads of a warp reach apart, asynchronous copies read before they were waited for (they
// happen only then) or misaligned, and reads outside the tensors of the present call.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "machine.h"

inline void __syncthreads() { binseg::emulation::barrier(); }

template <class T>
T __ldg(const T* p) {
  binseg::emulation::check_read(p, sizeof(T));
  return *p;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

namespace binseg {

inline unsigned char* dynamic_shared() { return emulation::shared_begin; }

template <int Bytes>
void copy_async(void* shared, const void* global, bool inside) {
  if (reinterpret_cast<uintptr_t>(shared) % Bytes != 0) {
    emulation::fail("misaligned copy to shared memory");
  }
  emulation::current->open.push_back({shared, global, Bytes, inside});
  if (BINSEG_ARCH < 800) {  // no asynchronous copies
    emulation::current->groups.push_back(std::move(emulation::current->open));
    emulation::current->open.clear();
    emulation::finish_copies(0);
  }
}

inline void copy_commit() {
  emulation::current->groups.push_back(std::move(emulation::current->open));
  emulation::current->open.clear();
}

template <int Pending>
void copy_wait() {
  emulation::finish_copies(Pending);
}

// The fragments are written out as they are in "Matrix Fragments for mma.m16n8k256": register i of
// A holds bits 32·i … 32·i + 31 of the documentation's a, and likewise for B.
inline void mma_16x8x256_and(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Operand {
    int* c;
    const uint32_t* a;
    uint32_t b[2];
  } operand = {c, a, {b0, b1}};
  static const char instruction = 0;
  emulation::collective(&instruction, operand, [](Operand** lanes) {
    uint32_t matrix_a[16][8], matrix_b[8][8];  // rows and words; columns and words
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane >> 2, member = lane % 4;
      for (int i = 0; i < 4; ++i) {
        const int bit = 32 * i;
        const int row = bit < 32 || (64 <= bit && bit < 96) ? group : group + 8;
        const int column = bit < 64 ? member * 32 : member * 32 + 128;
        matrix_a[row][column / 32] = lanes[lane]->a[i];
      }
      for (int i = 0; i < 2; ++i) {
        const int row = i == 0 ? member * 32 : member * 32 + 128;
        matrix_b[group][row / 32] = lanes[lane]->b[i];
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane >> 2, member = lane % 4;
      for (int i = 0; i < 4; ++i) {
        const int row = i < 2 ? group : group + 8, column = member * 2 + (i & 1);
        for (int word = 0; word < 8; ++word) {
          lanes[lane]->c[i] += __popc(matrix_a[row][word] & matrix_b[column][word]);
        }
      }
    }
  });
}

// "Matrix Fragments for mma.m8n8k128".
inline void mma_8x8x128_xor(int& c0, int& c1, uint32_t a, uint32_t b) {
  struct Operand {
    int* c[2];
    uint32_t a, b;
  } operand = {{&c0, &c1}, a, b};
  static const char instruction = 0;
  emulation::collective(&instruction, operand, [](Operand** lanes) {
    uint32_t matrix_a[8][4], matrix_b[8][4];
    for (int lane = 0; lane < 32; ++lane) {
      matrix_a[lane >> 2][lane % 4] = lanes[lane]->a;
      matrix_b[lane >> 2][lane % 4] = lanes[lane]->b;
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 2; ++i) {
        for (int word = 0; word < 4; ++word) {
          *lanes[lane]->c[i] +=
              __popc(matrix_a[lane >> 2][word] ^ matrix_b[(lane % 4) * 2 + i][word]);
        }
      }
    }
  });
}

constexpr bool kHasWarpGroups = BINSEG_ARCH >= 900;

inline void show_to_wgmma() {}
inline void wgmma_begin(int (&)[8][4]) {}
inline void wgmma_end(int (&)[8][4]) {}

constexpr uint64_t kCoreOffset = 128, kGroupOffset = 256;

// "Register Fragments" and "Shared Memory Matrix Layout" of wgmma.mma_async.m64nNk256, without
// swizzling: core matrices of 8 rows × 16 bytes, in memory 128 bytes each.
inline void wgmma_64x64x256_and(int (&d)[8][4], const uint32_t (&a)[4], const uint32_t* b) {
  struct Operand {
    int (*d)[4];
    const uint32_t *a, *b;
  } operand = {d, a, b};
  static const char instruction = 0;
  emulation::collective(&instruction, operand, [](Operand** lanes) {
    uint32_t matrix_a[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        matrix_a[(lane >> 2) + (i & 1) * 8][lane % 4 + (i >> 1) * 4] = lanes[lane]->a[i];
      }
    }
    const unsigned char* b = reinterpret_cast<const unsigned char*>(lanes[0]->b);
    for (int lane = 0; lane < 32; ++lane) {
      for (int tile = 0; tile < 8; ++tile) {
        for (int i = 0; i < 4; ++i) {
          const int row = (lane >> 2) + (i >> 1) * 8;
          const int column = tile * 8 + (lane % 4) * 2 + (i & 1);
          for (int word = 0; word < 8; ++word) {
            uint32_t w;
            std::memcpy(&w,
                        b + column / 8 * kGroupOffset + word / 4 * kCoreOffset + column % 8 * 16 +
                            word % 4 * 4,
                        4);
            lanes[lane]->d[tile][i] += __popc(matrix_a[row][word] & w);
          }
        }
      }
    }
  });
}

inline int dot_bytes(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 4; ++i) {
    c += static_cast<int>(a >> (8 * i) & 255) * static_cast<int8_t>(b >> (8 * i) & 255);
  }
  return c;
}

inline uint32_t shuffle_xor(uint32_t value, int mask) {
  struct Operand {
    uint32_t value, result;
    int mask;
  } operand = {value, 0, mask};
  static const char instruction = 0;
  emulation::collective(&instruction, operand, [](Operand** lanes) {
    for (int lane = 0; lane < 32; ++lane) {
      lanes[lane]->result = lanes[lane ^ lanes[lane]->mask]->value;
    }
  });
  return operand.result;
}

inline uint32_t ballot(bool bit) {
  uint32_t operand = bit;
  static const char instruction = 0;
  emulation::collective(&instruction, operand, [](uint32_t** lanes) {
    uint32_t word = 0;
    for (int lane = 0; lane < 32; ++lane) {
      word |= *lanes[lane] << lane;
    }
    for (int lane = 0; lane < 32; ++lane) {
      *lanes[lane] = word;
    }
  });
  return operand;
}

template <typename... Parameters, typename... Arguments>
const char* launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared,
                   cudaStream_t, Arguments... arguments) {
  emulation::body = [=] { kernel(arguments...); };
  if (emulation::fibers.empty()) {
    emulation::fibers = std::vector<emulation::Fiber>(1024);
  }
  blockDim = dim3(threads);
  gridDim = grid;
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      emulation::run_block(threads, shared);
    }
  }
  return nullptr;
}

}  // namespace binseg
