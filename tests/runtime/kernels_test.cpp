// Convolutions of one instruction set, at random odd shapes, against plain loops over numbers in
// natural order: kernels_test ISA CASES SEED. Prints the first difference and exits with 1.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/layer.h"

using namespace binseg;

namespace {

std::mt19937 random_bits;
int64_t pick(int64_t from, int64_t to) {
  return from + static_cast<int64_t>(random_bits() % static_cast<uint32_t>(to - from + 1));
}
template <class T>
T one_of(std::initializer_list<T> list) {
  return list.begin()[pick(0, static_cast<int64_t>(list.size()) - 1)];
}
float real(float scale) { return std::normal_distribution<float>(0, scale)(random_bits); }
std::vector<float> reals(int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = real(scale);
  return values;
}
uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return 0x7FC0;
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
float from_half(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory at a multiple of 64 bytes with room around it, filled with rubbish.
class Memory {
 public:
  explicit Memory(int64_t bytes) : space_(static_cast<size_t>(bytes) + 256) {
    for (auto& b : space_) b = static_cast<uint8_t>(random_bits());
  }
  uint8_t* data() {
    return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(space_.data()) + 127) / 64 * 64);
  }

 private:
  std::vector<uint8_t> space_;
};

struct Shape {
  int64_t height, width, out_height, out_width;
};

// A real map [height][width][bases * channels], as a part of pixels that may hold more.
struct Real {
  Memory memory;
  RealMap map;
  int64_t width, channels;
  Real(int64_t height, int64_t width, int64_t bases, int64_t channels, bool half, bool fill)
      : memory(height * (width * (bases * channels + 3) + 5) * 4),
        width(width),
        channels(channels) {
    map.pixel = bases * channels + pick(0, 3);
    map.row = width * map.pixel + pick(0, 5);
    map.base_step = channels;
    map.bfloat16 = half;
    map.data = memory.data();
    if (!fill) return;
    for (int64_t i = 0; i < height * map.row; ++i) {
      if (half) {
        reinterpret_cast<uint16_t*>(map.data)[i] = to_half(real(3));
      } else {
        static_cast<float*>(map.data)[i] = real(3);
      }
    }
  }
  float at(int64_t y, int64_t x, int64_t base, int64_t c) const {
    const int64_t i = y * map.row + x * map.pixel + base * map.base_step + c;
    return map.bfloat16 ? from_half(static_cast<uint16_t*>(map.data)[i])
                        : static_cast<float*>(map.data)[i];
  }
};

bool same(float a, float b) { return a == b || (a != a && b != b); }

float tanh_reference(float x) {
  const float limit = 7.90531110763549805f;
  const float v = x < -limit ? -limit : x > limit ? limit : x, s = v * v;
  float p = -2.76076847742355e-16f;
  for (float c : {2.00018790482477e-13f, -8.60467152213735e-11f, 5.12229709037114e-08f,
                  1.48572235717979e-05f, 6.37261928875436e-04f, 4.89352455891786e-03f})
    p = std::fma(s, p, c);
  p = v * p;
  float q = 1.19825839466702e-06f;
  for (float c : {1.18534705686654e-04f, 2.26843463243900e-03f, 4.89352518554385e-03f})
    q = std::fma(s, q, c);
  return p / q;
}

int failures = 0;
std::string described;
void expect(bool good, const char* what, int64_t y, int64_t x, int64_t b, int64_t c, double got,
            double wanted) {
  if (good) return;
  if (++failures <= 10)
    std::printf("%s: %s at (%lld, %lld), base %lld, channel %lld: %.9g, not %.9g\n",
                described.c_str(), what, static_cast<long long>(y), static_cast<long long>(x),
                static_cast<long long>(b), static_cast<long long>(c), got, wanted);
}

