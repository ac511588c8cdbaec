// CPU time of the runtime's convolution kernels, one thread, each hot in the caches:
//   kernel_bench [ISA ...]
// prints the minimum over rounds in microseconds for every layer of two networks, and billions of
// multiplications a second. CPU time of the thread, so that a busy machine changes little; turns
// between instruction sets, so that what changes hits all alike. An authors' tool.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/layer.h"

using namespace binseg;

namespace {

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

uint32_t state = 1;
uint32_t next() { return state = state * 1664525u + 1013904223u; }

enum class Op { kBits, kReal, kMerge, kInt8, kPool };

struct Layer {
  const char* name;
  Op op;
  int64_t height, width;  // of the input
  int64_t in_channels, in_bases, out_channels, bases, kernel, stride;
  int64_t dilations[4];
  int64_t residual_bases;  // 0: none
  bool half;               // real maps in bfloat16
};

constexpr Layer kLayers[] = {
    {"base: stem 7x7 s2, pooled", Op::kPool, 360, 480, 3, 1, 32, 1, 7, 2, {1}, 0, false},
    {"base: stage 1, first", Op::kReal, 90, 120, 32, 2, 32, 2, 3, 1, {1, 1}, 2, false},
    {"base: stage 1, first, bf16", Op::kReal, 90, 120, 32, 2, 32, 2, 3, 1, {1, 1}, 2, true},
    {"base: stage 1, merge", Op::kMerge, 90, 120, 32, 2, 32, 2, 3, 1, {1, 1}, 2, false},
    {"base: stage 1, merge, bf16", Op::kMerge, 90, 120, 32, 2, 32, 2, 3, 1, {1, 1}, 2, true},
    {"base: stage 2, shortcut 1x1", Op::kInt8, 45, 60, 32, 1, 64, 1, 1, 1, {1}, 0, false},
    {"base: stage 2, first s2", Op::kReal, 90, 120, 32, 2, 64, 2, 3, 2, {1, 1}, 1, false},
    {"base: stage 2, merge", Op::kMerge, 45, 60, 64, 2, 64, 2, 3, 1, {1, 1}, 2, false},
    {"base: stage 2, merge, bf16", Op::kMerge, 45, 60, 64, 2, 64, 2, 3, 1, {1, 1}, 2, true},
    {"base: stage 3, merge", Op::kMerge, 23, 30, 128, 2, 128, 2, 3, 1, {1, 2}, 2, false},
    {"base: stage 4, first", Op::kReal, 23, 30, 256, 2, 256, 2, 3, 1, {3, 4}, 2, false},
    {"base: stage 4, merge", Op::kMerge, 23, 30, 256, 2, 256, 2, 3, 1, {3, 4}, 2, false},
    {"base: head 3x3 int8", Op::kInt8, 23, 30, 256, 1, 64, 1, 3, 1, {1}, 0, false},
    {"wide: stem 7x7 s2, pooled", Op::kPool, 480, 640, 3, 1, 64, 1, 7, 2, {1}, 0, false},
    {"wide: 64, bits", Op::kBits, 120, 160, 64, 1, 64, 1, 3, 1, {1}, 0, false},
    {"wide: 64, residual", Op::kReal, 120, 160, 64, 1, 64, 1, 3, 1, {1}, 1, false},
    {"wide: 64, residual, bf16", Op::kReal, 120, 160, 64, 1, 64, 1, 3, 1, {1}, 1, true},
    {"wide: 64, K = 4, bits", Op::kBits, 120, 160, 64, 1, 64, 4, 3, 1, {1, 1, 1, 1}, 0, false},
    {"wide: 64, K = 4, merge", Op::kMerge, 120, 160, 64, 4, 64, 4, 3, 1, {1, 1, 1, 1}, 4, false},
    {"wide: 64, K = 4, merge, bf16",
     Op::kMerge,
     120,
     160,
     64,
     4,
     64,
     4,
     3,
     1,
     {1, 1, 1, 1},
     4,
     true},
    {"wide: 128, residual", Op::kReal, 60, 80, 128, 1, 128, 1, 3, 1, {1}, 1, false},
    {"wide: 256, residual", Op::kReal, 30, 40, 256, 1, 256, 1, 3, 1, {1}, 1, false},
    {"wide: 512, residual", Op::kReal, 30, 40, 512, 1, 512, 1, 3, 1, {2}, 1, false},
};

struct Ready {
  std::unique_ptr<ConvLayer> layer;
  ConvKernel kernel;
  int64_t rows;
  std::vector<std::vector<uint64_t>> memory;
  double best = 1e9;

  template <class T>
  T* take(int64_t count) {
    memory.emplace_back(static_cast<size_t>(count) * sizeof(T) / 8 + 16);
    for (auto& word : memory.back()) word = 0x3C003C003C003C00u;
    return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory.back().data()) + 63) / 64 * 64);
  }
};

RealMap real_map(Ready& r, int64_t height, int64_t width, int64_t bases, int64_t channels,
                 bool half) {
  const int64_t pixel = bases * channels;
  return {r.take<float>(height * width * pixel), width * pixel, pixel, bases > 1 ? channels : 0,
          half};
}

