// conv: a convolution of real maps.
#include "finish_part.h"

namespace binseg {
namespace {

class RealConv : public Operator {
 public:
  explicit RealConv(OperatorReader& reader) : window_(reader) {
    reader.expect_inputs(1, 2);
    const ValueType& type = reader.real(0);
    args_.bases = reader.integer_or("bases", 1, 1, kMostBases);
    args_.groups = reader.integer_or("groups", 1, 1, kMostChannels);
    if (type.channels % (args_.bases * args_.groups))
      reader.bad("cannot make so many bases and groups of its input");
    args_.in_channels = type.channels / (args_.bases * args_.groups);
    window_.describe_to(args_);
    const std::vector<float> weight = read_weight(reader);
    if (outputs_ % args_.groups) reader.bad("cannot make so many groups of its output");
    args_.out_channels = outputs_ / args_.groups;
    std::vector<float> bias(static_cast<size_t>(outputs_));
    if (reader.has_tensor("bias")) bias = reader.floats("bias", {outputs_});
    depthwise_ = args_.bases == 1 && args_.in_channels == 1 && args_.out_channels == 1;
    arrange(weight, bias);
    zeros_.resize(static_cast<size_t>(args_.in_channels));
    finish_.read(reader, args_.bases, outputs_, 1);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    args_.height = in.height;
    args_.in_width = in.width;
    rows_ = window_.count(in.height, 0);
    args_.width = window_.count(in.width, 1);
    finish_.size(plan, rows_, args_.width);
    plan.ask_scratch(finish_.scratch_bytes(), row_chunk_floats(args_.bases * outputs_) * 4);
  }

  void place(Planner& plan, const Scratch& scratch) override {
    args_.x = plan.value(inputs[0]).real(0);
    args_.weight = weight_.data();
    args_.bias = bias_.data();
    args_.zeros = zeros_.data();
    args_.finish = finish_.place(plan, scratch.of_all);
    scratch_ = scratch;
    kernels_ = &plan.kernels.rows;
  }

  void run(Pool& pool) override {
    const auto kernel = depthwise_ ? kernels_->depthwise : kernels_->conv;
    pool.run(rows_, [&](int64_t begin, int64_t end, int thread) {
      kernel(args_, begin, end, scratch_.of(thread));
    });
    finish_.run_rest(pool, *kernels_, scratch_);
  }

 private:
  WindowShape window_;
  RealConvArgs args_{};
  FinishPart finish_;
  int64_t outputs_ = 0;  // of one base
  bool depthwise_ = false;
  std::vector<float> weight_, bias_, zeros_;

  int64_t rows_ = 0;
  Scratch scratch_;
  const RowKernels* kernels_ = nullptr;

  // [outputs][kernel_h][kernel_w][in_channels]
  std::vector<float> read_weight(OperatorReader& reader) {
    const int64_t row = times(args_.kernel_h * args_.kernel_w, args_.in_channels);
    const Tensor& tensor = reader.tensor("weight", {Dtype::kF32, Dtype::kBf16, Dtype::kU8});
    if (tensor.dtype == Dtype::kU8) {
      const Tensor& scale = reader.tensor("scale", {Dtype::kF32});
      if (scale.shape.size() != 1 || scale.count < 1 || scale.count > kMostChannels)
        reader.bad("has a tensor 'scale' of the wrong shape");
      outputs_ = scale.count;
      const std::vector<float> scales = to_floats(scale);
      const Tensor& bits = reader.bits("weight", times(outputs_, row));
      std::vector<float> weight(static_cast<size_t>(outputs_ * row));
      for (int64_t i = 0; i < outputs_ * row; ++i) {
        const float of_row = scales[static_cast<size_t>(i / row)];
        weight[static_cast<size_t>(i)] = bit_of(bits.data, i) ? of_row : -of_row;
      }
      return weight;
    }
    if (tensor.shape.size() != 4 || tensor.shape[0] < 1 || tensor.shape[0] > kMostChannels ||
        tensor.shape[1] != args_.kernel_h || tensor.shape[2] != args_.kernel_w ||
        tensor.shape[3] != args_.in_channels)
      reader.bad("has a tensor 'weight' of the wrong shape");
    outputs_ = tensor.shape[0];
    return to_floats(tensor);
  }

  void arrange(const std::vector<float>& weight, const std::vector<float>& bias) {
    const int64_t taps = args_.kernel_h * args_.kernel_w;
    if (depthwise_) {
      const int64_t filled = up_to_multiple(outputs_, kFilled);
      weight_.resize(static_cast<size_t>(times(taps, filled)));
      for (int64_t o = 0; o < outputs_; ++o)
        for (int64_t t = 0; t < taps; ++t)
          weight_[static_cast<size_t>(t * filled + o)] = weight[static_cast<size_t>(o * taps + t)];
      bias_ = filled_rows(bias, 1);
      return;
    }
    const int64_t blocks = divide_up(args_.out_channels, kConvBlock);
    const int64_t row = taps * args_.in_channels;
    const int64_t all_blocks = times(args_.groups, blocks);
    weight_.resize(static_cast<size_t>(times(all_blocks, row, kConvBlock)));
    bias_.resize(static_cast<size_t>(all_blocks * kConvBlock));
    for (int64_t o = 0; o < outputs_; ++o) {
      const int64_t inside = o % args_.out_channels;
      const int64_t block = o / args_.out_channels * blocks + inside / kConvBlock;
      const int64_t lane = inside % kConvBlock;
      for (int64_t i = 0; i < row; ++i)
        weight_[static_cast<size_t>((block * row + i) * kConvBlock + lane)] =
            weight[static_cast<size_t>(o * row + i)];
      bias_[static_cast<size_t>(block * kConvBlock + lane)] = bias[static_cast<size_t>(o)];
    }
  }
};

}  // namespace

OperatorPointer read_real_conv(OperatorReader& reader) {
  if (reader.kind != "conv") return nullptr;
  return std::make_unique<RealConv>(reader);
}

}  // namespace binseg
