// Enough of CUDA for g++ to compile the kernels, and for a CPU to run them: one block after the
// other, its threads as fibers that change over only where they wait for each other, in an order
// that differs from block to block. Matrix instructions follow the fragment layouts of the PTX ISA.
//
// What it finds beside wrong results: barriers that not all threads reach, collective instructions
// that threads of a warp reach apart, asynchronous copies read before they were waited for (they
// happen only then) or misaligned, and reads outside the tensors of the present call.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static

#ifndef BINSEG_ARCH
#define BINSEG_ARCH 800
#endif

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

using cudaStream_t = void*;
using std::max;
using std::min;

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace binseg::emulation {

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s (block %u, %u thread %u)\n", what, blockIdx.x,
               blockIdx.y, threadIdx.x);
  std::abort();
}

// Global memory: the tensors of the present call.
inline std::vector<std::pair<const char*, const char*>> memory;

inline void forget_memory() { memory.clear(); }

inline void know_memory(const void* data, size_t bytes) {
  const char* begin = static_cast<const char*>(data);
  memory.emplace_back(begin, begin + bytes);
}

inline void check_read(const void* data, size_t bytes) {
  const char* begin = static_cast<const char*>(data);
  if (reinterpret_cast<uintptr_t>(begin) % bytes != 0) {
    fail("misaligned access to global memory");
  }
  for (const auto& [first, last] : memory) {
    if (begin >= first && begin + bytes <= last) {
      return;
    }
  }
  fail("read outside all tensors");
}

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool inside;
};

enum class State { kReady, kAtBarrier, kAtCollective, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = State::kDone;
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;
  // the collective instruction it waits at, and what it brings
  const void* instruction = nullptr;
  void* operand = nullptr;
};

constexpr size_t kStack = 256 * 1024;
constexpr int kLanes = 32;

inline std::vector<Fiber> fibers;
inline ucontext_t scheduler;
inline Fiber* current = nullptr;
inline std::function<void()> body;
inline std::mt19937 order(1);
inline std::vector<unsigned char> shared_memory;
inline unsigned char* shared_begin = nullptr;

inline void enter() {
  body();
  current->state = State::kDone;
  swapcontext(&current->context, &scheduler);
}

inline void wait(State state) {
  current->state = state;
  swapcontext(&current->context, &scheduler);
}

inline void barrier() { wait(State::kAtBarrier); }

// All lanes of a warp bring an operand; the last one to come runs `work` on all 32 of them.
template <class Operand, class Work>
void collective(const void* instruction, Operand& operand, Work work) {
  const size_t self = current - fibers.data(), first = self / kLanes * kLanes;
  current->instruction = instruction;
  current->operand = &operand;
  Operand* operands[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    Fiber& other = fibers[first + lane];
    if (&other != current && other.state != State::kAtCollective) {
      return wait(State::kAtCollective);
    }
    if (other.instruction != instruction) {
      fail("lanes of a warp are at different collective instructions");
    }
    operands[lane] = static_cast<Operand*>(other.operand);
  }
  work(operands);
  for (int lane = 0; lane < kLanes; ++lane) {
    fibers[first + lane].state = State::kReady;
  }
}

inline void finish_copies(size_t groups_left) {
  auto& groups = current->groups;
  while (groups.size() > groups_left) {
    for (const Copy& copy : groups.front()) {
      if (copy.inside) {
        check_read(copy.from, copy.bytes);
        std::memcpy(copy.to, copy.from, copy.bytes);
      } else {
        std::memset(copy.to, 0, copy.bytes);
      }
    }
    groups.erase(groups.begin());
  }
}

inline void run_block(int threads, size_t shared) {
  constexpr size_t kGuard = 4096;
  shared_memory.assign(shared + kGuard + 256, 0xa5);
  const uintptr_t start = reinterpret_cast<uintptr_t>(shared_memory.data());
  shared_begin = shared_memory.data() + (128 - start % 128) % 128;
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    if (!fiber.stack) {
      fiber.stack.reset(new char[kStack]);
    }
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
    fiber.state = State::kReady;
    fiber.open.clear();
    fiber.groups.clear();
  }
  std::vector<int> turns(threads);
  std::iota(turns.begin(), turns.end(), 0);
  std::shuffle(turns.begin(), turns.end(), order);
  for (;;) {
    bool progress = false, done = true;
    for (const int i : turns) {
      if (fibers[i].state == State::kReady) {
        progress = true;
        current = &fibers[i];
        threadIdx = dim3(i, 0, 0);
        swapcontext(&scheduler, &current->context);
      }
      done = done && fibers[i].state == State::kDone;
    }
    if (done) {
      break;
    }
    if (!progress) {
      for (int i = 0; i < threads; ++i) {
        if (fibers[i].state != State::kAtBarrier) {
          fail("threads wait for others that never come");
        }
      }
      for (int i = 0; i < threads; ++i) {
        fibers[i].state = State::kReady;
      }
    }
  }
  for (size_t i = 0; i < kGuard / 2; ++i) {
    if (shared_begin[shared + i] != 0xa5) {
      fail("write past the end of shared memory");
    }
  }
}

}  // namespace binseg::emulation

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
            std::memcpy(&w, b + column / 8 * kGroupOffset + word / 4 * kCoreOffset +
                                column % 8 * 16 + word % 4 * 4, 4);
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