float activate(Act act, float v, float t0, float t1, float t2) {
  const auto clamp = [](float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
  };
  switch (act) {
    case Act::kNone:
      return v;
    case Act::kRelu:
      return v > 0 ? v : 0;
    case Act::kRelu6:
      return clamp(v, 0, 6);
    case Act::kPrelu:
      return v >= 0 ? v : t0 * v;
    case Act::kRprelu: {
      const float u = v + t0;
      return (u >= 0 ? u : t1 * u) + t2;
    }
    case Act::kTanh:
      return tanh_reference(v);
    case Act::kSigmoid:
    case Act::kSilu: {
      const float s = std::fma(0.5f, tanh_reference(0.5f * v), 0.5f);
      return act == Act::kSilu ? v * s : s;
    }
    case Act::kHardtanh:
      return clamp(v, -1, 1);
    case Act::kHardsigmoid:
    case Act::kHardswish: {
      const float h = clamp(v / 6.0f + 0.5f, 0, 1);
      return act == Act::kHardswish ? v * h : h;
    }
    case Act::kAbs:
      return std::fabs(v);
  }
  return v;
}

uint8_t level(const ByteMap& map, float y) {
  const float l = std::nearbyint(y * map.inverse_scale) + static_cast<float>(map.zero_point);
  return static_cast<uint8_t>(!(l > 0) ? 0 : l > 255 ? 255 : l);
}

// Everything that finish writes, checked against y before it.
struct Finished {
  std::vector<Real> maps;  // residual, real
  std::vector<Memory> memories;
  std::vector<float> tensors[3], thresholds;
  Finish finish{};
  int64_t filled;

  Finished(const Shape& s, int64_t bases, int64_t channels, bool with_residual, bool acts) {
    maps.reserve(2);
    memories.reserve(2);
    finish.bases = bases;
    finish.channels = channels;
    filled = ceil_div(channels, 64) * 64;
    const bool shared = pick(0, 3) == 0;
    finish.base_stride = shared ? 0 : filled;
    if (with_residual && pick(0, 1)) {
      const bool for_all = pick(0, 1);
      maps.emplace_back(s.out_height, s.out_width, for_all ? 1 : bases, channels, pick(0, 1), true);
      if (for_all) maps.back().map.base_step = 0;
      finish.residual = maps.back().map;
    }
    if (acts) finish.act = static_cast<Act>(pick(0, 11));
    for (auto& t : tensors) t = reals(bases * filled, 1);
    for (int i = 0; i < 3; ++i) finish.act_tensors[i] = tensors[i].data();
    thresholds = reals(bases * filled, 1);
    if (pick(0, 1)) finish.threshold = thresholds.data();
    const int64_t roles = pick(1, 7);
    if (roles & 1) {
      maps.emplace_back(s.out_height, s.out_width, bases, channels, pick(0, 1), false);
      finish.real = maps.back().map;
    }
    if (roles & 2) add_bits(s);
    if (roles & 4) add_bytes(s, finish.bytes, bases);
  }
  void add_bits(const Shape& s) {
    BitMap& map = finish.bits;
    map.words = ceil_div(finish.channels, 32);
    map.pixel = finish.bases * map.words;
    map.row = (s.out_width + pick(0, 3)) * map.pixel;
    memories.emplace_back(s.out_height * map.row * 4);
    map.data = reinterpret_cast<uint32_t*>(memories.back().data());
  }
  void add_bytes(const Shape& s, ByteMap& map, int64_t bases) {
    map.base_step = ceil_div(finish.channels, 4) * 4;
    map.pixel = bases * map.base_step;
    map.row = (s.out_width + pick(0, 3)) * map.pixel;
    map.inverse_scale = 10;
    map.zero_point = static_cast<int32_t>(pick(0, 255));
    memories.emplace_back(s.out_height * map.row);
    map.data = memories.back().data();
  }
  const Real* stored() const { return finish.real.data ? &maps.back() : nullptr; }

