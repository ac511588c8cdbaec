// Operators that make each row of their result from rows of their inputs: pack_sign, quantize,
// normalize, affine, add, mul, act, slice, crop, pad, concat, resize, poolings, group_norm,
// channel_mean; and spatial_mean and flatten.
#include <algorithm>
#include <cstring>

#include "finish_part.h"
#include "interpolation.h"

namespace binseg {
namespace {

[[noreturn]] void fail_together() {
  fail("two values do not go together: the image's size does not fit this network");
}

// The common part: arguments of a row kernel with a finish.
template <class Args>
class RowOperator : public Operator {
 public:
  using Kernel = void (*)(const Args&, int64_t begin, int64_t end, void* scratch);

  void place(Planner& plan, const Scratch& scratch) override {
    scratch_ = scratch;
    rows_kernels_ = &plan.kernels.rows;
    args_.finish = finish_.place(plan, scratch.of_all);
    place_args(plan);
  }

  void run(Pool& pool) override {
    pool.run(height_, [this](int64_t begin, int64_t end, int thread) {
      kernel_(args_, begin, end, scratch_.of(thread));
    });
    finish_.run_rest(pool, *rows_kernels_, scratch_);
  }

 protected:
  Args args_{};
  FinishPart finish_;
  Kernel kernel_ = nullptr;
  int64_t height_ = 0;
  Scratch scratch_;
  const RowKernels* rows_kernels_ = nullptr;

  // `more`: floats of scratch memory for one thread before the piece of a row.
  void size_result(Planner& plan, int64_t height, int64_t width, int64_t more = 0) {
    height_ = height;
    args_.width = width;
    finish_.size(plan, height, width);
    const int64_t chunk = row_chunk_floats(finish_.bases() * finish_.channels());
    plan.ask_scratch(finish_.scratch_bytes(), times(plus(more, chunk), 4));
  }
  virtual void place_args(Planner& plan) = 0;
};

class Point : public RowOperator<PointArgs> {
 public:
  explicit Point(OperatorReader& reader) {
    const std::string& kind = reader.kind;
    const bool image = kind == "normalize";
    const ValueType& type = image ? reader.of_kind(0, {ValueKind::kImage}) : reader.real(0);
    int64_t channels = type.channels;
    int residual = -1;
    const auto affine = [&](const char* scale, const char* shift) {
      scale_ = filled_rows(reader.channels(scale, channels), 1);
      shift_ = filled_rows(reader.channels(shift, channels), 1);
    };
    if (kind == "pack_sign") {
      reader.expect_inputs(1, 2);
      if (reader.inputs.size() == 2) second(reader, PointArgs::kAdd, channels);
      if (reader.has_tensor("gain") || reader.has_tensor("shift")) affine("gain", "shift");
      finish_.read_bits(reader, channels);
      return;
    }
    if (kind == "quantize") {
      reader.expect_inputs(1, 1);
      finish_.read_bytes(reader, channels);
      return;
    }
    if (image) {
      reader.expect_inputs(1, 1);
      args_.what = PointArgs::kImage;
      scale_ = filled_rows(reader.floats("scale", {3}), 1);
      shift_ = filled_rows(reader.floats("shift", {3}), 1);
      finish_.read_fixed(reader, 1, 3, "real", false);
      return;
    }
    if (kind == "affine") {
      reader.expect_inputs(1, 2);
      affine("scale", "bias");
      residual = 1;
    } else if (kind == "add" || kind == "mul") {
      reader.expect_inputs(2, 2);
      const bool one = kind == "mul" && channels != 1 && reader.real(1).channels == 1;
      second(reader,
             kind == "add" ? PointArgs::kAdd
             : one         ? PointArgs::kMulPixel
                           : PointArgs::kMul,
             one ? 1 : channels);
    } else if (kind == "slice") {
      reader.expect_inputs(1, 1);
      from_ = reader.integer("from", 0, channels - 1);
      channels = reader.integer("to", from_ + 1, channels) - from_;
    } else {  // act
      reader.expect_inputs(1, 1);
      reader.attribute("act");
    }
    finish_.read(reader, 0, channels, residual);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    size_result(plan, in.height, in.width);
    // a slice is a part of its input, if nothing else is done to it
    if (kind == "slice" && finish_.only_real()) part_ = {finish_.real(), inputs[0], from_};
    if (second_ < 0) return;
    const Value& other = plan.value(second_);
    spread_ = other.height == 1 && other.width == 1;
    const bool same = other.height == in.height && other.width == in.width;
    if (!spread_ && (kind == "pack_sign" || !same)) fail_together();
  }

