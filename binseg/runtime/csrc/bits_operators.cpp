// Convolutions of bits and bytes: conv_bits, conv_real, conv_merge, conv_int8, conv_int8_pool.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "finish_part.h"
#include "kernels/layer.h"

namespace binseg {
namespace {

// What the kernels read: the value itself, or a copy where it has another border than they need.
class Input {
 public:
  void read(OperatorReader& reader, int64_t bases) {
    Value value;
    value.type = reader.type(0);
    value.lay_out();
    id_ = reader.inputs[0];
    pixel_bytes_ = value.pixel;
    // bytes lie side by side; a word that reaches into the next base meets weights that are 0
    const bool apart = value.type.kind != ValueKind::kBits && bases > 1;
    base_bytes_ = apart ? value.type.channels / bases : value.step;
  }

  // Returns the memory that a copy needs, or 0.
  int64_t size(Planner& plan, int64_t left, int64_t right, const std::vector<uint8_t>& border) {
    left_ = left;
    right_ = right;
    border_ = &border;
    copied_ = !plan.ask_border(id_, left, right, border);
    const Value& value = plan.value(id_);
    const int64_t width = plus(left + right, value.width);
    border_row_.resize(static_cast<size_t>(times(width, pixel_bytes()) + kSlack));
    for (size_t i = 0; i + kSlack < border_row_.size(); ++i)
      border_row_[i] = border[i % border.size()];
    copy_row_ = width * pixel_bytes();
    return copied_ ? plus(times(copy_row_, value.height), kSlack) : 0;
  }

  void place(Planner& plan, uint8_t* copy, ConvArgs& args) {
    value_ = plan.value(id_);
    copy_ = copy;
    args.image = copied_ ? copy + left_ * pixel_bytes() : value_.data;
    args.row_stride = copied_ ? copy_row_ : value_.row;
    args.border_row = border_row_.data() + left_ * pixel_bytes();
  }

  void prepare(Pool& pool) const {
    if (!copied_) return;
    pool.run(value_.height, [this](int64_t begin, int64_t end, int) {
      for (int64_t y = begin; y < end; ++y) copy_one_row(y);
    });
  }

  int64_t pixel_bytes() const { return pixel_bytes_; }
  int64_t base_bytes() const { return base_bytes_; }

 private:
  static constexpr int64_t kSlack = 64;

  int id_ = 0;
  int64_t pixel_bytes_ = 0, base_bytes_ = 0;
  bool copied_ = false;
  int64_t left_ = 0, right_ = 0, copy_row_ = 0;
  const std::vector<uint8_t>* border_ = nullptr;
  std::vector<uint8_t> border_row_;
  Value value_;
  uint8_t* copy_ = nullptr;

  void copy_one_row(int64_t y) const {
    uint8_t* to = copy_ + y * copy_row_;
    const int64_t pixel = pixel_bytes();
    std::memcpy(to, border_row_.data(), static_cast<size_t>(left_ * pixel));
    to += left_ * pixel;
    const uint8_t* from = value_.data + y * value_.row;
    std::memcpy(to, from, static_cast<size_t>(value_.width * pixel));
    to += value_.width * pixel;
    std::memcpy(to, border_row_.data(), static_cast<size_t>(right_ * pixel));
  }
};

enum class Kind { kBits, kReal, kMerge, kInt8, kInt8Pool };

class ConvOperator : public Operator {
 public:
  ConvOperator(OperatorReader& reader, Kind kind) : kind_(kind) {
    if (kind == Kind::kInt8 || kind == Kind::kInt8Pool) {
      read_bytes(reader);
    } else {
      read_bits(reader);
    }
  }