  void check(int64_t y, int64_t x, int64_t b, int64_t c, float value) const {
    if (finish.residual.data) value = value + maps.front().at(y, x, b, c);
    const auto t = static_cast<size_t>(b * finish.base_stride + c);
    value = activate(finish.act, value, tensors[0][t], tensors[1][t], tensors[2][t]);
    if (const Real* real = stored()) {
      const float wanted = finish.real.bfloat16 ? from_half(to_half(value)) : value;
      const float got = real->at(y, x, b, c);
      expect(same(got, wanted), "real", y, x, b, c, got, wanted);
    }
    if (finish.bits.data) {
      const uint32_t* words =
          finish.bits.data + y * finish.bits.row + x * finish.bits.pixel + b * finish.bits.words;
      const bool got = words[c / 32] >> (c % 32) & 1;
      const bool wanted = value + (finish.threshold ? thresholds[t] : 0.0f) >= 0;
      expect(got == wanted, "bit", y, x, b, c, got, wanted);
      if (c + 1 == finish.channels && c % 32 != 31)
        expect(words[c / 32] >> (c % 32 + 1) == 0, "unused bits", y, x, b, c, words[c / 32], 0);
    }
    check_bytes(finish.bytes, y, x, b, c, value);
  }
  void check_bytes(const ByteMap& map, int64_t y, int64_t x, int64_t b, int64_t c,
                   float value) const {
    if (!map.data) return;
    const uint8_t* bytes = map.data + y * map.row + x * map.pixel + b * map.base_step;
    expect(bytes[c] == level(map, value), "byte", y, x, b, c, bytes[c], level(map, value));
    for (int64_t i = c + 1; c + 1 == finish.channels && i < map.base_step; ++i)
      expect(bytes[i] == 0, "unused bytes", y, x, b, i, bytes[i], 0);
  }
};

// Input, weights and sums of one random convolution.
struct Case {
  ConvShape shape;
  Shape size;
  std::vector<int8_t> input;  // [y][x][in base][channel]: ±1 or bytes as int16
  std::vector<int16_t> bytes;
  std::vector<uint8_t> weight_bits;
  std::vector<int8_t> weights;
  std::vector<uint8_t> border;  // of a pixel, bytes