  std::vector<Part> parts(Planner&) const override {
    if (part_.whole < 0) return {};
    return {part_};
  }

  void run(Pool& pool) override {
    if (!is_part_) RowOperator::run(pool);
  }

 protected:
  void place_args(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    if (args_.what == PointArgs::kImage) {
      args_.image = in.data;
      args_.image_row = in.row;
    } else {
      args_.x = in.real(0);
      args_.x.data = in.data + from_ * in.element_bytes();
    }
    if (second_ >= 0) {
      const Value& other = plan.value(second_);
      args_.other = spread_ ? other.spread() : other.real(0);
    }
    args_.scale = scale_.empty() ? nullptr : scale_.data();
    args_.shift = shift_.data();
    kernel_ = rows_kernels_->point;
    is_part_ = part_.whole >= 0 && plan.lies_inside(part_);
  }

 private:
  Part part_{0, -1, 0};
  bool is_part_ = false;
  int second_ = -1;
  bool spread_ = false;
  int64_t from_ = 0;
  std::vector<float> scale_, shift_;

  void second(OperatorReader& reader, PointArgs::What what, int64_t channels) {
    args_.what = what;
    if (reader.real(1).channels != channels)
      reader.bad("reads two values of different numbers of channels");
    second_ = reader.inputs[1];
  }
};

class Concat : public RowOperator<ConcatArgs> {
 public:
  explicit Concat(OperatorReader& reader) {
    reader.expect_inputs(1, kMostChannels);
    int64_t all = 0;
    for (size_t i = 0; i < reader.inputs.size(); ++i) {
      channels_.push_back(reader.real(i).channels);
      all += channels_.back();
    }
    if (all > kMostChannels) reader.bad("has more than 65,536 channels");
    finish_.read(reader, 0, all, -1);
  }

  void size(Planner& plan) override {
    int64_t height = 1, width = 1;
    for (int id : inputs) {
      const Value& in = plan.value(id);
      if (in.height == 1 && in.width == 1) continue;
      if ((height != 1 || width != 1) && (in.height != height || in.width != width))
        fail_together();
      height = in.height;
      width = in.width;
    }
    size_result(plan, height, width);
  }

  // Inputs of the result's size lie in it from the beginning, if it holds them unchanged.
  std::vector<Part> parts(Planner& plan) const override {
    if (!finish_.keeps_y()) return {};
    std::vector<Part> found;
    int64_t channel = 0;
    for (size_t i = 0; i < inputs.size(); channel += channels_[i++]) {
      const Value& in = plan.value(inputs[i]);
      if (in.height == height_ && in.width == args_.width)
        found.push_back({inputs[i], finish_.real(), channel});
    }
    return found;
  }

  void run(Pool& pool) override {
    if (finish_.only_real()) {
      for (const PointArgs& copy : copies_)
        pool.run(height_, [&](int64_t begin, int64_t end, int thread) {
          rows_kernels_->point(copy, begin, end, scratch_.of(thread));
        });
    } else {
      RowOperator::run(pool);
    }
  }

 protected:
  void place_args(Planner& plan) override {
    maps_.clear();
    copies_.clear();
    int64_t channel = 0;
    for (size_t i = 0; i < inputs.size(); channel += channels_[i++]) {
      const Value& in = plan.value(inputs[i]);
      maps_.push_back(in.height == 1 && in.width == 1 ? in.spread() : in.real(0));
      if (!finish_.only_real() || plan.lies_inside({inputs[i], finish_.real(), channel})) continue;
      PointArgs copy{};
      copy.x = maps_.back();
      copy.width = args_.width;
      copy.finish.bases = 1;
      copy.finish.channels = channels_[i];
      const Value& whole = plan.value(finish_.real());
      copy.finish.real = whole.real(0);
      copy.finish.real.data = whole.data + channel * whole.element_bytes();
      copies_.push_back(copy);
    }
    args_.parts = maps_.data();
    args_.channels = channels_.data();
    args_.count = static_cast<int64_t>(maps_.size());
    kernel_ = rows_kernels_->concat;
  }

