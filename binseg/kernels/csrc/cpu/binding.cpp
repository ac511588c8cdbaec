// The operators of binseg_cpu: shapes and pointers for the kernels, on torch's stable ABI. Callers
// (binseg/kernels/cpu.py) have checked all arguments and allocated all results.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "plan.h"

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
using binseg::Ints;
using binseg::kBlock;
using binseg::Kernels;
using torch::stable::Tensor;

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

binseg::Plan plan_of(const Tensor& image, const Tensor& weight, const Ints& shape, bool bytes) {
  const Ints sizes = {image.size(0), image.size(1), image.size(2), bytes ? 1 : image.size(3),
                      bytes ? image.size(3) / 4 : image.size(4)};
  return binseg::Plan(
      image.data_ptr(), weight.data_ptr(), sizes, shape, bytes,
      [](int64_t rows, auto&& copy) { torch::stable::parallel_for(0, rows, 64, copy); });
}

template <class T>
const T* values(const Tensor& tensor) {
  return static_cast<const T*>(tensor.data_ptr());
}

void set_curve(binseg::Plan& plan, const Tensor& curve, std::vector<float>& space) {
  const float* rows = values<float>(curve);
  const int64_t channels = plan.args.bases * plan.args.out_channels;
  plan.args.curve = plan.filled(rows, 3 * plan.args.bases, space);
  plan.args.one_sided =
      std::all_of(rows + channels, rows + 2 * channels, [](float slope) { return slope == 0; });
}

bool streams(const Tensor& out, const ConvArgs& args) {
  return out.numel() > kStreamed && args.out_channels % kBlock == 0 &&
         reinterpret_cast<uintptr_t>(out.data_ptr()) % 64 == 0;
}

void conv_sum(std::string isa, Tensor bits, Tensor weight, Ints shape, bool halves, Tensor out) {
  const Kernels& kernels = kernels_called(isa);
  binseg::Plan plan = plan_of(bits, weight, shape, false);
  plan.args.out = out.data_ptr();
  run(halves ? kernels.sum16 : kernels.sum32, plan.args, binseg::tasks_of(plan.args, false), false,
      false);
}

void conv_bits(std::string isa, Tensor bits, Tensor weight, Ints shape, Tensor low, Tensor span,
               Tensor out) {
  binseg::Plan plan = plan_of(bits, weight, shape, false);
  std::vector<uint32_t> low_space, span_space;
  const uint32_t *low_from = values<uint32_t>(low), *span_from = values<uint32_t>(span);
  std::vector<uint32_t> count_low(low.numel()), count_span(low.numel());
  if (!plan.args.corrections) {
    binseg::count_thresholds(plan.args.terms, low_from, span_from, low.numel(), count_low.data(),
                             count_span.data());
    low_from = count_low.data();
    span_from = count_span.data();
  }
  plan.args.low = plan.filled(low_from, plan.args.bases, low_space);
  plan.args.span = plan.filled(span_from, plan.args.bases, span_space);
  plan.args.bits = static_cast<uint32_t*>(out.data_ptr());
  plan.args.bit_words = out.size(4);
  plan.args.bit_bases = plan.args.bases;
  run(kernels_called(isa).bits, plan.args, binseg::tasks_of(plan.args, false), false, false);
}

void conv_real(std::string isa, Tensor bits, Tensor weight, Ints shape, Tensor curve, bool tanh,
               std::optional<Tensor> residual, std::optional<Tensor> post, Tensor out,
               std::optional<Tensor> signs) {
  const Kernels& kernels = kernels_called(isa);
  binseg::Plan plan = plan_of(bits, weight, shape, false);
  std::vector<float> space, post_space;
  set_curve(plan, curve, space);
  if (post) plan.args.post = plan.filled(values<float>(*post), 4 * plan.args.bases, post_space);
  plan.args.residual = pointer<const float>(residual);
  plan.args.residual_bases = residual ? residual->size(3) : 0;
  plan.args.out = out.data_ptr();
  plan.args.streams = plan.args.bases > 1 && streams(out, plan.args);
  plan.args.bits = pointer<uint32_t>(signs);
  plan.args.bit_words = signs ? signs->size(4) : 0;
  plan.args.bit_bases = plan.args.bases;
  const ConvKernel kernel = post ? (tanh ? kernels.real_tanh_post : kernels.real_post)
                                 : (tanh ? kernels.real_tanh : kernels.real);
  run(kernel, plan.args, binseg::tasks_of(plan.args, false), false, false);
}

