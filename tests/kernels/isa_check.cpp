// Compares the kernels of one instruction set with a loop over taps and channels, without torch, so
// that they can be run where torch is not: under an emulator, for example.
#include <cmath>
#include <cstdio>
#include <random>

#include "plan.h"

namespace binseg {
extern const Kernels CHECKED;
}

namespace {

std::mt19937 random_engine(1);
int64_t pick(std::initializer_list<int64_t> values) {
  return values.begin()[random_engine() % values.size()];
}
float real() { return static_cast<float>(random_engine() % 2001) / 1000 - 1; }

int faults = 0;
void expect(bool right, const char* what) {
  if (!right && ++faults < 10) std::printf("wrong: %s\n", what);
}

void each_range(int64_t n, auto&& f) { f(0, n); }

struct Case {
  int64_t batch = pick({1, 2}), height = pick({1, 2, 5, 9}), width = pick({1, 3, 7, 13, 22});
  int64_t bases = pick({1, 1, 2, 3}), in_bases = pick({0, 1}) ? bases : 1;
  int64_t in = pick({1, 3, 32, 33, 70, 1100}), out = pick({1, 5, 16, 31, 32, 33, 64, 100});
  int64_t kernel_h = pick({1, 2, 3}), kernel_w = pick({1, 3, 4}), stride = pick({1, 2, 3});
  int64_t padding = pick({-1, 0, 1});
  std::vector<int64_t> dilations;