 private:
  std::vector<int64_t> channels_;
  std::vector<RealMap> maps_;
  std::vector<PointArgs> copies_;  // of inputs that do not lie in the result
};

class WindowOperator : public RowOperator<WindowArgs> {
 public:
  explicit WindowOperator(OperatorReader& reader) : window_(reader) {
    reader.expect_inputs(1, 1);
    args_.largest = reader.kind == "max_pool";
    ceil_ = reader.flag("ceil");
    args_.channels = reader.real(0).channels;
    window_.describe_to(args_);
    if (!args_.largest && reader.choice("count", {"valid", "kernel"}) == 1) {
      args_.count_top = window_.pads[0];
      args_.count_left = window_.pads[1];
      args_.count_bottom = window_.pads[2];
      args_.count_right = window_.pads[3];
    }
    finish_.read(reader, 0, args_.channels, -1);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    args_.height = in.height;
    args_.in_width = in.width;
    size_result(plan, window_.count(in.height, 0, ceil_), window_.count(in.width, 1, ceil_));
  }

 protected:
  void place_args(Planner& plan) override {
    args_.x = plan.value(inputs[0]).real(0);
    kernel_ = rows_kernels_->window;
  }

 private:
  WindowShape window_;
  bool ceil_ = false;
};

class Resize : public RowOperator<ResizeArgs> {
 public:
  explicit Resize(OperatorReader& reader) {
    const bool by_scale = reader.has("scale");
    reader.expect_inputs(by_scale ? 1 : 2, by_scale ? 2 : 3);
    if (by_scale) scale_ = reader.integers("scale", 2, 2, 1, 64);
    nearest_ = reader.choice("mode", {"bilinear", "nearest"}) == 1;
    if (!nearest_) align_corners_ = reader.flag("align_corners");
    args_.channels = reader.real(0).channels;
    finish_.read(reader, 0, args_.channels, by_scale ? 1 : 2);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    int64_t height, width;
    if (scale_.empty()) {
      height = plan.value(inputs[1]).height;
      width = plan.value(inputs[1]).width;
    } else {
      height = times(in.height, scale_[0]);
      width = times(in.width, scale_[1]);
    }
    args_.height = in.height;
    args_.in_width = in.width;
    size_result(plan, height, width, nearest_ ? 0 : times(in.width, args_.channels));
    rows_ = nearest_ ? nearest(in.height, height) : bilinear(in.height, height, align_corners_);
    columns_ = nearest_ ? nearest(in.width, width) : bilinear(in.width, width, align_corners_);
  }

 protected:
  void place_args(Planner& plan) override {
    args_.x = plan.value(inputs[0]).real(0);
    args_.top = rows_.index.data();
    args_.left = columns_.index.data();
    args_.weight_y = nearest_ ? nullptr : rows_.weight.data();
    args_.weight_x = nearest_ ? nullptr : columns_.weight.data();
    kernel_ = rows_kernels_->resize;
  }

 private:
  std::vector<int64_t> scale_;
  bool nearest_ = false, align_corners_ = false;
  Interpolation rows_, columns_;
};

class ChannelMean : public RowOperator<ChannelMeanArgs> {
 public:
  explicit ChannelMean(OperatorReader& reader) {
    reader.expect_inputs(1, 1);
    const int64_t channels = reader.real(0).channels;
    args_.size = reader.integer("size", 1, kMostChannels);
    args_.inner = reader.integer_or("inner", 1, 1, kMostChannels);
    args_.absolute = reader.flag("absolute");
    if (channels % (args_.size * args_.inner))
      reader.bad("cannot divide its channels into such parts");
    args_.outer = channels / (args_.size * args_.inner);
    finish_.read(reader, 0, channels / args_.size, -1);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    size_result(plan, in.height, in.width);
  }