Ready prepare(const Kernels& kernels, const Layer& l) {
  Ready r;
  const bool bytes = l.op == Op::kInt8 || l.op == Op::kPool;
  ConvShape s;
  s.bytes = bytes;
  s.in_channels = l.in_channels;
  s.out_channels = l.out_channels;
  s.in_bases = l.in_bases;
  s.bases = l.bases;
  s.kernel_h = s.kernel_w = l.kernel;
  s.stride_h = s.stride_w = l.stride;
  for (int64_t k = 0; k < l.bases; ++k) {
    s.dilation_h[k] = s.dilation_w[k] = l.dilations[k];
    s.top[k] = s.left[k] = l.dilations[k] * (l.kernel - 1) / 2;
  }
  s.padding = 1;
  s.base_bytes = bytes ? l.in_channels : l.in_channels / 8;
  s.pixel_bytes = s.base_bytes * l.in_bases;
  const int64_t weights = l.bases * l.out_channels * l.kernel * l.kernel * l.in_channels;
  std::vector<uint8_t> weight(static_cast<size_t>(weights));
  for (auto& w : weight) w = static_cast<uint8_t>(next() >> 24);
  r.layer = std::make_unique<ConvLayer>(kernels, s, weight.data());
  std::vector<float> curve(static_cast<size_t>(3 * l.bases * l.out_channels));
  for (auto& c : curve) c = static_cast<float>(next() >> 8) * 1e-9f;
  r.layer->set_curve(curve.data(), false);
  std::vector<uint32_t> low(static_cast<size_t>(l.bases * l.out_channels), 3), span(low.size(), 99);
  r.layer->set_thresholds(low.data(), span.data());
  int64_t height = (l.height + l.stride - 1) / l.stride,
          width = (l.width + l.stride - 1) / l.stride;
  r.layer->set_size(l.height, l.width, height, width);
  ConvArgs& a = r.layer->args();
  const int64_t left = r.layer->border_left(), right = r.layer->border_right();
  a.row_stride = (left + l.width + right) * s.pixel_bytes;
  auto* image = r.take<uint8_t>(a.row_stride * l.height + 64);
  for (int64_t i = 0; i < a.row_stride * l.height; ++i)
    image[i] = static_cast<uint8_t>(next() >> 24);
  a.image = image + left * s.pixel_bytes;
  a.border_row = r.take<uint8_t>(a.row_stride + 64) + left * s.pixel_bytes;
  if (l.op == Op::kPool) {
    height = (height + 1) / 2;
    width = (width + 1) / 2;
  }
  r.rows = height;
  Finish& f = a.finish;
  f.bases = l.bases;
  f.channels = l.out_channels;
  if (l.op != Op::kBits) f.real = real_map(r, height, width, l.bases, l.out_channels, l.half);
  if (!bytes || l.op == Op::kPool) {
    f.bits.words = l.out_channels / 32;
    f.bits.pixel = f.bits.words * l.bases;
    f.bits.row = f.bits.pixel * width;
    f.bits.data = r.take<uint32_t>(f.bits.row * height);
  }
  if (l.op == Op::kMerge) {
    a.merge_residual = f.real;  // in place
    auto* numbers = r.take<float>(16);
    for (int i = 0; i < 16; ++i) numbers[i] = 0.25f;
    a.lambdas = numbers;
    a.gates = numbers + 8;
  } else if (l.residual_bases > 0) {
    f.residual = l.residual_bases == l.bases
                     ? f.real
                     : real_map(r, height, width, l.residual_bases, l.out_channels, l.half);
  }
  r.kernel = l.op == Op::kBits    ? kernels.conv_bits
             : l.op == Op::kReal  ? kernels.conv_real
             : l.op == Op::kMerge ? kernels.conv_merge
             : l.op == Op::kInt8  ? kernels.conv_int8
                                  : kernels.conv_int8_pool;
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<const Kernels*> all;
  for (int i = 1; i < argc; ++i) {
    const Kernels* kernels = find_kernels(argv[i]);
    if (!kernels) {
      std::fprintf(stderr, "this processor has no %s\n", argv[i]);
      return 1;
    }
    all.push_back(kernels);
  }
  if (all.empty()) all.push_back(find_kernels(nullptr));
  std::printf("%-32s", "us, GMAC/s");
  for (const Kernels* kernels : all) std::printf(" %17s", kernels->name);
  std::printf("\n");
  for (const Layer& l : kLayers) {
    std::vector<Ready> ready;
    for (const Kernels* kernels : all) ready.push_back(prepare(*kernels, l));
    std::vector<uint64_t> scratch(1 << 20);
    void* const memory =
        reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
    for (Ready& r : ready)
      if (r.layer->scratch_bytes(l.op == Op::kPool) > (8 << 20) - 64) return 1;
    for (int round = 0; round < 40; ++round) {
      for (Ready& r : ready) {
        for (int i = 0; i < 3; ++i) {
          const double begin = thread_seconds();
          r.kernel(r.layer->args(), 0, r.rows, memory);
          r.best = std::min(r.best, thread_seconds() - begin);
        }
      }
    }
    const int64_t out =
        ((l.height + l.stride - 1) / l.stride) * ((l.width + l.stride - 1) / l.stride);
    const double products =
        static_cast<double>(out * l.bases * l.out_channels * l.kernel * l.kernel * l.in_channels);
    std::printf("%-32s", l.name);
    for (const Ready& r : ready)
      std::printf(" %8.1f %8.1f", r.best * 1e6, products / r.best * 1e-9);
    std::printf("\n");
    std::fflush(stdout);
  }
}