  explicit Case(bool bytes) {
    if (bytes) {
      bases = in_bases = 1;
      in = pick({1, 3, 4, 30});
      padding = pick({0, 7, 255});
    }
    const int64_t first = pick({1, 2, 40});
    for (int64_t k = 0; k < bases; ++k) dilations.push_back(first + pick({0, k}));
  }
  int64_t out_height() const { return (height + stride - 1) / stride; }
  int64_t out_width() const { return (width + stride - 1) / stride; }
  std::vector<int64_t> shape() const {
    std::vector<int64_t> s = {in, out, kernel_h, kernel_w, stride, padding};
    s.insert(s.end(), dilations.begin(), dilations.end());
    return s;
  }
};

// The sum of one output, by `product(base, n, row, column, channel, out channel, tap)`.
template <class Product>
int64_t slow_sum(const Case& c, int64_t n, int64_t y, int64_t x, int64_t k, int64_t o,
                 Product product) {
  int64_t sum = 0;
  const int64_t d = c.dilations[k];
  for (int64_t ky = 0; ky < c.kernel_h; ++ky)
    for (int64_t kx = 0; kx < c.kernel_w; ++kx)
      for (int64_t i = 0; i < c.in; ++i)
        sum +=
            product(k, n, y * c.stride + ky * d - d * (c.kernel_h - 1) / 2,
                    x * c.stride + kx * d - d * (c.kernel_w - 1) / 2, i, o, ky * c.kernel_w + kx);
  return sum;
}

void check_bits() {
  const Case c(false);
  const int64_t words = (c.in + 31) / 32, blocks = (c.out + 63) / 64,
                taps = c.kernel_h * c.kernel_w;
  std::vector<uint32_t> image(c.batch * c.height * c.width * c.in_bases * words);
  std::vector<uint32_t> weight(c.bases * blocks * taps * words * 64);
  const uint32_t last = c.in % 32 ? (1u << c.in % 32) - 1 : ~0u;
  for (size_t i = 0; i < image.size(); ++i)
    image[i] = random_engine() & (i % words == size_t(words) - 1 ? last : ~0u);
  for (size_t i = 0; i < weight.size(); ++i)
    weight[i] = random_engine() & (i / 64 % words == size_t(words) - 1 ? last : ~0u);
  binseg::Plan plan(image.data(), weight.data(), {c.batch, c.height, c.width, c.in_bases, words},
                    c.shape(), false, [](int64_t n, auto&& f) { each_range(n, f); });
  binseg::ConvArgs& a = plan.args;
  const int64_t pixels = c.batch * c.out_height() * c.out_width();
  const int64_t padded = blocks * 64, out_words = (c.out + 31) / 32;
  std::vector<int32_t> sums(pixels * c.bases * c.out), low(c.bases * padded),
      span(c.bases * padded);
  std::vector<float> curve(3 * c.bases * padded), real_out(sums.size()), residual(sums.size());
  std::vector<float> post(4 * c.bases * padded), post_out(sums.size());
  std::vector<float> lambdas(c.bases), gates(c.bases), merged(pixels * c.out);
  std::vector<uint32_t> bits(pixels * c.bases * out_words);
  for (auto& v : low) v = static_cast<int32_t>(random_engine() % 41) - 20;
  for (auto& v : span) v = static_cast<int32_t>(random_engine() % 2 ? random_engine() : 9);
  for (auto& v : curve) v = real() / 10;
  for (auto* values : {&residual, &post, &lambdas, &gates})
    for (auto& v : *values) v = real();
  std::vector<uint64_t> scratch(binseg::scratch_bytes(a, true, true) / 8 + 1);
  const auto run = [&](binseg::ConvKernel kernel, bool merge) {
    kernel(a, 0, binseg::tasks_of(a, merge), scratch.data());
  };
  a.out = sums.data();
  run(binseg::CHECKED.sum32, false);
  const auto product = [&](int64_t k, int64_t n, int64_t row, int64_t column, int64_t i, int64_t o,
                           int64_t tap) -> int64_t {
    const int64_t at = (((k * blocks + o / 64) * taps + tap) * words + i / 32) * 64 + o % 64;
    const int w = weight[at] >> (i % 32) & 1 ? 1 : -1;
    if (row < 0 || row >= c.height || column < 0 || column >= c.width) return c.padding * w;
    const int64_t pixel = (n * c.height + row) * c.width + column;
    const int64_t from = (pixel * c.in_bases + (c.in_bases == 1 ? 0 : k)) * words + i / 32;
    return (image[from] >> (i % 32) & 1 ? 1 : -1) * w;
  };
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t k = 0; k < c.bases; ++k)
      for (int64_t o = 0; o < c.out; ++o) {
        const int64_t n = p / (c.out_height() * c.out_width());
        const int64_t y = p / c.out_width() % c.out_height(), x = p % c.out_width();
        expect(sums[(p * c.bases + k) * c.out + o] == slow_sum(c, n, y, x, k, o, product), "sum");
      }
  std::vector<uint32_t> low_bits(low.begin(), low.end()), span_bits(span.begin(), span.end());
  if (!a.corrections) {
    const auto length = static_cast<int64_t>(low.size());
    binseg::count_thresholds(a.terms, low_bits.data(), span_bits.data(), length, low_bits.data(),
                             span_bits.data());
  }
  a.low = low_bits.data();
  a.span = span_bits.data();
  a.bits = bits.data();
  a.bit_words = out_words;
  a.bit_bases = c.bases;
  run(binseg::CHECKED.bits, false);
  a.curve = curve.data();
  a.residual = residual.data();
  a.residual_bases = c.bases;
  a.post = post.data();
  std::vector<uint32_t> real_bits(bits.size()), post_bits(bits.size());
  const auto bit = [&](const std::vector<uint32_t>& of, int64_t p, int64_t k, int64_t bases,
                       int64_t o) {
    return of[(p * bases + k) * out_words + o / 32] >> (o % 32) & 1;
  };
  const auto f = [&](int64_t p, int64_t k, int64_t o, bool tanh) {
    const double s = sums[(p * c.bases + k) * c.out + o];
    const int64_t at = k * padded + o, row = c.bases * padded;
    const double value = tanh ? curve[at] * std::tanh(curve[at + row] * s) + curve[at + 2 * row]
                              : curve[at] * std::max(s, 0.0) + curve[at + row] * std::min(s, 0.0) +
                                    curve[at + 2 * row];
    return value + residual[(p * c.bases + k) * c.out + o];
  };
  for (const bool tanh : {false, true}) {
    a.out = real_out.data();
    a.bits = real_bits.data();
    a.bit_bases = c.bases;
    run(tanh ? binseg::CHECKED.real_tanh : binseg::CHECKED.real, false);
    a.out = post_out.data();
    a.bits = post_bits.data();
    run(tanh ? binseg::CHECKED.real_tanh_post : binseg::CHECKED.real_post, false);
    std::vector<float> branches(sums.size());
    std::vector<uint32_t> branch_bits(bits.size());
    a.out = branches.data();
    a.merged = merged.data();
    a.lambdas = lambdas.data();
    a.gates = gates.data();
    a.bits = branch_bits.data();
    run(tanh ? binseg::CHECKED.merge_tanh : binseg::CHECKED.merge, true);
    std::vector<float> alone(merged.size());
    std::vector<uint32_t> alone_bits(pixels * out_words);
    a.gates = nullptr;
    a.merged = alone.data();
    a.bits = alone_bits.data();
    a.bit_bases = 1;
    run(tanh ? binseg::CHECKED.merge_tanh : binseg::CHECKED.merge, true);
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t o = 0; o < c.out; ++o) {
        double sum = 0, size = 1;
        for (int64_t k = 0; k < c.bases; ++k) {
          const double value = f(p, k, o, tanh);
          const float got = real_out[(p * c.bases + k) * c.out + o];
          sum += lambdas[k] * value;
          size += std::abs(value);
          expect(std::abs(got - value) < 1e-4 * (1 + std::abs(value)), "real");
          expect(bit(real_bits, p, k, c.bases, o) == (got >= 0), "sign of real");
          const int64_t at = k * padded + o, row = c.bases * padded;
          const float u = got + post[at];
          const float v = (u >= 0 ? u : post[at + row] * u) + post[at + 2 * row];
          expect(post_out[(p * c.bases + k) * c.out + o] == v, "post");
          expect(bit(post_bits, p, k, c.bases, o) == (v + post[at + 3 * row] >= 0), "sign of post");
          const uint32_t off = static_cast<uint32_t>(sums[(p * c.bases + k) * c.out + o] - low[at]);
          expect(bit(bits, p, k, c.bases, o) == (off <= static_cast<uint32_t>(span[at])), "bits");
        }
        const float got = merged[p * c.out + o];
        expect(std::abs(got - sum) < 1e-4 * size, "merged");
        expect(alone[p * c.out + o] == got, "merged alone");
        expect(bit(alone_bits, p, 0, 1, o) == (got >= 0), "sign of merged");
        for (int64_t k = 0; k < c.bases; ++k) {
          const float mixed = branches[(p * c.bases + k) * c.out + o];
          const double value = gates[k] * (f(p, k, o, tanh) - sum) + sum;
          expect(std::abs(mixed - value) < 1e-4 * size, "gated");
          expect(bit(branch_bits, p, k, c.bases, o) == (mixed >= 0), "sign of gated");
        }
      }
  }
}