 protected:
  void place_args(Planner& plan) override {
    args_.x = plan.value(inputs[0]).real(0);
    kernel_ = rows_kernels_->channel_mean;
  }
};

class AdaptivePool : public RowOperator<AdaptivePoolArgs> {
 public:
  explicit AdaptivePool(OperatorReader& reader) {
    reader.expect_inputs(1, 1);
    const auto size = reader.integers("size", 2, 2, 1, 64);
    args_.channels = reader.real(0).channels;
    args_.out_height = size[0];
    args_.width = size[1];
    finish_.read(reader, 0, args_.channels, -1);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    args_.height = in.height;
    args_.in_width = in.width;
    size_result(plan, args_.out_height, args_.width);
  }

 protected:
  void place_args(Planner& plan) override {
    args_.x = plan.value(inputs[0]).real(0);
    kernel_ = rows_kernels_->adaptive_pool;
  }
};

class GroupNorm : public RowOperator<GroupNormArgs> {
 public:
  explicit GroupNorm(OperatorReader& reader) {
    reader.expect_inputs(1, 1);
    args_.channels = reader.real(0).channels;
    args_.groups = reader.integer_or("groups", 1, 1, kMostChannels);
    if (args_.channels % args_.groups) reader.bad("cannot make so many groups of its channels");
    args_.each_pixel = reader.choice("over", {"map", "pixel"}) == 1;
    const Json& epsilon = reader.attribute("epsilon");
    if (epsilon.kind != Json::kNumber || !(epsilon.number > 0) || !(epsilon.number < 1))
      reader.bad("has an 'epsilon' that is not a number between 0 and 1");
    args_.epsilon = epsilon.number;
    scale_ = filled_rows(reader.channels("scale", args_.channels), 1);
    shift_ = filled_rows(reader.channels("bias", args_.channels), 1);
    mean_.resize(static_cast<size_t>(args_.groups));
    inverse_.resize(static_cast<size_t>(args_.groups));
    finish_.read(reader, 0, args_.channels, -1);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    args_.height = in.height;
    size_result(plan, in.height, in.width);
  }

  void run(Pool& pool) override {
    if (!args_.each_pixel)
      pool.run(args_.groups, [this](int64_t begin, int64_t end, int) {
        rows_kernels_->group_moments(args_, begin, end, nullptr);
      });
    RowOperator::run(pool);
  }

 protected:
  void place_args(Planner& plan) override {
    args_.x = plan.value(inputs[0]).real(0);
    args_.mean = mean_.data();
    args_.inverse = inverse_.data();
    args_.scale = scale_.data();
    args_.shift = shift_.data();
    kernel_ = rows_kernels_->group_norm;
  }

 private:
  std::vector<double> mean_, inverse_;
  std::vector<float> scale_, shift_;
};

class SpatialMean : public RowOperator<PointArgs> {
 public:
  explicit SpatialMean(OperatorReader& reader) {
    reader.expect_inputs(1, 1);
    mean_args_.channels = reader.real(0).channels;
    mean_.resize(static_cast<size_t>(mean_args_.channels));
    finish_.read(reader, 0, mean_args_.channels, -1);
  }

  void size(Planner& plan) override { size_result(plan, 1, 1); }

  void run(Pool& pool) override {
    pool.run(divide_up(mean_args_.channels, kFilled), [this](int64_t begin, int64_t end, int) {
      rows_kernels_->spatial_mean(mean_args_, begin, end, nullptr);
    });
    RowOperator::run(pool);
  }

 protected:
  void place_args(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    mean_args_.x = in.real(0);
    mean_args_.height = in.height;
    mean_args_.width = in.width;
    mean_args_.mean = mean_.data();
    args_.x = {mean_.data(), 0, 0, 0, false};
    kernel_ = rows_kernels_->point;
  }