  explicit Case(bool is_bytes, bool merges, bool pools) {
    shape.bytes = is_bytes;
    shape.in_channels = one_of<int64_t>({1, 3, 5, 31, 32, 33, 64, 64, 96, 130});
    shape.out_channels = one_of<int64_t>({1, 7, 11, 31, 32, 33, 64, 64, 65, 96, 128, 130});
    shape.bases = merges ? pick(1, 4) : pools ? 1 : pick(1, 3);
    shape.in_bases = pick(0, 1) ? shape.bases : 1;
    shape.shared_weight = pick(0, 4) == 0;
    shape.kernel_h = one_of<int64_t>({1, 2, 3, 3, 3, 5});
    shape.kernel_w = one_of<int64_t>({1, 2, 3, 3, 3, 7});
    shape.stride_h = pick(1, 2);
    shape.stride_w = pick(0, 3) ? shape.stride_h : pick(1, 3);
    size.height = pick(1, 14);
    size.width = pick(0, 3) ? pick(1, 24) : pick(25, 70);
    if (is_bytes && pick(0, 1)) {  // an image
      shape.in_channels = 3;
      shape.in_bases = 1;
      shape.pixel_bytes = shape.base_bytes = 3;
    } else {
      shape.base_bytes = ceil_div(shape.in_channels, 32) * 4;
      if (is_bytes)
        shape.base_bytes = pick(0, 1) ? shape.in_channels : ceil_div(shape.in_channels, 4) * 4;
      shape.pixel_bytes = ceil_div(shape.in_bases * shape.base_bytes, 4) * 4;
    }
    const bool same_dilation = pick(0, 1);
    for (int64_t k = 0; k < shape.bases; ++k) {
      const int64_t d = same_dilation ? 1 : pick(1, 6);
      shape.dilation_h[k] = d;
      shape.dilation_w[k] = pick(0, 3) ? d : pick(1, 3);
      shape.top[k] = shape.dilation_h[k] * (shape.kernel_h - 1) / 2;
      shape.left[k] = shape.dilation_w[k] * (shape.kernel_w - 1) / 2;
    }
    shape.padding = pick(-1, 1);
    size.out_height = ceil_div(size.height, shape.stride_h);
    size.out_width = ceil_div(size.width, shape.stride_w);
    const int64_t count = size.height * size.width * shape.in_bases * shape.in_channels;
    bytes.resize(static_cast<size_t>(count));
    for (auto& v : bytes)
      v = static_cast<int16_t>(is_bytes ? (pick(0, 3) ? pick(0, 255) : 255) : 2 * pick(0, 1) - 1);
    border.resize(static_cast<size_t>(shape.in_channels));
    const auto level = static_cast<uint8_t>(pick(0, 255));
    for (auto& b : border) b = shape.pixel_bytes == 3 ? static_cast<uint8_t>(pick(0, 255)) : level;
    const int64_t of_weights = (shape.shared_weight ? 1 : shape.bases) * shape.out_channels *
                               shape.kernel_h * shape.kernel_w * shape.in_channels;
    weights.resize(static_cast<size_t>(of_weights));
    weight_bits.assign(static_cast<size_t>(of_weights / 8 + 1), 0);
    const bool extreme = pick(0, 1);
    for (int64_t i = 0; i < of_weights; ++i) {
      weights[static_cast<size_t>(i)] = static_cast<int8_t>(
          is_bytes ? (extreme ? 127 - pick(0, 1) * 255 : pick(-128, 127)) : 2 * pick(0, 1) - 1);
      if (weights[static_cast<size_t>(i)] > 0)
        weight_bits[static_cast<size_t>(i / 8)] |= static_cast<uint8_t>(1 << (i % 8));
    }
  }
  int64_t weight_bases() const { return shape.shared_weight ? 1 : shape.bases; }
  int64_t sum(int64_t y, int64_t x, int64_t k, int64_t o) const {
    int64_t s = 0;
    const int8_t* w = weights.data() + ((shape.shared_weight ? 0 : k) * shape.out_channels + o) *
                                           shape.kernel_h * shape.kernel_w * shape.in_channels;
    for (int64_t i = 0; i < shape.kernel_h; ++i) {
      for (int64_t j = 0; j < shape.kernel_w; ++j, w += shape.in_channels) {
        const int64_t row = y * shape.stride_h + i * shape.dilation_h[k] - shape.top[k];
        const int64_t column = x * shape.stride_w + j * shape.dilation_w[k] - shape.left[k];
        const bool outside = row < 0 || row >= size.height || column < 0 || column >= size.width;
        const int64_t base = shape.in_bases == 1 ? 0 : k;
        for (int64_t c = 0; c < shape.in_channels; ++c) {
          const int64_t in =
              outside
                  ? (shape.bytes ? border[static_cast<size_t>(c)] : shape.padding)
                  : bytes[static_cast<size_t>(
                        ((row * size.width + column) * shape.in_bases + base) * shape.in_channels +
                        c)];
          s += in * w[c];
        }
      }
    }
    return s;
  }
  std::string describe(const char* what) const {
    char text[256];
    std::snprintf(text, sizeof text,
                  "%s, %lldx%lld, %lld (%lld bases) to %lld (%lld bases), kernel %lldx%lld, "
                  "stride %lldx%lld, padding %lld",
                  what, static_cast<long long>(size.height), static_cast<long long>(size.width),
                  static_cast<long long>(shape.in_channels), static_cast<long long>(shape.in_bases),
                  static_cast<long long>(shape.out_channels), static_cast<long long>(shape.bases),
                  static_cast<long long>(shape.kernel_h), static_cast<long long>(shape.kernel_w),
                  static_cast<long long>(shape.stride_h), static_cast<long long>(shape.stride_w),
                  static_cast<long long>(shape.padding));
    return text;
  }
};

