// The kernels as operators of torch, over its stable ABI. Results are allocated by the caller.
#ifndef TORCH_TARGET_VERSION
#define TORCH_TARGET_VERSION 0x020b000000000000
#endif

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <vector>

#include "kernels.h"

// A test builds this file for the CPU, under a name of its own.
#ifndef BINSEG_LIBRARY
#define BINSEG_LIBRARY binseg_cuda
#define BINSEG_DEVICE CUDA
#endif

#ifndef BINSEG_EMULATED
// weak, so that the object also loads into a torch without CUDA
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(
    int32_t device_index, void** stream);
#endif

namespace {

using torch::stable::Tensor;
using Numbers = std::vector<int64_t>;

// The device of a tensor, and the stream that torch works on there, for the length of a call.
class OnDevice {
#ifdef BINSEG_EMULATED
 public:
  explicit OnDevice(const Tensor&) { binseg::emulation::forget_memory(); }
  cudaStream_t stream() const { return nullptr; }
#else
 public:
  explicit OnDevice(const Tensor& tensor) : index_(tensor.get_device()), guard_(index_) {}
  cudaStream_t stream() const {
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "this torch has no CUDA");
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream) == AOTI_TORCH_SUCCESS,
                    "torch does not tell its current stream");
    return static_cast<cudaStream_t>(stream);
  }

 private:
  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

void check(const char* error) {
  STD_TORCH_CHECK(error == nullptr, "a binseg kernel did not start: ", error);
}

// Where a tensor's data lies, or null if it is empty: operators pass an empty tensor for "none".
template <class T>
T* data(const Tensor& tensor) {
  if (tensor.numel() == 0) {
    return nullptr;
  }
#ifdef BINSEG_EMULATED
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    last += (tensor.size(i) - 1) * tensor.stride(i);
  }
  binseg::emulation::know_memory(tensor.data_ptr(), (last + 1) * tensor.element_size());
#endif
  return static_cast<T*>(tensor.data_ptr());
}

int narrow(int64_t number) { return static_cast<int>(number); }

int ceil_divide(int64_t number, int64_t divisor) {
  return static_cast<int>((number + divisor - 1) / divisor);
}

// shape: kernel height, kernel width, stride, output channels, then one dilation for each base;
// plan: corrected, engine, rows of a tile, bytes of shared memory.
binseg::Conv describe(const Tensor& bits, const Tensor& weight, const Tensor& table,
                      const Numbers& shape, const Numbers& plan) {
  binseg::Conv conv = {};
  conv.bits = data<const uint32_t>(bits);
  conv.weight = data<const uint32_t>(weight);
  conv.table = data<const int>(table);
  conv.images = narrow(bits.size(0));
  conv.height = narrow(bits.size(1));
  conv.width = narrow(bits.size(2));
  conv.input_bases = narrow(bits.size(3));
  conv.words = narrow(bits.size(4));
  conv.kernel_height = narrow(shape.at(0));
  conv.kernel_width = narrow(shape.at(1));
  conv.stride = narrow(shape.at(2));
  conv.out_channels = narrow(shape.at(3));
  conv.out_height = ceil_divide(conv.height, conv.stride);
  conv.out_width = ceil_divide(conv.width, conv.stride);
  conv.bases = narrow(shape.size()) - 4;
  STD_TORCH_CHECK(conv.bases <= binseg::kMostBases, "too many bases");
  for (int i = 0; i < conv.bases; ++i) {
    conv.dilations[i] = narrow(shape.at(4 + i));
  }
  conv.steps = narrow(weight.size(2));
  conv.corrected = plan.at(0) != 0;
  conv.engine = static_cast<binseg::EngineKind>(plan.at(1));
  conv.rows = narrow(plan.at(2));
  conv.shared_limit = static_cast<size_t>(plan.at(3));
  return conv;
}

binseg::Strided describe(const Tensor& x) {
  binseg::Strided map = {data<const void>(x), {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}};
  const int64_t missing = 5 - x.dim();
  for (int64_t i = 0; i < x.dim(); ++i) {
    map.sizes[missing + i] = x.size(i);
    map.strides[missing + i] = x.stride(i);
  }
  return map;
}