  void size(Planner& plan) override {
    if (!layer_) make_layer(kernels_of(plan));
    const Value& in = plan.value(inputs[0]);
    const int64_t height = window_ ? window_->count(in.height, 0)
                                   : divide_up(in.height, shape_.stride_h),
                  width =
                      window_ ? window_->count(in.width, 1) : divide_up(in.width, shape_.stride_w);
    if (height < 1 || width < 1) fail("the image is too small for this network");
    layer_->set_size(in.height, in.width, height, width);
    const bool pool = kind_ == Kind::kInt8Pool;
    rows_ = pool ? (height - 1) / 2 + 1 : height;
    const int64_t columns = pool ? (width - 1) / 2 + 1 : width;
    finish_.size(plan, rows_, columns);
    for (int id : {merged_, merged_bytes_})
      if (id >= 0) plan.set_size(id, rows_, columns);
    if (merge_residual_ >= 0) {
      const Value& r = plan.value(merge_residual_);
      if (r.height != rows_ || r.width != columns)
        fail("two values do not go together: the image's size does not fit this network");
    }
    copy_bytes_ = up_to_multiple(
        input_.size(plan, layer_->border_left(), layer_->border_right(), border_pixel_), 64);
    const int64_t all = finish_.bases() * finish_.channels();
    plan.ask_scratch(plus(copy_bytes_, finish_.scratch_bytes()),
                     std::max(layer_->scratch_bytes(pool), row_chunk_floats(all) * 4));
  }

  // Residuals are read pixel by pixel, before the result is written.
  Replaced replaces() const override {
    return {finish_.real(), kind_ == Kind::kMerge ? merge_residual_ : finish_.residual()};
  }

  void place(Planner& plan, const Scratch& scratch) override {
    scratch_ = scratch;
    rows_kernels_ = &plan.kernels.rows;
    ConvArgs& args = layer_->args();
    input_.place(plan, scratch.of_all, args);
    args.finish = finish_.place(plan, scratch.of_all + copy_bytes_);
    args.branch = branch_.place(plan, nullptr);
    if (merge_residual_ >= 0)
      args.merge_residual =
          plan.value(merge_residual_).real(merge_residual_serves_all_ ? 0 : shape_.out_channels);
    if (kind_ == Kind::kMerge) {
      args.lambdas = lambdas_.data();
      args.gates = gates_.empty() ? nullptr : gates_.data();
    }
    if (merged_ >= 0) args.merged = plan.value(merged_).real(0);
    if (merged_bytes_ >= 0) args.merged_bytes = plan.value(merged_bytes_).bytes();
    const Kernels& kernels = kernels_of(plan);
    kernel_ = kind_ == Kind::kBits    ? kernels.conv_bits
              : kind_ == Kind::kReal  ? kernels.conv_real
              : kind_ == Kind::kMerge ? kernels.conv_merge
              : kind_ == Kind::kInt8  ? kernels.conv_int8
                                      : kernels.conv_int8_pool;
  }

  void run(Pool& pool) override {
    input_.prepare(pool);
    auto rows = [this](int64_t begin, int64_t end, int thread) {
      kernel_(layer_->args(), begin, end, scratch_.of(thread));
    };
    pool.run(rows_, rows, kRowsAtOnce);
    finish_.run_rest(pool, *rows_kernels_, scratch_);
  }

 private:
  const Kind kind_;
  ConvShape shape_;
  std::optional<WindowShape> window_;
  Input input_;
  FinishPart finish_, branch_;  // branch_: of each base before a merge
  std::vector<uint8_t> border_pixel_;
  std::vector<float> curve_, lambdas_, gates_;
  bool tanh_ = false;
  std::vector<uint32_t> low_, span_;
  std::vector<uint8_t> weight_;  // until the layer is made
  int merged_ = -1, merged_bytes_ = -1, merge_residual_ = -1;
  bool merge_residual_serves_all_ = false;

  std::optional<ConvLayer> layer_;
  int64_t rows_ = 0, copy_bytes_ = 0;
  ConvKernel kernel_ = nullptr;
  const RowKernels* rows_kernels_ = nullptr;
  Scratch scratch_;

