// The operators of binseg_cpu: shapes and pointers for the kernels, on torch's stable ABI. Callers
// (binseg/kernels/cpu.py) have checked all arguments and allocated all results.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace binseg {
extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512;
#elif defined(__aarch64__)
extern const Kernels kNeon;
#endif
}  // namespace binseg

namespace {

using binseg::ConvArgs;
using binseg::ConvKernel;
using binseg::Kernels;
using binseg::kBlock;
using binseg::Tap;
using torch::stable::Tensor;
using Ints = std::vector<int64_t>;

// Elements from which a result is written past the caches: with several branches it is larger than
// they are by the time it is read, and fetching what will be overwritten costs a third more.
constexpr int64_t kStreamed = 1 << 20;

const Kernels& kernels_called(const std::string& isa) {
  if (isa == "portable") return binseg::kPortable;
#if defined(__x86_64__)
  if (isa == "avx2") return binseg::kAvx2;
  if (isa == "avx512") return binseg::kAvx512;
#elif defined(__aarch64__)
  if (isa == "neon") return binseg::kNeon;
#endif
  STD_TORCH_CHECK(false, "no kernels for ", isa);
  return binseg::kPortable;
}

template <class T>
T* pointer(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<T*>(tensor->data_ptr()) : nullptr;
}

// Memory that a thread keeps from call to call; pages fresh from the system cost more than the
// kernels that fill them.
void* scratch_of(size_t bytes) {
  thread_local std::vector<uint64_t> memory;
  if (memory.size() * 8 < bytes + 64) memory.resize(bytes / 8 + 9);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return reinterpret_cast<void*>((address + 63) / 64 * 64);
}

void run(ConvKernel kernel, const ConvArgs& args, int64_t tasks, bool merge, bool pool) {
  const int64_t bytes = binseg::scratch_bytes(args, merge, pool);
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    kernel(args, begin, end, scratch_of(bytes));
  });
}

// A picture whose rows have the border that the taps need, and the taps' places in it. Borders are
// never wider than the picture: a tap that reads only the border gets a row of its own.
class Plan {
 public:
  ConvArgs args{};

  // shape: in_channels, out_channels, kernel height and width, stride, padding value or byte,
  // then one dilation for each base.
  Plan(const Tensor& image, const Tensor& weight, const Ints& shape, bool bytes) {
    const int64_t in_channels = shape[0];
    kernel_height_ = shape[2];
    kernel_width_ = shape[3];
    args.out_channels = shape[1];
    args.stride = shape[4];
    padding_ = shape[5];
    dilations_.assign(shape.begin() + 6, shape.end());
    args.bases = static_cast<int64_t>(dilations_.size());
    args.blocks = (args.out_channels + kBlock - 1) / kBlock;
    args.batch = image.size(0);
    args.height = image.size(1);
    width_ = image.size(2);
    args.in_bases = bytes ? 1 : image.size(3);
    args.in_words = bytes ? image.size(3) / 4 : image.size(4);
    args.out_height = (args.height + args.stride - 1) / args.stride;
    args.out_width = (width_ + args.stride - 1) / args.stride;
    pixel_ = args.in_bases * args.in_words;
    args.pixel_step = args.stride * pixel_;
    args.weight = static_cast<const uint32_t*>(weight.data_ptr());
    args.terms = static_cast<int32_t>(kernel_height_ * kernel_width_ * in_channels);
    args.rows_per_task = 4;
    fill_border_words(in_channels, bytes);
    place_taps();
    surround(static_cast<const uint32_t*>(image.data_ptr()));
    if (!bytes && padding_ == 0) correct_zero_padding(in_channels);
  }

  // Rows of numbers for each output channel, filled up to whole blocks.
  const float* filled(const Tensor& rows, int64_t count, std::vector<float>& space) const {
    return fill(static_cast<const float*>(rows.data_ptr()), count, space);
  }
  const uint32_t* filled(const Tensor& rows, std::vector<uint32_t>& space) const {
    return fill(static_cast<const uint32_t*>(rows.data_ptr()), args.bases, space);
  }

 private:
  int64_t kernel_height_, kernel_width_, padding_, width_, pixel_;
  int64_t left_ = 0, right_ = 0;
  Ints dilations_;
  std::vector<uint32_t> border_words_, border_row_;
  std::vector<Tap> taps_;
  std::vector<int32_t> row_class_, column_class_, correction_values_;
  std::vector<const int32_t*> corrections_;

