// The kernels as implementations of the operators that operators.py declares, over torch's stable
// ABI. Nothing here trusts sizes: what a kernel would read or write out of bounds is refused.
#ifndef TORCH_TARGET_VERSION
#define TORCH_TARGET_VERSION 0x020b000000000000
#endif

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <climits>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels.h"
#ifdef BINSEG_EMULATED
#include "guards.h"
#endif

// A test builds this file for the CPU, under a name of its own.
#ifndef BINSEG_LIBRARY
#define BINSEG_LIBRARY binseg
#define BINSEG_DEVICE CUDA
#endif

#ifndef BINSEG_EMULATED
// weak, so that the object also loads into a torch without CUDA
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
#endif

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Numbers = std::vector<int64_t>;
using Maybe = std::optional<Tensor>;

constexpr ScalarType kFloat = ScalarType::Float, kInt = ScalarType::Int, kByte = ScalarType::Byte;

int ceil_divide(int64_t number, int64_t divisor) {
  return static_cast<int>((number + divisor - 1) / divisor);
}

int narrow(int64_t number) {
  STD_TORCH_CHECK(number >= 0 && number <= INT_MAX, "a number is out of range");
  return static_cast<int>(number);
}

// The device of a tensor, its stream and its limits, for the length of a call.
class OnDevice {
#ifdef BINSEG_EMULATED
 public:
  explicit OnDevice(const Tensor&) { binseg::emulation::forget_memory(); }
  cudaStream_t stream() const { return nullptr; }
  int multiprocessors() const { return 4; }
  int shared_memory() const { return 200'000; }
#else
 public:
  explicit OnDevice(const Tensor& tensor) : index_(tensor.get_device()), guard_(index_) {}
  cudaStream_t stream() const {
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "this torch has no CUDA");
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream) == AOTI_TORCH_SUCCESS,
                    "torch does not report its current stream");
    return static_cast<cudaStream_t>(stream);
  }
  int multiprocessors() const { return attribute(cudaDevAttrMultiProcessorCount); }
  int shared_memory() const { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

 private:
  int attribute(cudaDeviceAttr which) const {
    int value = 0;
    STD_TORCH_CHECK(cudaDeviceGetAttribute(&value, which, index_) == cudaSuccess,
                    "the GPU does not report its limits");
    return value;
  }

  int32_t index_;
  torch::stable::accelerator::DeviceGuard guard_;
#endif
};

void check(const char* error) {
  STD_TORCH_CHECK(error == nullptr, "a binseg kernel did not start: ", error);
}

// Results

Tensor make(const Tensor& like, const Numbers& size, ScalarType type) {
  int64_t count = 1;
  for (const int64_t side : size) {
    STD_TORCH_CHECK(side >= 0 && (side == 0 || count <= INT_MAX / side),
                    "a map is too large; use smaller images or batches");
    count *= side;
  }
#ifdef BINSEG_EMULATED
  return binseg::emulation::make_guarded(like, size, count, type);
#else
  return torch::stable::new_empty(like, size, type);
#endif
}

Tensor make_if(bool wanted, const Tensor& like, const Numbers& size, ScalarType type) {
  return make(like, wanted ? size : Numbers{0}, type);
}

// Arguments: of the type and the size that the kernels read, in one piece, aligned.

Tensor dense(const Tensor& tensor, const Tensor& first, ScalarType type) {
  STD_TORCH_CHECK(tensor.scalar_type() == type, "a tensor is of another dtype than declared");
  STD_TORCH_CHECK(tensor.get_device() == first.get_device(), "tensors lie on several devices");
  STD_TORCH_CHECK(tensor.numel() <= INT_MAX, "a tensor is too large");
  Tensor made = torch::stable::contiguous(tensor);
  const bool aligned = reinterpret_cast<uintptr_t>(made.data_ptr()) % 16 == 0;
  return aligned ? made : torch::stable::clone(made);
}

Tensor sized(const Tensor& tensor, const Tensor& first, ScalarType type, int64_t count) {
  STD_TORCH_CHECK(tensor.numel() == count, "a tensor holds ", tensor.numel(), " numbers, not ",
                  count);
  return dense(tensor, first, type);
}