  void read_bits(OperatorReader& reader) {
    reader.expect_inputs(1, kind_ == Kind::kBits ? 1 : 2);
    const ValueType& type = reader.of_kind(0, {ValueKind::kBits});
    const auto kernel = reader.integers("kernel", 2, 2, 1, 64);
    const auto dilations = reader.integers("dilations", 1, kMostBases, 1, 4096);
    shape_.kernel_h = kernel[0];
    shape_.kernel_w = kernel[1];
    shape_.stride_h = shape_.stride_w = reader.integer("stride", 1, 64);
    shape_.bases = static_cast<int64_t>(dilations.size());
    shape_.padding = reader.integer("padding", -1, 1);
    shape_.in_channels = reader.integer("in_channels", 1, kMostChannels);
    shape_.out_channels = reader.integer("out_channels", 1, kMostChannels);
    shape_.shared_weight = reader.flag("shared_weight");
    shape_.in_bases = type.bases;
    if (type.channels_of_base() != shape_.in_channels ||
        (type.bases != 1 && type.bases != shape_.bases))
      reader.bad("reads bits of other channels or bases than it convolves");
    for (size_t k = 0; k < dilations.size(); ++k) {
      shape_.dilation_h[k] = shape_.dilation_w[k] = dilations[k];
      shape_.top[k] = dilations[k] * (kernel[0] - 1) / 2;
      shape_.left[k] = dilations[k] * (kernel[1] - 1) / 2;
    }
    const int64_t weights = shape_.shared_weight ? 1 : shape_.bases;
    const int64_t rows = times(weights, shape_.out_channels);
    const Tensor& weight =
        reader.bits("weight", times(rows, kernel[0] * kernel[1], shape_.in_channels));
    weight_.assign(weight.data, weight.data + weight.count);
    input_.read(reader, type.bases);
    border_pixel_.assign(static_cast<size_t>(input_.pixel_bytes()), 0);
    if (shape_.padding == 1)
      for (int64_t b = 0; b < type.bases; ++b)
        for (int64_t c = 0; c < shape_.in_channels; ++c)
          border_pixel_[static_cast<size_t>(b * input_.base_bytes() + c / 8)] |=
              static_cast<uint8_t>(1 << (c % 8));

    if (kind_ == Kind::kBits) {
      low_ = integers(reader, "low", rows);
      span_ = integers(reader, "span", rows);
      finish_.read_fixed(reader, shape_.bases, shape_.out_channels, "", false);
      return;
    }
    curve_ = reader.floats("curve", {3, rows});
    for (int64_t i = 0; i < 2 * rows; ++i)  // kernels multiply them by -2
      if (!(std::fabs(curve_[static_cast<size_t>(i)]) <= 0x1p126f))
        reader.bad("has a tensor 'curve' with slopes beyond 2^126");
    tanh_ = reader.flag("tanh");
    if (kind_ == Kind::kReal) {
      finish_.read(reader, shape_.bases, shape_.out_channels, 1);
      return;
    }
    lambdas_ = reader.floats("lambdas", {shape_.bases});
    branch_.read_branch(reader, shape_.bases, shape_.out_channels);
    if (reader.inputs.size() > 1) {
      const int64_t channels = reader.real(1).channels;
      merge_residual_serves_all_ = channels != shape_.bases * shape_.out_channels;
      if (merge_residual_serves_all_ && channels != shape_.out_channels)
        reader.bad("has a residual of " + std::to_string(channels) + " channels");
      merge_residual_ = reader.inputs[1];
    }
    if (!reader.has_tensor("gates")) {
      finish_.read_fixed(reader, 1, shape_.out_channels, "real", true);
      return;
    }
    gates_ = reader.floats("gates", {shape_.bases});
    finish_.read_fixed(reader, shape_.bases, shape_.out_channels, "branches", false);
    if (reader.makes("merged"))
      merged_ = reader.output(
          "merged", {ValueKind::kReal, shape_.out_channels, 1, stored_as_bfloat16(reader)});
    if (reader.makes("bytes"))
      merged_bytes_ = reader.output("bytes", bytes_type(reader, shape_.out_channels));
  }