  template <class T>
  const T* fill(const T* from, int64_t count, std::vector<T>& space) const {
    const int64_t to = args.blocks * kBlock;
    if (to == args.out_channels) return from;
    space.assign(count * to, T(0));
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(from + i * args.out_channels, args.out_channels, space.data() + i * to);
    return space.data();
  }

  void fill_border_words(int64_t in_channels, bool bytes) {
    border_words_.assign(args.in_words, 0);
    if (bytes) {
      std::fill(border_words_.begin(), border_words_.end(),
                static_cast<uint32_t>(padding_) * 0x01010101u);
    } else if (padding_ == 1) {
      for (int64_t c = 0; c < in_channels; ++c) border_words_[c / 32] |= 1u << (c % 32);
    }
  }

  int64_t border(int64_t kernel, int64_t base) const {
    return dilations_[base] * (kernel - 1) / 2;
  }

  void place_taps() {
    const int64_t reach = (args.out_width - 1) * args.stride;  // input column of the last output
    Ints offsets;  // kMissed where no output pixel reads the picture
    constexpr int64_t kMissed = INT64_MAX;
    for (int64_t k = 0; k < args.bases; ++k) {
      for (int64_t x = 0; x < kernel_width_; ++x) {
        const int64_t offset = x * dilations_[k] - border(kernel_width_, k);
        const bool missed = offset >= width_ || offset + reach < 0;
        offsets.push_back(missed ? kMissed : offset);
        if (missed) continue;
        left_ = std::max(left_, -offset);
        right_ = std::max(right_, offset + reach - (width_ - 1));
      }
    }
    // Taps of one kernel row lie side by side in memory where nothing lies between two pixels.
    const bool joined = kernel_width_ > 1 && args.in_bases == 1 && alike_and_dense(offsets);
    args.run = joined ? kernel_width_ * args.in_words : args.in_words;
    args.tap_count = joined ? kernel_height_ : kernel_height_ * kernel_width_;
    for (int64_t k = 0; k < args.bases; ++k) {
      for (int64_t y = 0; y < kernel_height_; ++y) {
        const int64_t row = y * dilations_[k] - border(kernel_height_, k);
        for (int64_t x = 0; x < (joined ? 1 : kernel_width_); ++x) {
          const int64_t offset = offsets[k * kernel_width_ + x];
          taps_.push_back({row, offset == kMissed ? -1 : left_ + offset});
        }
      }
    }
    args.taps = taps_.data();
  }

  bool alike_and_dense(const Ints& offsets) const {
    for (int64_t d : dilations_)
      if (d != 1) return false;
    return std::find(offsets.begin(), offsets.end(), INT64_MAX) == offsets.end();
  }