Maybe sized(const Maybe& tensor, const Tensor& first, ScalarType type, int64_t count) {
  return tensor ? Maybe(sized(*tensor, first, type, count)) : std::nullopt;
}

void expect_dimensions(const Tensor& tensor, int64_t count) {
  STD_TORCH_CHECK(tensor.dim() == count, "a tensor has ", tensor.dim(), " dimensions, not ", count);
}

// Where a tensor's data lies, or null if it is empty or missing.
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

template <class T>
T* data(const Maybe& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

binseg::Strided strided(const Tensor& x, int64_t bases = 0) {
  binseg::Strided map = {data<const void>(x), {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}};
  // (N, H, W, bases · C) as (N, H, W, bases, C)
  const int64_t last = bases > 0 ? x.dim() - 1 : x.dim();
  const int64_t missing = (bases > 0 ? 4 : 5) - x.dim();
  for (int64_t i = 0; i < last; ++i) {
    map.sizes[missing + i] = x.size(i);
    map.strides[missing + i] = x.stride(i);
  }
  if (bases > 0) {
    map.sizes[3] = bases;
    map.sizes[4] = x.size(last) / bases;
    map.strides[4] = x.stride(last);
    map.strides[3] = map.sizes[4] * map.strides[4];
  }
  return map;
}

// Convolutions of bits

// Sizes, and the tensors that the kernels read; they live as long as a call.
struct BitConv {
  binseg::Conv conv = {};
  Tensor bits, weight, table;

  // plan: engine, rows of a tile and bytes of shared memory (0 chooses).
  BitConv(const OnDevice& device, const Tensor& bits_, const Tensor& weight_, const Tensor& table_,
          int64_t in_channels, int64_t out_channels, const Numbers& kernel, int64_t stride,
          const Numbers& dilations, int64_t padding, const Numbers& plan, bool all_bases)
      : bits(dense(bits_, bits_, kInt)), weight(dense(weight_, bits_, kInt)), table(table_) {
    expect_dimensions(bits, 5);
    expect_dimensions(weight, 4);
    STD_TORCH_CHECK(kernel.size() == 2 && plan.size() == 3 && stride > 0 && in_channels > 0 &&
                        out_channels > 0 && !dilations.empty() &&
                        dilations.size() <= binseg::kMostBases,
                    "a convolution of this form is not supported");
    conv.kernel_height = narrow(kernel[0]);
    conv.kernel_width = narrow(kernel[1]);
    conv.stride = narrow(stride);
    conv.out_channels = narrow(out_channels);
    conv.bases = narrow(dilations.size());
    for (int i = 0; i < conv.bases; ++i) {
      conv.dilations[i] = narrow(dilations[i]);
      STD_TORCH_CHECK(dilations[i] > 0 && dilations[i] * std::max(kernel[0], kernel[1]) < 1 << 29,
                      "a dilation is out of range");
    }
    conv.images = narrow(bits.size(0));
    conv.height = narrow(bits.size(1));
    conv.width = narrow(bits.size(2));
    conv.input_bases = narrow(bits.size(3));
    conv.words = narrow(bits.size(4));
    conv.out_height = ceil_divide(conv.height, stride);
    conv.out_width = ceil_divide(conv.width, stride);
    conv.terms = narrow(kernel[0] * kernel[1] * in_channels);
    conv.steps = narrow(weight.size(2));
    conv.corrected = padding != -1;
    conv.engine = static_cast<binseg::EngineKind>(plan[0]);
    const int columns = ceil_divide(out_channels, 64);
    const int64_t rows = 1 + (conv.corrected ? (kernel[0] + 1) * (kernel[1] + 1) : 0);
    const int64_t taps = kernel[0] * kernel[1];
    STD_TORCH_CHECK(kernel[0] > 0 && kernel[1] > 0 && conv.words == ceil_divide(in_channels, 32) &&
                        (conv.input_bases == 1 || conv.input_bases == conv.bases) &&
                        weight.size(0) == conv.bases && weight.size(1) == columns &&
                        weight.size(2) == ceil_divide(taps * conv.words, 8) &&
                        weight.size(3) == 512 && columns * conv.bases < 65536,
                    "the bits or the weight do not fit the convolution");
    table = sized(table_, bits, kInt, conv.bases * rows * columns * 64);
    const int64_t pixels = static_cast<int64_t>(conv.images) * conv.out_height * conv.out_width;
    const int64_t tiles = columns * (all_bases ? 1 : conv.bases);
    conv.rows = plan[1] > 0 ? narrow(plan[1]) : tile_rows(device, pixels, tiles);
    conv.shared_limit = plan[2] > 0 ? narrow(plan[2]) : device.shared_memory();
    conv.bits = data<const uint32_t>(bits);
    conv.weight = data<const uint32_t>(weight);
    conv.table = data<const int>(table);
  }

  // The largest tile that still gives every multiprocessor work.
  static int tile_rows(const OnDevice& device, int64_t pixels, int64_t tiles) {
    const int64_t wanted = device.multiprocessors();
    if (ceil_divide(pixels, 128) * tiles >= 2 * wanted) {
      return 128;
    }
    return ceil_divide(pixels, 64) * tiles >= wanted ? 64 : 32;
  }

  int64_t channels() const { return static_cast<int64_t>(conv.bases) * conv.out_channels; }

  // Of a real map with so many channels, and of bits with so many bases.
  Numbers map(int64_t channels) const {
    return {conv.images, conv.out_height, conv.out_width, channels};
  }
  Numbers words(int64_t bases) const {
    return {conv.images, conv.out_height, conv.out_width, bases,
            ceil_divide(conv.out_channels, 32)};
  }

  // A residual of all bases or of one, and which of the two.
  Maybe residual(const Maybe& tensor, int* bases) const {
    if (!tensor) {
      *bases = 1;
      return std::nullopt;
    }
    const int64_t pixels = static_cast<int64_t>(conv.images) * conv.out_height * conv.out_width;
    *bases = tensor->numel() == pixels * conv.out_channels ? 1 : conv.bases;
    return sized(tensor, bits, kFloat, pixels * *bases * conv.out_channels);
  }
};

Tensor conv_bits(Tensor bits, Tensor weight, Tensor table, Tensor low, Tensor span,
                 int64_t in_channels, int64_t out_channels, Numbers kernel, int64_t stride,
                 Numbers dilations, int64_t padding, Numbers plan) {
  const OnDevice device(bits);
  const BitConv given(device, bits, weight, table, in_channels, out_channels, kernel, stride,
                      dilations, padding, plan, false);
  const Tensor least = sized(low, bits, kInt, given.channels());
  const Tensor width = sized(span, bits, kInt, given.channels());
  Tensor out = make(bits, given.words(given.conv.bases), kInt);
  check(binseg::conv_bits(given.conv, data<const int>(least), data<const int>(width),
                          data<uint32_t>(out), device.stream()));
  return out;
}

std::tuple<Tensor, Tensor> conv_real(Tensor bits, Tensor weight, Tensor table, Tensor curve,
                                     bool tanh, Maybe residual, Maybe post, bool keep, bool pack,
                                     int64_t in_channels, int64_t out_channels, Numbers kernel,
                                     int64_t stride, Numbers dilations, int64_t padding,
                                     Numbers plan) {
  const OnDevice device(bits);
  const BitConv given(device, bits, weight, table, in_channels, out_channels, kernel, stride,
                      dilations, padding, plan, false);
  binseg::Real real = {};
  const Tensor curves = sized(curve, bits, kFloat, 3 * given.channels());
  const Maybe added = given.residual(residual, &real.residual_bases);
  const Maybe after = sized(post, bits, kFloat, 4 * given.channels());
  Tensor out = make_if(keep, bits, given.map(given.channels()), kFloat);
  Tensor signs = make_if(pack, bits, given.words(given.conv.bases), kInt);
  real.curve = {data<const float>(curves), tanh};
  real.residual = data<const float>(added);
  real.post = data<const float>(after);
  real.out = data<float>(out);
  real.signs = data<uint32_t>(signs);
  check(binseg::conv_real(given.conv, real, device.stream()));
  return {out, signs};
}

std::tuple<Tensor, Tensor, Tensor> conv_merge(Tensor bits, Tensor weight, Tensor table,
                                              Tensor curve, bool tanh, Maybe residual, Maybe post,
                                              Tensor lambdas, Maybe gates, Maybe threshold,
                                              bool keep, bool pack, int64_t in_channels,
                                              int64_t out_channels, Numbers kernel, int64_t stride,
                                              Numbers dilations, int64_t padding, Numbers plan) {
  const OnDevice device(bits);
  const BitConv given(device, bits, weight, table, in_channels, out_channels, kernel, stride,
                      dilations, padding, plan, true);
  const int64_t bases = given.conv.bases, own = given.conv.out_channels;
  binseg::Merge merge = {};
  const Tensor curves = sized(curve, bits, kFloat, 3 * given.channels());
  const Maybe added = given.residual(residual, &merge.residual_bases);
  const Maybe after = sized(post, bits, kFloat, 3 * given.channels());
  const Tensor factors = sized(lambdas, bits, kFloat, bases);
  const Maybe gate = sized(gates, bits, kFloat, bases);
  const Maybe moved = sized(threshold, bits, kFloat, gates ? given.channels() : own);
  Tensor branches = make_if(gates.has_value(), bits, given.map(given.channels()), kFloat);
  Tensor merged = make_if(keep, bits, given.map(own), kFloat);
  Tensor signs = make_if(pack, bits, given.words(gates ? bases : 1), kInt);
  merge.curve = {data<const float>(curves), tanh};
  merge.residual = data<const float>(added);
  merge.post = data<const float>(after);
  merge.lambdas = data<const float>(factors);
  merge.gates = data<const float>(gate);
  merge.threshold = data<const float>(moved);
  merge.branches = data<float>(branches);
  merge.merged = data<float>(merged);
  merge.signs = data<uint32_t>(signs);
  check(binseg::conv_merge(given.conv, merge, device.stream()));
  return {branches, merged, signs};
}

Tensor pack_sign(Tensor x, Maybe affine, int64_t bases) {
  const OnDevice device(x);
  expect_dimensions(x, 4);
  const bool bfloat16 = x.scalar_type() == ScalarType::BFloat16;
  STD_TORCH_CHECK((bfloat16 || x.scalar_type() == kFloat) && bases > 0 && x.size(3) % bases == 0 &&
                      x.numel() <= INT_MAX,
                  "pack_sign takes a float32 or bfloat16 map of whole bases");
  const Maybe scale = sized(affine, x, kFloat, 2 * x.size(3));
  Tensor out =
      make(x, {x.size(0), x.size(1), x.size(2), bases, ceil_divide(x.size(3) / bases, 32)}, kInt);
  check(binseg::pack_sign(strided(x, bases), bfloat16, data<const float>(scale),
                          data<uint32_t>(out), device.stream()));
  return out;
}

// Convolutions of bytes and of real numbers

binseg::Window window_over(const Tensor& x, int64_t groups, int64_t out_channels,
                           const Numbers& kernel, const Numbers& stride, const Numbers& pads,
                           const Numbers& dilation) {
  expect_dimensions(x, 4);
  STD_TORCH_CHECK(kernel.size() == 2 && stride.size() == 2 && pads.size() == 4 &&
                      dilation.size() == 2 && groups > 0 && x.size(3) % groups == 0 &&
                      out_channels > 0,
                  "a window of this form is not supported");
  binseg::Window window = {};
  window.images = narrow(x.size(0));
  window.height = narrow(x.size(1));
  window.width = narrow(x.size(2));
  window.channels = narrow(x.size(3) / groups);
  window.groups = narrow(groups);
  window.out_channels = narrow(out_channels);
  int out[2];
  for (int i = 0; i < 2; ++i) {
    window.kernel[i] = narrow(kernel[i]);
    window.stride[i] = narrow(stride[i]);
    window.pads[i] = narrow(pads[i]);
    window.dilation[i] = narrow(dilation[i]);
    STD_TORCH_CHECK(kernel[i] > 0 && stride[i] > 0 && dilation[i] > 0 && pads[i + 2] >= 0 &&
                        kernel[i] * dilation[i] < 1 << 29 && pads[i] < 1 << 29 &&
                        pads[i + 2] < 1 << 29,
                    "a window is out of range");
    const int64_t room = x.size(1 + i) + pads[i] + pads[i + 2] - dilation[i] * (kernel[i] - 1) - 1;
    STD_TORCH_CHECK(room >= 0, "a window leaves no pixel");
    out[i] = narrow(room / stride[i] + 1);
  }
  window.out_height = out[0];
  window.out_width = out[1];
  return window;
}

Tensor conv_int8(Tensor x, Tensor weight, Tensor border, Tensor curve, bool pool, Numbers kernel,
                 Numbers stride, Numbers pads, Numbers dilation) {
  const OnDevice device(x);
  const int64_t out_channels = curve.numel() / 2;
  const binseg::Window window = window_over(x, 1, out_channels, kernel, stride, pads, dilation);
  const int64_t fours = ceil_divide(window.channels, 4);
  // four channels to a word; those past the last meet weights of 0
  const Tensor whole =
      window.channels % 4 == 0 ? x : torch::stable::pad(x, {0, 4 * fours - window.channels});
  const Tensor bytes = dense(whole, x, kByte);
  const Tensor edge = sized(border, x, kByte, 4 * fours);
  const Tensor filters =
      sized(weight, x, kInt, ceil_divide(out_channels, 64) * kernel[0] * kernel[1] * fours * 64);
  const Tensor curves = sized(curve, x, kFloat, 2 * out_channels);
  const Numbers size = {window.images, window.out_height, window.out_width, out_channels};
  Tensor out = make(x, size, pool ? kInt : kFloat);
  check(binseg::conv_int8(window, data<const uint32_t>(bytes), data<const uint32_t>(filters),
                          data<const uint32_t>(edge), pool ? nullptr : data<const float>(curves),
                          data<void>(out), device.stream()));
  if (!pool) {
    return out;
  }
  Tensor pooled = make(x, {size[0], (size[1] + 1) / 2, (size[2] + 1) / 2, size[3]}, kFloat);
  check(binseg::pool_sums(data<const int>(out), window.images, window.out_height, window.out_width,
                          window.out_channels, data<const float>(curves), data<float>(pooled),
                          device.stream()));
  return pooled;
}

Tensor conv_float(Tensor x, Tensor weight, Maybe bias, int64_t out_channels, int64_t groups,
                  Numbers kernel, Numbers stride, Numbers pads, Numbers dilation) {
  const OnDevice device(x);
  const binseg::Window window =
      window_over(x, groups, out_channels, kernel, stride, pads, dilation);
  const Tensor map = dense(x, x, kFloat);
  const Tensor filters =
      sized(weight, x, kFloat,
            groups * ceil_divide(out_channels, 64) * kernel[0] * kernel[1] * window.channels * 64);
  const Maybe start = sized(bias, x, kFloat, groups * out_channels);
  STD_TORCH_CHECK(groups * ceil_divide(out_channels, 64) < 65536, "too many groups");
  Tensor out =
      make(x, {window.images, window.out_height, window.out_width, groups * out_channels}, kFloat);
  check(binseg::conv_float(window, data<const float>(map), data<const float>(filters),
                           data<const float>(start), data<float>(out), device.stream()));
  return out;
}

// The others

// `x` as if it had the size of `like`.
binseg::Strided broadcast(const Tensor& x, const Tensor& like) {
  STD_TORCH_CHECK(x.scalar_type() == kFloat && x.get_device() == like.get_device() &&
                      x.dim() <= like.dim() && like.dim() <= 5,
                  "fma takes float32 tensors on one device");
  const binseg::Strided whole = strided(like);
  binseg::Strided map = strided(x);
  for (int i = 0; i < 5; ++i) {
    STD_TORCH_CHECK(map.sizes[i] == whole.sizes[i] || map.sizes[i] == 1,
                    "fma takes tensors that can be broadcast to the first");
    if (map.sizes[i] != whole.sizes[i]) {
      map.sizes[i] = whole.sizes[i];
      map.strides[i] = 0;
    }
  }
  return map;
}

Numbers size_of(const Tensor& x) {
  Numbers size;
  for (int64_t i = 0; i < x.dim(); ++i) {
    size.push_back(x.size(i));
  }
  return size;
}

Tensor fma_of(Tensor a, Tensor b, Tensor c) {
  const OnDevice device(a);
  Tensor out = make(a, size_of(a), kFloat);
  check(binseg::fma(broadcast(a, a), broadcast(b, a), broadcast(c, a), data<float>(out),
                    device.stream()));
  return out;
}

Tensor tanh_of(Tensor x, bool sigmoid) {
  const OnDevice device(x);
  const Tensor map = dense(x, x, kFloat);
  Tensor out = make(x, size_of(x), kFloat);
  check(binseg::tanh(data<const float>(map), map.numel(), sigmoid, data<float>(out),
                     device.stream()));
  return out;
}

Tensor quantize(Tensor x, double inverse_scale, int64_t zero_point) {
  const OnDevice device(x);
  const Tensor map = dense(x, x, kFloat);
  Tensor out = make(x, size_of(x), kByte);
  check(binseg::quantize(data<const float>(map), map.numel(), static_cast<float>(inverse_scale),
                         narrow(zero_point), data<uint8_t>(out), device.stream()));
  return out;
}

Tensor ordered_sum(Tensor x) {
  const OnDevice device(x);
  expect_dimensions(x, 3);
  const bool is_double = x.scalar_type() == ScalarType::Double;
  const Tensor map = dense(x, x, is_double ? ScalarType::Double : kFloat);
  Tensor out = make(x, {x.size(0), x.size(2)}, map.scalar_type());
  check(binseg::ordered_sum(data<const void>(map), is_double, narrow(x.size(0)), narrow(x.size(1)),
                            narrow(x.size(2)), data<void>(out), device.stream()));
  return out;
}

Tensor resize(Tensor x, int64_t height, int64_t width, bool bilinear, bool align_corners) {
  const OnDevice device(x);
  expect_dimensions(x, 4);
  const Tensor map = dense(x, x, kFloat);
  const binseg::Resize size = {narrow(x.size(0)), narrow(x.size(1)), narrow(x.size(2)),
                               narrow(x.size(3)), narrow(height),    narrow(width),
                               bilinear,          align_corners};
  STD_TORCH_CHECK(size.height > 0 && size.width > 0, "a map without pixels cannot be resized");
  Tensor out = make(x, {x.size(0), height, width, x.size(3)}, kFloat);
  check(binseg::resize(size, data<const float>(map), data<float>(out), device.stream()));
  return out;
}

Tensor upsample_argmax(Tensor scores, int64_t height, int64_t width) {
  const OnDevice device(scores);
  expect_dimensions(scores, 4);
  STD_TORCH_CHECK(scores.scalar_type() == kFloat && scores.size(3) >= 1 && scores.size(3) <= 255 &&
                      scores.size(1) > 0 && scores.size(2) > 0 && scores.numel() <= INT_MAX,
                  "upsample_argmax takes float32 scores of 1 to 255 classes");
  Tensor out = make(scores, {scores.size(0), narrow(height), narrow(width)}, kByte);
  check(binseg::upsample_argmax(strided(scores), narrow(height), narrow(width), data<uint8_t>(out),
                                device.stream()));
  return out;
}

}  // namespace

// the macros of torch paste their arguments together, so these have to be replaced by their values
#define BINSEG_IMPLEMENT(name, device, library) STABLE_TORCH_LIBRARY_IMPL(name, device, library)

BINSEG_IMPLEMENT(BINSEG_LIBRARY, BINSEG_DEVICE, library) {
  library.impl("conv_bits", TORCH_BOX(&conv_bits));
  library.impl("conv_real", TORCH_BOX(&conv_real));
  library.impl("conv_merge", TORCH_BOX(&conv_merge));
  library.impl("pack_sign", TORCH_BOX(&pack_sign));
  library.impl("conv_int8", TORCH_BOX(&conv_int8));
  library.impl("conv_float", TORCH_BOX(&conv_float));
  library.impl("fma", TORCH_BOX(&fma_of));
  library.impl("tanh", TORCH_BOX(&tanh_of));
  library.impl("quantize", TORCH_BOX(&quantize));
  library.impl("ordered_sum", TORCH_BOX(&ordered_sum));
  library.impl("resize", TORCH_BOX(&resize));
  library.impl("upsample_argmax", TORCH_BOX(&upsample_argmax));
}