  void read_bytes(OperatorReader& reader) {
    reader.expect_inputs(1, kind_ == Kind::kInt8 ? 2 : 1);
    const ValueType& type = reader.of_kind(0, {ValueKind::kBytes, ValueKind::kImage});
    window_.emplace(reader);
    const WindowShape& window = *window_;
    shape_.bytes = true;
    shape_.bases = shape_.in_bases = reader.integer_or("bases", 1, 1, kMostBases);
    shape_.shared_weight = true;
    if (type.channels % shape_.bases) reader.bad("cannot make so many bases of its input");
    shape_.in_channels = type.channels / shape_.bases;
    shape_.kernel_h = window.kernel[0];
    shape_.kernel_w = window.kernel[1];
    shape_.stride_h = window.stride[0];
    shape_.stride_w = window.stride[1];
    for (int64_t k = 0; k < shape_.bases; ++k) {
      shape_.top[k] = window.pads[0];
      shape_.left[k] = window.pads[1];
      shape_.dilation_h[k] = window.dilation[0];
      shape_.dilation_w[k] = window.dilation[1];
    }
    const int64_t terms = times(shape_.kernel_h, shape_.kernel_w, shape_.in_channels);
    if (terms * 255 * 128 > INT32_MAX) reader.bad("adds more products than 31 bits may hold");
    const Tensor& curve = reader.tensor("curve", {Dtype::kF32});
    if (curve.shape.size() != 2 || curve.shape[0] != 2 || curve.shape[1] < 1 ||
        curve.shape[1] > kMostChannels)
      reader.bad("has a tensor 'curve' of the wrong shape");
    curve_ = to_floats(curve);
    shape_.out_channels = curve.shape[1];
    const int64_t count = times(shape_.out_channels, terms);
    if (reader.tensor("weight", {Dtype::kI8, Dtype::kU8}).dtype == Dtype::kU8) {
      const Tensor& bits = reader.bits("weight", count);
      weight_.resize(static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i)
        weight_[static_cast<size_t>(i)] = static_cast<uint8_t>(bit_of(bits.data, i) ? 127 : -127);
    } else {
      const Tensor& weight = reader.tensor(
          "weight", {Dtype::kI8},
          {shape_.out_channels, shape_.kernel_h, shape_.kernel_w, shape_.in_channels});
      weight_.assign(weight.data, weight.data + weight.count);
    }
    input_.read(reader, shape_.bases);
    read_border(reader);
    finish_.read(reader, shape_.bases, shape_.out_channels, kind_ == Kind::kInt8 ? 1 : -1);
  }

  void read_border(OperatorReader& reader) {
    const Json& border = reader.attribute("border");
    std::vector<int64_t> values(1);
    if (border.kind == Json::kArray) {
      const auto count = static_cast<size_t>(shape_.in_channels);
      values = reader.integers("border", count, count, 0, 255);
    } else {
      values[0] = reader.integer("border", 0, 255);
    }
    border_pixel_.assign(static_cast<size_t>(input_.pixel_bytes()), 0);
    for (int64_t b = 0; b < shape_.bases; ++b)
      for (int64_t c = 0; c < shape_.in_channels; ++c)
        border_pixel_[static_cast<size_t>(b * input_.base_bytes() + c)] =
            static_cast<uint8_t>(values[static_cast<size_t>(c) % values.size()]);
  }

  static std::vector<uint32_t> integers(OperatorReader& reader, const char* role, int64_t count) {
    const Tensor& tensor = reader.tensor(role, {Dtype::kI32, Dtype::kI16}, {count});
    std::vector<uint32_t> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) {
      if (tensor.dtype == Dtype::kI32) {
        std::memcpy(&values[i], tensor.data + 4 * i, 4);
      } else {
        int16_t narrow;
        std::memcpy(&narrow, tensor.data + 2 * i, 2);
        values[i] = static_cast<uint32_t>(static_cast<int32_t>(narrow));
      }
    }
    return values;
  }

  // The stem has few channels, but taps that lie side by side.
  const Kernels& kernels_of(const Planner& plan) const {
    return kind_ == Kind::kInt8Pool ? plan.kernels : plan.kernels.for_channels(shape_.in_channels);
  }

  void make_layer(const Kernels& kernels) {
    shape_.pixel_bytes = input_.pixel_bytes();
    shape_.base_bytes = input_.base_bytes();
    layer_.emplace(kernels, shape_, weight_.data());
    weight_ = {};
    if (kind_ == Kind::kBits) {
      layer_->set_thresholds(low_.data(), span_.data());
    } else {
      layer_->set_curve(curve_.data(), tanh_);
    }
  }
};

}  // namespace

OperatorPointer read_bits_operator(OperatorReader& reader) {
  constexpr std::pair<const char*, Kind> kKinds[] = {
      {"conv_bits", Kind::kBits}, {"conv_real", Kind::kReal},          {"conv_merge", Kind::kMerge},
      {"conv_int8", Kind::kInt8}, {"conv_int8_pool", Kind::kInt8Pool},
  };
  for (const auto& [name, kind] : kKinds)
    if (reader.kind == name) return std::make_unique<ConvOperator>(reader, kind);
  return nullptr;
}

}  // namespace binseg