void check_bytes() {
  const Case c(true);
  const int64_t fours = (c.in + 3) / 4, blocks = (c.out + 63) / 64, taps = c.kernel_h * c.kernel_w;
  std::vector<uint32_t> image(c.batch * c.height * c.width * fours),
      weight(blocks * taps * fours * 64);
  for (auto* words : {&image, &weight})
    for (auto& w : *words) w = random_engine();
  // channels that do not exist have weight 0
  auto* w = reinterpret_cast<int8_t*>(weight.data());
  for (size_t i = 0; i < weight.size() * 4; ++i)
    if (int64_t(i / 4 / 64 % fours * 4 + i % 4) >= c.in) w[i] = 0;
  binseg::Plan plan(image.data(), weight.data(), {c.batch, c.height, c.width, 1, fours}, c.shape(),
                    true, [](int64_t n, auto&& f) { each_range(n, f); });
  binseg::ConvArgs& a = plan.args;
  const int64_t pixels = c.batch * c.out_height() * c.out_width();
  std::vector<float> curve(2 * blocks * 64, 0.0f), out(pixels * c.out);
  std::fill_n(curve.begin(), blocks * 64, 1.0f);
  std::vector<uint64_t> scratch(binseg::scratch_bytes(a, false, true) / 8 + 1);
  a.curve = curve.data();
  a.out = out.data();
  binseg::CHECKED.int8(a, 0, binseg::tasks_of(a, false), scratch.data());
  const auto* x = reinterpret_cast<const uint8_t*>(image.data());
  const auto product = [&](int64_t, int64_t n, int64_t row, int64_t column, int64_t i, int64_t o,
                           int64_t tap) -> int64_t {
    const int64_t at = (((o / 64 * taps + tap) * fours + i / 4) * 64 + o % 64) * 4 + i % 4;
    const bool outside = row < 0 || row >= c.height || column < 0 || column >= c.width;
    const int64_t from = ((n * c.height + row) * c.width + column) * fours * 4 + i;
    return int64_t(outside ? c.padding : x[from]) * w[at];
  };
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t o = 0; o < c.out; ++o) {
      const int64_t n = p / (c.out_height() * c.out_width());
      const int64_t y = p / c.out_width() % c.out_height(), xx = p % c.out_width();
      expect(out[p * c.out + o] == static_cast<float>(slow_sum(c, n, y, xx, 0, o, product)),
             "int8");
    }
  const int64_t high = (c.out_height() + 1) / 2, wide = (c.out_width() + 1) / 2;
  std::vector<float> pooled(c.batch * high * wide * c.out);
  std::vector<uint32_t> signs(c.batch * high * wide * ((c.out + 31) / 32));
  a.out = pooled.data();
  a.bits = signs.data();
  a.bit_words = (c.out + 31) / 32;
  a.bit_bases = 1;
  a.rows_per_task = 2;
  binseg::CHECKED.int8_pool(a, 0, c.batch * blocks * ((high + 1) / 2), scratch.data());
  for (int64_t n = 0; n < c.batch; ++n)
    for (int64_t y = 0; y < high; ++y)
      for (int64_t xx = 0; xx < wide; ++xx)
        for (int64_t o = 0; o < c.out; ++o) {
          float most = -INFINITY;
          for (int64_t r = std::max<int64_t>(0, 2 * y - 1); r <= 2 * y + 1 && r < c.out_height();
               ++r)
            for (int64_t q = std::max<int64_t>(0, 2 * xx - 1); q <= 2 * xx + 1 && q < c.out_width();
                 ++q)
              most =
                  std::max(most, out[((n * c.out_height() + r) * c.out_width() + q) * c.out + o]);
          const int64_t at = (n * high + y) * wide + xx;
          expect(pooled[at * c.out + o] == most, "pooled");
          expect((signs[at * a.bit_words + o / 32] >> (o % 32) & 1) == (most >= 0),
                 "sign of pooled");
        }
}