  void surround(const uint32_t* image) {
    const int64_t padded = left_ + width_ + right_;
    args.row_stride = padded * pixel_;
    args.image_stride = args.height * args.row_stride;
    border_row_.resize(std::max<int64_t>(padded, 1) * pixel_);
    for (size_t i = 0; i < border_row_.size(); ++i)
      border_row_[i] = border_words_[i % args.in_words];
    args.border_row = border_row_.data();
    args.image = image;
    if (left_ + right_ == 0) return;
    auto* copy = static_cast<uint32_t*>(padded_memory(args.batch * args.image_stride * 4));
    args.image = copy;
    torch::stable::parallel_for(0, args.batch * args.height, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        uint32_t* to = copy + row * args.row_stride;
        std::memcpy(to, args.border_row, left_ * pixel_ * 4);
        std::memcpy(to + left_ * pixel_, image + row * width_ * pixel_, width_ * pixel_ * 4);
        std::memcpy(to + (left_ + width_) * pixel_, args.border_row, right_ * pixel_ * 4);
      }
    });
  }

  static void* padded_memory(size_t bytes) {
    thread_local std::vector<uint64_t> memory;
    if (memory.size() * 8 < bytes) memory.resize(bytes / 8 + 1);
    return memory.data();
  }

  // The kernels count a tap outside the picture as -1 in every channel. Which taps those are
  // depends on the row and the column alone; most pixels have none.
  void correct_zero_padding(int64_t in_channels) {
    std::vector<std::vector<Ints>> rows(args.bases), columns(args.bases);
    row_class_.resize(args.bases * args.out_height);
    column_class_.resize(args.bases * args.out_width);
    for (int64_t k = 0; k < args.bases; ++k) {
      rows[k] = classes(kernel_height_, k, args.height, args.out_height,
                        row_class_.data() + k * args.out_height);
      columns[k] = classes(kernel_width_, k, width_, args.out_width,
                           column_class_.data() + k * args.out_width);
      args.row_classes = std::max<int64_t>(args.row_classes, rows[k].size());
      args.column_classes = std::max<int64_t>(args.column_classes, columns[k].size());
    }
    const int64_t length = args.blocks * kBlock;
    const int64_t table = args.row_classes * args.column_classes;
    corrections_.assign(args.bases * table, nullptr);
    correction_values_.assign(args.bases * table * length, 0);
    for (int64_t k = 0; k < args.bases; ++k) {
      const std::vector<int32_t> sums = weight_sums(k, in_channels);
      for (size_t r = 0; r < rows[k].size(); ++r) {
        for (size_t c = 0; c < columns[k].size(); ++c) {
          if (rows[k][r].empty() && columns[k][c].empty()) continue;
          const int64_t at = (k * args.row_classes + r) * args.column_classes + c;
          int32_t* values = correction_values_.data() + at * length;
          corrections_[at] = values;
          for (int64_t y = 0; y < kernel_height_; ++y) {
            const bool row_outside = contains(rows[k][r], y);
            for (int64_t x = 0; x < kernel_width_; ++x) {
              if (!row_outside && !contains(columns[k][c], x)) continue;
              const int32_t* sum = sums.data() + (y * kernel_width_ + x) * length;
              for (int64_t o = 0; o < length; ++o) values[o] += sum[o];
            }
          }
        }
      }
    }
    args.corrections = corrections_.data();
    args.row_class = row_class_.data();
    args.column_class = column_class_.data();
  }

  static bool contains(const Ints& sorted, int64_t value) {
    return std::binary_search(sorted.begin(), sorted.end(), value);
  }

  // The distinct sets of taps that lie outside, and which of them each output position has.
  std::vector<Ints> classes(int64_t kernel, int64_t base, int64_t size, int64_t out_size,
                            int32_t* of) const {
    std::map<Ints, int32_t> numbers;
    std::vector<Ints> found;
    for (int64_t i = 0; i < out_size; ++i) {
      Ints outside;
      for (int64_t tap = 0; tap < kernel; ++tap) {
        const int64_t at = i * args.stride + tap * dilations_[base] - border(kernel, base);
        if (at < 0 || at >= size) outside.push_back(tap);
      }
      const auto [entry, is_new] = numbers.try_emplace(outside, found.size());
      if (is_new) found.push_back(outside);
      of[i] = entry->second;
    }
    return found;
  }

  // Sum of the weights (each ±1) of every tap and output channel: [tap][blocks * 64].
  std::vector<int32_t> weight_sums(int64_t base, int64_t in_channels) const {
    const int64_t taps = kernel_height_ * kernel_width_, length = args.blocks * kBlock;
    std::vector<int32_t> sums(taps * length, static_cast<int32_t>(-in_channels));
    const uint32_t* w = args.weight + base * args.blocks * taps * args.in_words * kBlock;
    for (int64_t block = 0; block < args.blocks; ++block)
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t word = 0; word < args.in_words; ++word)
          for (int64_t o = 0; o < kBlock; ++o, ++w)
            sums[tap * length + block * kBlock + o] += 2 * __builtin_popcount(*w);
    return sums;
  }
};

int64_t tasks_of(const ConvArgs& a, bool merge) {
  const int64_t chunks = (a.out_height + a.rows_per_task - 1) / a.rows_per_task;
  return a.batch * (merge ? 1 : a.bases) * a.blocks * chunks;
}

void conv_sum(std::string isa, Tensor bits, Tensor weight, Ints shape, bool halves, Tensor out) {
  const Kernels& kernels = kernels_called(isa);
  Plan plan(bits, weight, shape, false);
  plan.args.out = out.data_ptr();
  run(halves ? kernels.sum16 : kernels.sum32, plan.args, tasks_of(plan.args, false), false, false);
}

void conv_bits(std::string isa, Tensor bits, Tensor weight, Ints shape, Tensor low, Tensor span,
               Tensor out) {
  Plan plan(bits, weight, shape, false);
  std::vector<uint32_t> low_space, span_space;
  plan.args.low = plan.filled(low, low_space);
  plan.args.span = plan.filled(span, span_space);
  plan.args.bits = static_cast<uint32_t*>(out.data_ptr());
  plan.args.bit_words = out.size(4);
  plan.args.bit_bases = plan.args.bases;
  run(kernels_called(isa).bits, plan.args, tasks_of(plan.args, false), false, false);
}

