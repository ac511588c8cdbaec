// The machine that `emulation.h` runs kernels on: CUDA's types, global memory that knows its
// bounds, and the threads of a block as fibers that change over only where they wait for each
// other.
#pragma once

#include <ucontext.h>

#include <algorithm>
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