// The input in memory with its border.
struct Input {
  std::vector<uint8_t> memory, row;
  Input(const Case& c, ConvLayer& layer) {
    const int64_t pixel = c.shape.pixel_bytes;
    const int64_t left = layer.border_left() + pick(0, 2),
                  right = layer.border_right() + pick(0, 2);
    const int64_t stride =
        c.shape.bytes ? (left + c.size.width + right) * pixel + (pixel == 3 ? pick(0, 9) : 0)
                      : (left + c.size.width + right) * pixel;
    std::vector<uint8_t> outside(static_cast<size_t>(pixel), 0);
    for (int64_t b = 0; b < c.shape.in_bases; ++b)
      for (int64_t i = 0; i < c.shape.in_channels; ++i)
        set(c, outside.data(), b, i,
            c.shape.bytes ? c.border[static_cast<size_t>(i)] : c.shape.padding);
    memory.resize(static_cast<size_t>(c.size.height * stride + 64));
    row.resize(static_cast<size_t>(stride + 64));
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = outside[i % outside.size()];
    for (size_t i = 0; i < row.size(); ++i) row[i] = outside[i % outside.size()];
    for (int64_t y = 0; y < c.size.height; ++y) {
      uint8_t* to = memory.data() + y * stride;
      for (int64_t x = 0; x < left + c.size.width + right; ++x, to += pixel) {
        std::memcpy(to, outside.data(), static_cast<size_t>(pixel));
        if (x < left || x >= left + c.size.width) continue;
        for (int64_t b = 0; b < c.shape.in_bases; ++b)
          for (int64_t i = 0; i < c.shape.in_channels; ++i)
            set(c, to, b, i,
                c.bytes[static_cast<size_t>(((y * c.size.width + x - left) * c.shape.in_bases + b) *
                                                c.shape.in_channels +
                                            i)]);
      }
    }
    layer.args().image = memory.data() + left * pixel;
    layer.args().border_row = row.data() + left * pixel;
    layer.args().row_stride = stride;
  }
  static void set(const Case& c, uint8_t* pixel, int64_t base, int64_t channel, int64_t value) {
    uint8_t* of_base = pixel + base * c.shape.base_bytes;
    if (c.shape.bytes) {
      of_base[channel] = static_cast<uint8_t>(value);
    } else {
      const auto bit = static_cast<uint8_t>(1 << (channel % 8));
      of_base[channel / 8] =
          static_cast<uint8_t>((of_base[channel / 8] & ~bit) | (value > 0 ? bit : 0));
    }
  }
};

void call(ConvKernel kernel, ConvLayer& layer, int64_t rows, bool pool) {
  Memory scratch(layer.scratch_bytes(pool));
  const int64_t cut = pick(0, rows);  // as two threads would
  kernel(layer.args(), cut, rows, scratch.data());
  kernel(layer.args(), 0, cut, scratch.data());
}

float curve_at(const std::vector<float>& curve, const Case& c, int64_t row, int64_t k, int64_t o) {
  const int64_t base = c.shape.shared_weight ? 0 : k;
  return curve[static_cast<size_t>((row * c.weight_bases() + base) * c.shape.out_channels + o)];
}

float of_sum(const std::vector<float>& curve, const Case& c, bool tanh, int64_t k, int64_t o,
             float s) {
  const float c0 = curve_at(curve, c, 0, k, o), c1 = curve_at(curve, c, 1, k, o);
  if (c.shape.bytes) return std::fma(s, c0, c1);
  const float c2 = curve_at(curve, c, 2, k, o);
  if (tanh) return std::fma(c0, tanh_reference(c1 * s), c2);
  return std::fma(s >= 0 ? c0 : c1, s, c2);
}