void conv_real(std::string isa, Tensor bits, Tensor weight, Ints shape, Tensor curve, bool tanh,
               std::optional<Tensor> residual, Tensor out, std::optional<Tensor> signs) {
  const Kernels& kernels = kernels_called(isa);
  Plan plan(bits, weight, shape, false);
  std::vector<float> space;
  plan.args.curve = plan.filled(curve, 3 * plan.args.bases, space);
  plan.args.residual = pointer<const float>(residual);
  plan.args.residual_bases = residual ? residual->size(3) : 0;
  plan.args.out = out.data_ptr();
  plan.args.bits = pointer<uint32_t>(signs);
  plan.args.bit_words = signs ? signs->size(4) : 0;
  plan.args.bit_bases = plan.args.bases;
  run(tanh ? kernels.real_tanh : kernels.real, plan.args, tasks_of(plan.args, false), false, false);
}

void conv_merge(std::string isa, Tensor bits, Tensor weight, Ints shape, Tensor curve, bool tanh,
                Tensor residual, Tensor lambdas, std::optional<Tensor> gates,
                std::optional<Tensor> branches, std::optional<Tensor> merged,
                std::optional<Tensor> signs) {
  const Kernels& kernels = kernels_called(isa);
  Plan plan(bits, weight, shape, false);
  std::vector<float> space;
  plan.args.curve = plan.filled(curve, 3 * plan.args.bases, space);
  plan.args.residual = static_cast<const float*>(residual.data_ptr());
  plan.args.residual_bases = residual.size(3);
  plan.args.lambdas = static_cast<const float*>(lambdas.data_ptr());
  plan.args.gates = pointer<const float>(gates);
  plan.args.out = pointer<float>(branches);
  plan.args.merged = pointer<float>(merged);
  plan.args.streams = branches && plan.args.out_channels % kBlock == 0 && branches->numel() > kStreamed &&
                      reinterpret_cast<uintptr_t>(plan.args.out) % 64 == 0;
  plan.args.bits = pointer<uint32_t>(signs);
  plan.args.bit_words = signs ? signs->size(4) : 0;
  plan.args.bit_bases = gates ? plan.args.bases : 1;
  run(tanh ? kernels.merge_tanh : kernels.merge, plan.args, tasks_of(plan.args, true), true, false);
}

void conv_int8(std::string isa, Tensor x, Tensor weight, Ints shape, Tensor curve, bool relu,
               Tensor out) {
  Plan plan(x, weight, shape, true);
  std::vector<float> space;
  plan.args.curve = plan.filled(curve, 2, space);
  plan.args.relu = relu;
  plan.args.out = out.data_ptr();
  run(kernels_called(isa).int8, plan.args, tasks_of(plan.args, false), false, false);
}

void conv_int8_pool(std::string isa, Tensor x, Tensor weight, Ints shape, Tensor curve, Tensor out,
                    Tensor signs) {
  Plan plan(x, weight, shape, true);
  std::vector<float> space;
  plan.args.curve = plan.filled(curve, 2, space);
  plan.args.out = out.data_ptr();
  plan.args.bits = static_cast<uint32_t*>(signs.data_ptr());
  plan.args.bit_words = signs.size(4);
  plan.args.bit_bases = 1;
  // each group of rows computes one row of sums that its neighbour has, too
  plan.args.rows_per_task = 16;
  const int64_t chunks = (out.size(1) + 15) / 16;
  run(kernels_called(isa).int8_pool, plan.args, plan.args.batch * plan.args.blocks * chunks, false,
      true);
}

binseg::MapArgs map_args(const Tensor& x, bool with_bases) {
  binseg::MapArgs args{};
  args.x = x.data_ptr();
  args.batch = x.size(0);
  args.height = x.size(1);
  args.width = x.size(2);
  args.bases = with_bases ? x.size(3) : 1;
  args.channels = x.size(with_bases ? 4 : 3);
  args.stride_n = x.stride(0);
  args.stride_h = x.stride(1);
  args.stride_w = x.stride(2);
  args.stride_b = with_bases ? x.stride(3) : 0;
  args.stride_c = x.stride(with_bases ? 4 : 3);
  return args;
}

void each_row(binseg::MapKernel kernel, const binseg::MapArgs& args) {
  torch::stable::parallel_for(0, args.batch * args.height, 8, [&](int64_t begin, int64_t end) {
    kernel(args, begin, end);
  });
}