void conv_sum(Tensor bits, Tensor weight, Tensor table, Tensor out, Numbers shape, Numbers plan) {
  const OnDevice device(bits);
  const bool short_sums = out.scalar_type() == torch::headeronly::ScalarType::Short;
  check(binseg::conv_sum(describe(bits, weight, table, shape, plan), data<void>(out), short_sums,
                         device.stream()));
}

void conv_bits(Tensor bits, Tensor weight, Tensor table, Tensor low, Tensor span, Tensor out,
               Numbers shape, Numbers plan) {
  const OnDevice device(bits);
  check(binseg::conv_bits(describe(bits, weight, table, shape, plan), data<const int>(low),
                          data<const int>(span), data<uint32_t>(out), device.stream()));
}

void conv_real(Tensor bits, Tensor weight, Tensor table, Tensor curve, bool tanh, Tensor residual,
               Tensor post, Tensor out, Tensor signs, Numbers shape, Numbers plan) {
  const OnDevice device(bits);
  binseg::Real real = {};
  real.curve = {data<const float>(curve), tanh};
  real.residual = data<const float>(residual);
  real.residual_bases = real.residual == nullptr ? 1 : narrow(residual.size(3));
  real.post = data<const float>(post);
  real.out = data<float>(out);
  real.signs = data<uint32_t>(signs);
  check(binseg::conv_real(describe(bits, weight, table, shape, plan), real, device.stream()));
}

void conv_merge(Tensor bits, Tensor weight, Tensor table, Tensor curve, bool tanh, Tensor residual,
                Tensor lambdas, Tensor gates, Tensor branches, Tensor merged, Tensor signs,
                Numbers shape, Numbers plan) {
  const OnDevice device(bits);
  binseg::Merge merge = {};
  merge.curve = {data<const float>(curve), tanh};
  merge.residual = data<const float>(residual);
  merge.residual_bases = narrow(residual.size(3));
  merge.lambdas = data<const float>(lambdas);
  merge.gates = data<const float>(gates);
  merge.branches = data<float>(branches);
  merge.merged = data<float>(merged);
  merge.signs = data<uint32_t>(signs);
  check(binseg::conv_merge(describe(bits, weight, table, shape, plan), merge, device.stream()));
}

void pack_sign(Tensor x, Tensor affine, Tensor out) {
  const OnDevice device(x);
  const bool bfloat16 = x.scalar_type() == torch::headeronly::ScalarType::BFloat16;
  const binseg::Affine scale = {data<const float>(affine),
                                affine.dim() == 3 ? affine.stride(0) : 0};
  check(binseg::pack_sign(describe(x), bfloat16, scale, data<uint32_t>(out), device.stream()));
}

void quantize(Tensor x, double inverse_scale, int64_t zero_point, Tensor out) {
  const OnDevice device(x);
  check(binseg::quantize(describe(x), static_cast<float>(inverse_scale), narrow(zero_point),
                         data<uint32_t>(out), device.stream()));
}

// shape: kernel height, kernel width, stride, dilation, output channels, zero point.
void conv_int8(Tensor x, Tensor weight, Tensor curve, bool relu, Tensor out, Numbers shape) {
  const OnDevice device(x);
  binseg::ByteConv conv = {};
  conv.x = data<const uint32_t>(x);
  conv.weight = data<const uint32_t>(weight);
  conv.images = narrow(x.size(0));
  conv.height = narrow(x.size(1));
  conv.width = narrow(x.size(2));
  conv.words = narrow(x.size(3)) / 4;
  conv.kernel_height = narrow(shape.at(0));
  conv.kernel_width = narrow(shape.at(1));
  conv.stride = narrow(shape.at(2));
  conv.dilation = narrow(shape.at(3));
  conv.out_channels = narrow(shape.at(4));
  conv.zero_point = narrow(shape.at(5));
  conv.out_height = ceil_divide(conv.height, conv.stride);
  conv.out_width = ceil_divide(conv.width, conv.stride);
  check(binseg::conv_int8(conv, data<const float>(curve), relu, data<void>(out), device.stream()));
}