std::vector<float> make_curve(const Case& c) {
  const int64_t of_row = c.weight_bases() * c.shape.out_channels;
  std::vector<float> curve = reals((c.shape.bytes ? 2 : 3) * of_row, 0.1f);
  const int64_t kind = pick(0, 2);
  for (int64_t i = 0; i < of_row && !c.shape.bytes && kind < 2; ++i)
    curve[static_cast<size_t>(of_row + i)] = kind == 0 ? 0.0f : curve[static_cast<size_t>(i)];
  return curve;
}

void test_bits(const Kernels& kernels) {
  const Case c(false, false, false);
  described = c.describe("conv_bits");
  ConvLayer layer(kernels, c.shape, c.weight_bits.data());
  const int64_t count = c.weight_bases() * c.shape.out_channels;
  std::vector<uint32_t> low(static_cast<size_t>(count)), span(low.size());
  for (size_t i = 0; i < low.size(); ++i) {
    low[i] = static_cast<uint32_t>(pick(-20, 20));
    span[i] = static_cast<uint32_t>(pick(0, 40));
    const int64_t kind = pick(0, 5);
    if (kind == 0) span[i] = 0x7FFFFFFF - low[i];                              // from low on
    if (kind == 1) span[i] = 0xFFFFFFFF - static_cast<uint32_t>(pick(0, 30));  // wraps around
    if (kind == 2) span[i] = 0;
    if (kind == 3) low[i] = 0x80000000u;  // up to
    if (kind == 3) span[i] = 0x80000000u + static_cast<uint32_t>(pick(-9, 9));
  }
  layer.set_thresholds(low.data(), span.data());
  layer.set_size(c.size.height, c.size.width, c.size.out_height, c.size.out_width);
  const Input input(c, layer);
  Finished finished(c.size, c.shape.bases, c.shape.out_channels, false, false);
  finished.finish.bits.data = nullptr;
  finished.memories.clear();
  finished.add_bits(c.size);
  layer.args().finish = finished.finish;
  call(kernels.conv_bits, layer, c.size.out_height, false);
  const BitMap& map = finished.finish.bits;
  for (int64_t y = 0; y < c.size.out_height; ++y)
    for (int64_t x = 0; x < c.size.out_width; ++x)
      for (int64_t k = 0; k < c.shape.bases; ++k)
        for (int64_t o = 0; o < map.words * 32; ++o) {
          const auto at =
              static_cast<size_t>((c.shape.shared_weight ? 0 : k) * c.shape.out_channels + o);
          const bool wanted = o < c.shape.out_channels &&
                              static_cast<uint32_t>(c.sum(y, x, k, o)) - low[at] <= span[at];
          const bool got =
              map.data[y * map.row + x * map.pixel + k * map.words + o / 32] >> (o % 32) & 1;
          expect(got == wanted, "bit", y, x, k, o, got, wanted);
        }
}

void test_real(const Kernels& kernels, bool bytes) {
  const Case c(bytes, false, false);
  const bool tanh = !bytes && pick(0, 3) == 0;
  described = c.describe(bytes ? "conv_int8" : tanh ? "conv_real, tanh" : "conv_real");
  ConvLayer layer(kernels, c.shape,
                  bytes ? static_cast<const void*>(c.weights.data()) : c.weight_bits.data());
  const std::vector<float> curve = make_curve(c);
  layer.set_curve(curve.data(), tanh);
  layer.set_size(c.size.height, c.size.width, c.size.out_height, c.size.out_width);
  const Input input(c, layer);
  const Finished finished(c.size, c.shape.bases, c.shape.out_channels, true, true);
  layer.args().finish = finished.finish;
  call(bytes ? kernels.conv_int8 : kernels.conv_real, layer, c.size.out_height, false);
  for (int64_t y = 0; y < c.size.out_height; ++y)
    for (int64_t x = 0; x < c.size.out_width; ++x)
      for (int64_t k = 0; k < c.shape.bases; ++k)
        for (int64_t o = 0; o < c.shape.out_channels; ++o)
          finished.check(y, x, k, o,
                         of_sum(curve, c, tanh, k, o, static_cast<float>(c.sum(y, x, k, o))));
}