void conv_merge(std::string isa, Tensor bits, Tensor weight, Ints shape, Tensor curve, bool tanh,
                Tensor residual, Tensor lambdas, std::optional<Tensor> gates,
                std::optional<Tensor> branches, std::optional<Tensor> merged,
                std::optional<Tensor> signs) {
  const Kernels& kernels = kernels_called(isa);
  binseg::Plan plan = plan_of(bits, weight, shape, false);
  std::vector<float> space;
  set_curve(plan, curve, space);
  plan.args.residual = static_cast<const float*>(residual.data_ptr());
  plan.args.residual_bases = residual.size(3);
  plan.args.lambdas = static_cast<const float*>(lambdas.data_ptr());
  plan.args.gates = pointer<const float>(gates);
  plan.args.out = pointer<float>(branches);
  plan.args.merged = pointer<float>(merged);
  plan.args.streams = branches && streams(*branches, plan.args);
  plan.args.bits = pointer<uint32_t>(signs);
  plan.args.bit_words = signs ? signs->size(4) : 0;
  plan.args.bit_bases = gates ? plan.args.bases : 1;
  run(tanh ? kernels.merge_tanh : kernels.merge, plan.args, binseg::tasks_of(plan.args, true), true,
      false);
}

void conv_int8(std::string isa, Tensor x, Tensor weight, Ints shape, Tensor curve, bool relu,
               Tensor out) {
  binseg::Plan plan = plan_of(x, weight, shape, true);
  std::vector<float> space;
  plan.args.curve = plan.filled(values<float>(curve), 2, space);
  plan.args.relu = relu;
  plan.args.out = out.data_ptr();
  run(kernels_called(isa).int8, plan.args, binseg::tasks_of(plan.args, false), false, false);
}

void conv_int8_pool(std::string isa, Tensor x, Tensor weight, Ints shape, Tensor curve, Tensor out,
                    Tensor signs) {
  binseg::Plan plan = plan_of(x, weight, shape, true);
  std::vector<float> space;
  plan.args.curve = plan.filled(values<float>(curve), 2, space);
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
  torch::stable::parallel_for(0, args.batch * args.height, 8,
                              [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

void pack_sign(std::string isa, Tensor x, bool bfloat16, std::optional<Tensor> affine, Tensor out) {
  binseg::MapArgs args = map_args(x, true);
  args.bfloat16 = bfloat16;
  args.affine = pointer<const float>(affine);
  args.affine_stride = affine && affine->dim() == 3 ? affine->stride(0) : 0;
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
    kernels.upsample(args, begin, end);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY(binseg_cpu, m) {
  m.def(
      "conv_sum(str isa, Tensor bits, Tensor weight, int[] shape, bool halves, Tensor(a!) out)"
      " -> ()");
  m.def(
      "conv_bits(str isa, Tensor bits, Tensor weight, int[] shape, Tensor low, Tensor span, "
      "Tensor(a!) out) -> ()");
  m.def(
      "conv_real(str isa, Tensor bits, Tensor weight, int[] shape, Tensor curve, bool tanh, "
      "Tensor? residual, Tensor? post, Tensor(a!) out, Tensor(b!)? signs) -> ()");
  m.def(
      "conv_merge(str isa, Tensor bits, Tensor weight, int[] shape, Tensor curve, bool tanh, "
      "Tensor residual, Tensor lambdas, Tensor? gates, Tensor(a!)? branches, "
      "Tensor(b!)? merged, Tensor(c!)? signs) -> ()");
  m.def(
      "conv_int8(str isa, Tensor x, Tensor weight, int[] shape, Tensor curve, bool relu, "
      "Tensor(a!) out) -> ()");
  m.def(
      "conv_int8_pool(str isa, Tensor x, Tensor weight, int[] shape, Tensor curve, "
      "Tensor(a!) out, Tensor(b!) signs) -> ()");
  m.def("pack_sign(str isa, Tensor x, bool bfloat16, Tensor? affine, Tensor(a!) out) -> ()");
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