void pack_sign(std::string isa, Tensor x, bool bfloat16, Tensor out) {
  binseg::MapArgs args = map_args(x, true);
  args.bfloat16 = bfloat16;
  args.out = out.data_ptr();
  each_row(kernels_called(isa).pack_sign, args);
}

void quantize(std::string isa, Tensor x, double inverse_scale, int64_t zero_point, Tensor out) {
  binseg::MapArgs args = map_args(x, false);
  args.inverse_scale = static_cast<float>(inverse_scale);
  args.zero_point = static_cast<int32_t>(zero_point);
  args.out = out.data_ptr();
  each_row(kernels_called(isa).quantize, args);
}

// Source pixels and weights of one axis, as F.interpolate with align_corners=False has them.
void interpolation(int64_t size, int64_t source, std::vector<int32_t>& index,
                   std::vector<float>& weight) {
  const float scale = static_cast<float>(source) / static_cast<float>(size);
  index.resize(size);
  weight.resize(size);
  for (int64_t i = 0; i < size; ++i) {
    const float at = std::max((static_cast<float>(i) + 0.5f) * scale - 0.5f, 0.0f);
    index[i] = std::min(static_cast<int32_t>(at), static_cast<int32_t>(source - 1));
    weight[i] = std::min(std::max(at - static_cast<float>(index[i]), 0.0f), 1.0f);
  }
}

void upsample_argmax(std::string isa, Tensor scores, Tensor out) {
  binseg::UpsampleArgs args{};
  args.scores = static_cast<const float*>(scores.data_ptr());
  args.batch = scores.size(0);
  args.in_height = scores.size(1);
  args.in_width = scores.size(2);
  args.classes = scores.size(3);
  args.height = out.size(1);
  args.width = out.size(2);
  std::vector<int32_t> top, left;
  std::vector<float> weight_y, weight_x;
  interpolation(args.height, args.in_height, top, weight_y);
  interpolation(args.width, args.in_width, left, weight_x);
  args.top = top.data();
  args.left = left.data();
  args.weight_y = weight_y.data();
  args.weight_x = weight_x.data();
  args.out = static_cast<uint8_t*>(out.data_ptr());
  const Kernels& kernels = kernels_called(isa);
  torch::stable::parallel_for(0, args.batch * args.in_height, 1, [&](int64_t begin, int64_t end) {
    kernels.upsample(args, begin, end, nullptr);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY(binseg_cpu, m) {
  m.def("conv_sum(str isa, Tensor bits, Tensor weight, int[] shape, bool halves, Tensor(a!) out)"
        " -> ()");
  m.def("conv_bits(str isa, Tensor bits, Tensor weight, int[] shape, Tensor low, Tensor span, "
        "Tensor(a!) out) -> ()");
  m.def("conv_real(str isa, Tensor bits, Tensor weight, int[] shape, Tensor curve, bool tanh, "
        "Tensor? residual, Tensor(a!) out, Tensor(b!)? signs) -> ()");
  m.def("conv_merge(str isa, Tensor bits, Tensor weight, int[] shape, Tensor curve, bool tanh, "
        "Tensor residual, Tensor lambdas, Tensor? gates, Tensor(a!)? branches, "
        "Tensor(b!)? merged, Tensor(c!)? signs) -> ()");
  m.def("conv_int8(str isa, Tensor x, Tensor weight, int[] shape, Tensor curve, bool relu, "
        "Tensor(a!) out) -> ()");
  m.def("conv_int8_pool(str isa, Tensor x, Tensor weight, int[] shape, Tensor curve, "
        "Tensor(a!) out, Tensor(b!) signs) -> ()");
  m.def("pack_sign(str isa, Tensor x, bool bfloat16, Tensor(a!) out) -> ()");
  m.def("quantize(str isa, Tensor x, float inverse_scale, int zero_point, Tensor(a!) out) -> ()");
  m.def("upsample_argmax(str isa, Tensor scores, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(binseg_cpu, CPU, m) {
  m.impl("conv_sum", TORCH_BOX(&conv_sum));
  m.impl("conv_bits", TORCH_BOX(&conv_bits));
  m.impl("conv_real", TORCH_BOX(&conv_real));
  m.impl("conv_merge", TORCH_BOX(&conv_merge));
  m.impl("conv_int8", TORCH_BOX(&conv_int8));
  m.impl("conv_int8_pool", TORCH_BOX(&conv_int8_pool));
  m.impl("pack_sign", TORCH_BOX(&pack_sign));
  m.impl("quantize", TORCH_BOX(&quantize));
  m.impl("upsample_argmax", TORCH_BOX(&upsample_argmax));
}