void test_merge(const Kernels& kernels) {
  const Case c(false, true, false);
  const bool tanh = pick(0, 3) == 0, with_gates = pick(0, 1);
  described = c.describe(with_gates ? "conv_merge, gates" : "conv_merge");
  ConvLayer layer(kernels, c.shape, c.weight_bits.data());
  const std::vector<float> curve = make_curve(c);
  layer.set_curve(curve.data(), tanh);
  layer.set_size(c.size.height, c.size.width, c.size.out_height, c.size.out_width);
  const Input input(c, layer);
  const int64_t bases = c.shape.bases, channels = c.shape.out_channels;
  const std::vector<float> lambdas = reals(bases, 1), gates = reals(bases, 1);
  Finished finished(c.size, with_gates ? bases : 1, channels, false, !with_gates);
  const int64_t kind = pick(0, 2);
  Real residual(c.size.out_height, c.size.out_width, kind == 1 ? 1 : bases, channels, pick(0, 1),
                true);
  if (kind == 1) residual.map.base_step = 0;
  Real merged(c.size.out_height, c.size.out_width, 1, channels, pick(0, 1), false);
  ConvArgs& args = layer.args();
  args.lambdas = lambdas.data();
  if (kind > 0) args.merge_residual = residual.map;
  if (with_gates) {
    args.gates = gates.data();
    if (pick(0, 1)) args.merged = merged.map;
    finished.finish.bytes.data = nullptr;
    if (pick(0, 1)) finished.add_bytes(c.size, args.merged_bytes, 1);
  }
  args.finish = finished.finish;
  call(kernels.conv_merge, layer, c.size.out_height, false);
  for (int64_t y = 0; y < c.size.out_height; ++y) {
    for (int64_t x = 0; x < c.size.out_width; ++x) {
      for (int64_t o = 0; o < channels; ++o) {
        float of_bases[kMostBases], m = 0;
        for (int64_t k = 0; k < bases; ++k) {
          float& out = of_bases[k];
          out = of_sum(curve, c, tanh, k, o, static_cast<float>(c.sum(y, x, k, o)));
          if (kind > 0) out = out + residual.at(y, x, k, o);
          m = std::fma(lambdas[static_cast<size_t>(k)], out, m);
        }
        if (!with_gates) {
          finished.check(y, x, 0, o, m);
          continue;
        }
        if (args.merged.data) {
          const float wanted = args.merged.bfloat16 ? from_half(to_half(m)) : m;
          expect(same(merged.at(y, x, 0, o), wanted), "merged", y, x, 0, o, merged.at(y, x, 0, o),
                 wanted);
        }
        finished.check_bytes(args.merged_bytes, y, x, 0, o, m);
        for (int64_t k = 0; k < bases; ++k)
          finished.check(y, x, k, o, std::fma(gates[static_cast<size_t>(k)], of_bases[k] - m, m));
      }
    }
  }
}