void check_maps() {
  const int64_t batch = pick({1, 2}), h = pick({1, 3}), w = pick({1, 5, 17});
  const int64_t channels = pick({1, 31, 32, 64, 70}), pixels = batch * h * w;
  std::vector<float> x(pixels * channels), affine(batch * 2 * channels);
  for (auto& v : x) v = random_engine() % 20 ? real() * 5 : random_engine() % 2 ? NAN : -0.0f;
  for (auto& v : affine) v = random_engine() % 5 ? real() : 0.0f;
  binseg::MapArgs a{};
  a.x = x.data();
  a.batch = batch;
  a.height = h;
  a.width = w;
  a.bases = 1;
  a.channels = channels;
  const int64_t layout = pick({0, 1, 2});  // channels, columns or rows side by side
  a.stride_n = h * w * channels;
  a.stride_h = layout == 0 ? w * channels : layout == 1 ? w : 1;
  a.stride_w = layout == 0 ? channels : layout == 1 ? 1 : h;
  a.stride_c = layout == 0 ? 1 : h * w;
  const int64_t words = (channels + 31) / 32, fours = (channels + 3) / 4;
  std::vector<uint32_t> bits(pixels * words), scaled_bits(bits.size());
  std::vector<uint8_t> bytes(pixels * fours * 4, 99);
  a.out = bits.data();
  binseg::CHECKED.pack_sign(a, 0, batch * h);
  a.affine = affine.data();
  a.affine_stride = pick({0, 2 * channels});
  a.out = scaled_bits.data();
  binseg::CHECKED.pack_sign(a, 0, batch * h);
  a.out = bytes.data();
  a.inverse_scale = 40;
  a.zero_point = 100;
  binseg::CHECKED.quantize(a, 0, batch * h);
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < fours * 4; ++c) {
      if (c >= channels) {
        expect(bytes[p * fours * 4 + c] == 0, "filled byte");
        continue;
      }
      const int64_t n = p / (h * w);
      const float v =
          x[n * a.stride_n + p / w % h * a.stride_h + p % w * a.stride_w + c * a.stride_c];
      const float* gain = affine.data() + n * a.affine_stride + c;
      const int64_t word = p * words + c / 32;
      expect((bits[word] >> (c % 32) & 1) == (v >= 0), "packed sign");
      expect((scaled_bits[word] >> (c % 32) & 1) == (std::fma(v, gain[0], gain[channels]) >= 0),
             "sign of gain and shift");
      const float level = std::nearbyint(v * 40.0f) + 100;
      const int want =
          std::isnan(v) ? 0 : static_cast<int>(std::min(std::max(level, 0.0f), 255.0f));
      expect(bytes[p * fours * 4 + c] == want, "byte");
    }
}

}  // namespace

int main() {
  constexpr int kRounds = 120;
  for (int i = 0; i < kRounds; ++i) {
    check_bits();
    check_bytes();
    check_maps();
  }
  std::printf("%s: %d faults in %d rounds\n", binseg::CHECKED.name, faults, kRounds);
  return faults != 0;
}