// sums: int32 (N, H, W, C).
void pool_sums(Tensor sums, Tensor curve, Tensor out, Tensor signs) {
  const OnDevice device(sums);
  check(binseg::pool_sums(data<const int>(sums), narrow(sums.size(0)), narrow(sums.size(1)),
                          narrow(sums.size(2)), narrow(sums.size(3)), data<const float>(curve),
                          data<float>(out), data<uint32_t>(signs), device.stream()));
}

void upsample_argmax(Tensor scores, Tensor out) {
  const OnDevice device(scores);
  check(binseg::upsample_argmax(describe(scores), narrow(out.size(1)), narrow(out.size(2)),
                                data<uint8_t>(out), device.stream()));
}

void mma_rate(int64_t blocks, int64_t rounds, Tensor out) {
  const OnDevice device(out);
  check(binseg::mma_rate(narrow(blocks), narrow(rounds), data<int>(out), device.stream()));
}

void wgmma_rate(int64_t blocks, int64_t rounds, Tensor out) {
  const OnDevice device(out);
  check(binseg::wgmma_rate(narrow(blocks), narrow(rounds), data<int>(out), device.stream()));
}

}  // namespace

// the macros of torch paste their arguments together, so these have to be replaced by their values
#define BINSEG_DEFINE(name, library) STABLE_TORCH_LIBRARY(name, library)
#define BINSEG_IMPLEMENT(name, device, library) STABLE_TORCH_LIBRARY_IMPL(name, device, library)

BINSEG_DEFINE(BINSEG_LIBRARY, library) {
  library.def(
      "conv_sum(Tensor bits, Tensor weight, Tensor table, Tensor(a!) out, int[] shape, "
      "int[] plan) -> ()");
  library.def(
      "conv_bits(Tensor bits, Tensor weight, Tensor table, Tensor low, Tensor span, "
      "Tensor(a!) out, int[] shape, int[] plan) -> ()");
  library.def(
      "conv_real(Tensor bits, Tensor weight, Tensor table, Tensor curve, bool tanh, "
      "Tensor residual, Tensor post, Tensor(a!) out, Tensor(b!) signs, int[] shape, int[] plan) "
      "-> ()");
  library.def(
      "conv_merge(Tensor bits, Tensor weight, Tensor table, Tensor curve, bool tanh, "
      "Tensor residual, Tensor lambdas, Tensor gates, Tensor(a!) branches, Tensor(b!) merged, "
      "Tensor(c!) signs, int[] shape, int[] plan) -> ()");
  library.def("pack_sign(Tensor x, Tensor affine, Tensor(a!) out) -> ()");
  library.def("quantize(Tensor x, float inverse_scale, int zero_point, Tensor(a!) out) -> ()");
  library.def(
      "conv_int8(Tensor x, Tensor weight, Tensor curve, bool relu, Tensor(a!) out, int[] shape) "
      "-> ()");
  library.def("pool_sums(Tensor sums, Tensor curve, Tensor(a!) out, Tensor(b!) signs) -> ()");
  library.def("upsample_argmax(Tensor scores, Tensor(a!) out) -> ()");
  library.def("mma_rate(int blocks, int rounds, Tensor(a!) out) -> ()");
  library.def("wgmma_rate(int blocks, int rounds, Tensor(a!) out) -> ()");
}

BINSEG_IMPLEMENT(BINSEG_LIBRARY, BINSEG_DEVICE, library) {
  library.impl("conv_sum", TORCH_BOX(&conv_sum));
  library.impl("conv_bits", TORCH_BOX(&conv_bits));
  library.impl("conv_real", TORCH_BOX(&conv_real));
  library.impl("conv_merge", TORCH_BOX(&conv_merge));
  library.impl("pack_sign", TORCH_BOX(&pack_sign));
  library.impl("quantize", TORCH_BOX(&quantize));
  library.impl("conv_int8", TORCH_BOX(&conv_int8));
  library.impl("pool_sums", TORCH_BOX(&pool_sums));
  library.impl("upsample_argmax", TORCH_BOX(&upsample_argmax));
  library.impl("mma_rate", TORCH_BOX(&mma_rate));
  library.impl("wgmma_rate", TORCH_BOX(&wgmma_rate));
}