 private:
  SpatialMeanArgs mean_args_{};
  std::vector<float> mean_;
};

// Pixels copied as they are: pad, crop, flatten.
class Copy : public Operator {
 public:
  explicit Copy(OperatorReader& reader) : what_(reader.kind) {
    const bool pad = what_ == "pad";
    ValueType type =
        pad ? reader.of_kind(0, {ValueKind::kReal, ValueKind::kImage}) : reader.real(0);
    reader.expect_inputs(what_ == "crop" ? 2 : 1, what_ == "crop" ? 2 : 1);
    if (pad) {
      multiple_ = reader.integer("multiple", 1, kLargestSide);
    } else if (what_ == "flatten") {
      flat_height_ = reader.integer("height", 1, kLargestSide);
      flat_width_ = reader.integer("width", 1, kLargestSide);
      type.channels = times(type.channels, flat_height_, flat_width_);
    }
    reader.output(type.kind == ValueKind::kImage ? "image" : "real", type);
  }

  void size(Planner& plan) override {
    const Value& in = plan.value(inputs[0]);
    int64_t height = 1, width = 1;
    if (what_ == "pad") {
      height = up_to_multiple(in.height, multiple_);
      width = up_to_multiple(in.width, multiple_);
    } else if (what_ == "crop") {
      height = plan.value(inputs[1]).height;
      width = plan.value(inputs[1]).width;
      if (height > in.height || width > in.width) fail_together();
    } else if (in.height != flat_height_ || in.width != flat_width_) {
      fail("the image's size does not fit this network, which takes one size alone");
    }
    plan.set_size(outputs[0], height, width);
  }

  // What is cropped lies in its input; only rows and columns are fewer.
  std::vector<Part> parts(Planner&) const override {
    if (what_ != "crop") return {};
    return {{outputs[0], inputs[0], 0}};
  }

  void place(Planner& plan, const Scratch&) override {
    from_ = plan.value(inputs[0]);
    to_ = plan.value(outputs[0]);
    is_part_ = what_ == "crop" && plan.lies_inside({outputs[0], inputs[0], 0});
  }

  void run(Pool& pool) override {
    if (is_part_) return;
    if (what_ == "flatten") {
      const size_t bytes = static_cast<size_t>(from_.type.channels * from_.element_bytes());
      uint8_t* to = to_.data;
      for (int64_t y = 0; y < from_.height; ++y)
        for (int64_t x = 0; x < from_.width; ++x, to += bytes)
          std::memcpy(to, from_.data + y * from_.row + x * from_.pixel, bytes);
      return;
    }
    const size_t bytes = from_.type.kind == ValueKind::kImage
                             ? 3
                             : static_cast<size_t>(from_.type.channels * from_.element_bytes());
    pool.run(to_.height, [&](int64_t begin, int64_t end, int) {
      for (int64_t y = begin; y < end; ++y) {
        const uint8_t* row = from_.data + std::min(y, from_.height - 1) * from_.row;
        for (int64_t x = 0; x < to_.width; ++x)
          std::memcpy(to_.data + y * to_.row + x * to_.pixel,
                      row + std::min(x, from_.width - 1) * from_.pixel, bytes);
      }
    });
  }

 private:
  const std::string what_;
  int64_t multiple_ = 1, flat_height_ = 0, flat_width_ = 0;
  bool is_part_ = false;
  Value from_, to_;
};

}  // namespace

OperatorPointer read_row_operator(OperatorReader& reader) {
  const std::string& kind = reader.kind;
  const auto is = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), kind) != names.end();
  };
  if (is({"pack_sign", "quantize", "normalize", "affine", "add", "mul", "act", "slice"}))
    return std::make_unique<Point>(reader);
  if (is({"max_pool", "avg_pool"})) return std::make_unique<WindowOperator>(reader);
  if (kind == "concat") return std::make_unique<Concat>(reader);
  if (kind == "resize") return std::make_unique<Resize>(reader);
  if (kind == "channel_mean") return std::make_unique<ChannelMean>(reader);
  if (kind == "adaptive_avg_pool") return std::make_unique<AdaptivePool>(reader);
  if (kind == "group_norm") return std::make_unique<GroupNorm>(reader);
  if (kind == "spatial_mean") return std::make_unique<SpatialMean>(reader);
  if (is({"pad", "crop", "flatten"})) return std::make_unique<Copy>(reader);
  return nullptr;
}

}  // namespace binseg