void test_pool(const Kernels& kernels) {
  const Case c(true, false, true);
  described = c.describe("conv_int8_pool");
  ConvLayer layer(kernels, c.shape, c.weights.data());
  const std::vector<float> curve = make_curve(c);
  layer.set_curve(curve.data(), false);
  layer.set_size(c.size.height, c.size.width, c.size.out_height, c.size.out_width);
  const Input input(c, layer);
  const Shape pooled{0, 0, (c.size.out_height + 1) / 2, (c.size.out_width + 1) / 2};
  const Finished finished(pooled, 1, c.shape.out_channels, true, true);
  layer.args().finish = finished.finish;
  call(kernels.conv_int8_pool, layer, pooled.out_height, true);
  for (int64_t y = 0; y < pooled.out_height; ++y) {
    for (int64_t x = 0; x < pooled.out_width; ++x) {
      for (int64_t o = 0; o < c.shape.out_channels; ++o) {
        int64_t most = INT64_MIN;
        for (int64_t i = 2 * y - 1; i <= 2 * y + 1; ++i)
          for (int64_t j = 2 * x - 1; j <= 2 * x + 1; ++j)
            if (i >= 0 && i < c.size.out_height && j >= 0 && j < c.size.out_width)
              most = std::max(most, c.sum(i, j, 0, o));
        finished.check(y, x, 0, o, of_sum(curve, c, false, 0, o, static_cast<float>(most)));
      }
    }
  }
}

// More products than 16 bits hold.
void test_wide(const Kernels& kernels) {
  ConvShape shape;
  shape.in_channels = 4100;
  shape.out_channels = 33;
  shape.kernel_h = shape.kernel_w = 3;
  shape.top[0] = shape.left[0] = shape.dilation_h[0] = shape.dilation_w[0] = 1;
  shape.base_bytes = shape.pixel_bytes = ceil_div(shape.in_channels, 32) * 4;
  shape.padding = 1;
  const int64_t of_one = 9 * shape.in_channels;
  for (const int sign : {-1, 1}) {  // all products are the same
    described = "conv_real of 36900 products";
    std::vector<uint8_t> weight(static_cast<size_t>(33 * of_one / 8 + 1),
                                sign > 0 ? uint8_t(255) : uint8_t(0));
    ConvLayer layer(kernels, shape, weight.data());
    std::vector<float> curve(99, 0.0f);
    for (size_t i = 0; i < 66; ++i) curve[i] = 1;
    layer.set_curve(curve.data(), false);
    layer.set_size(2, 3, 2, 3);
    const int64_t pixels = 3 + layer.border_left() + layer.border_right();
    std::vector<uint8_t> rows(static_cast<size_t>(3 * pixels * shape.pixel_bytes), 255);
    for (size_t i = 1; i <= static_cast<size_t>(3 * pixels); ++i) {
      // 4100 is 4 above a multiple of 32
      std::memset(rows.data() + i * static_cast<size_t>(shape.pixel_bytes) - 4, 0, 4);
      rows[i * static_cast<size_t>(shape.pixel_bytes) - 4] = 15;
    }
    ConvArgs& args = layer.args();
    args.row_stride = pixels * shape.pixel_bytes;
    args.image = rows.data() + layer.border_left() * shape.pixel_bytes;
    args.border_row = args.image + 2 * args.row_stride;
    const Real real(2, 3, 1, 33, false, false);
    args.finish.bases = 1;
    args.finish.channels = 33;
    args.finish.real = real.map;
    call(kernels.conv_real, layer, 2, false);
    for (int64_t y = 0; y < 2; ++y)
      for (int64_t x = 0; x < 3; ++x)
        for (int64_t o = 0; o < 33; ++o)
          expect(real.at(y, x, 0, o) == static_cast<float>(sign * of_one), "real", y, x, 0, o,
                 real.at(y, x, 0, o), static_cast<double>(sign * of_one));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const Kernels* kernels = find_kernels(argv[1]);
  if (!kernels) {
    std::printf("this processor has no %s\n", argv[1]);
    return 77;
  }
  const int cases = std::atoi(argv[2]);
  for (int i = 0; i < cases && failures == 0; ++i) {
    random_bits.seed(static_cast<uint32_t>(std::atoi(argv[3]) + i));
    test_bits(*kernels);
    test_real(*kernels, false);
    test_real(*kernels, true);
    test_merge(*kernels);
    test_pool(*kernels);
  }
  if (failures == 0) test_wide(*kernels);
  if (failures == 0) std::printf("%s: %d cases agree\n", kernels->name, cases);
  return failures != 0;
}
