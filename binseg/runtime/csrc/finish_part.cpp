#include "finish_part.h"

#include <cmath>

namespace binseg {
namespace {

constexpr int64_t kMostBits = 8;  // bases

}  // namespace

ValueType bytes_type(OperatorReader& reader, int64_t channels) {
  ValueType type{ValueKind::kBytes, channels};
  const Json& scale = reader.attribute("bytes");
  const auto good = [](const Json& number, double least, double most) {
    return number.kind == Json::kNumber && number.number >= least && number.number <= most;
  };
  if (scale.kind != Json::kArray || scale.items.size() != 2 ||
      !good(scale.items[0], 0x1p-126, 0x1.fffffep+126) || !good(scale.items[1], 0, 255) ||
      scale.items[1].number != std::floor(scale.items[1].number))
    reader.bad("has 'bytes' that are not an inverse scale above 0 and a zero point of 0 to 255");
  type.inverse_scale = static_cast<float>(scale.items[0].number);
  type.zero_point = static_cast<int32_t>(scale.items[1].number);
  return type;
}

bool stored_as_bfloat16(OperatorReader& reader) {
  return reader.choice("dtype", {"f32", "bf16"}, "f32") == 1;
}

void FinishPart::read(OperatorReader& reader, int64_t bases, int64_t channels, int residual) {
  const int64_t all = times(channels, bases ? bases : 1);
  bit_bases_ = bases ? bases : 1;
  if (reader.makes("bits")) bit_bases_ = reader.integer_or("bit_bases", bit_bases_, 1, kMostBits);
  bases_ = bases ? bases : bit_bases_;
  if (all % bases_ || all % bit_bases_)
    reader.bad("cannot make so many bases of " + std::to_string(all) + " channels");
  channels_ = all / bases_;
  if (residual >= 0 && static_cast<size_t>(residual) < reader.inputs.size())
    read_residual(reader, residual);
  if (reader.has("act")) read_act(reader);
  read_outputs(reader, "real", true);
}

void FinishPart::read_fixed(OperatorReader& reader, int64_t bases, int64_t channels,
                            const char* real, bool with_bytes) {
  bases_ = bit_bases_ = bases;
  channels_ = channels;
  if (with_bytes && reader.has("act")) read_act(reader);
  read_outputs(reader, real, with_bytes);
}

void FinishPart::read_branch(OperatorReader& reader, int64_t bases, int64_t channels) {
  bases_ = bit_bases_ = bases;
  channels_ = channels;
  if (reader.has("branch_act")) read_act(reader, "branch_");
}

void FinishPart::read_bits(OperatorReader& reader, int64_t channels) {
  bases_ = bit_bases_ = reader.integer_or("bit_bases", 1, 1, kMostBits);
  if (channels % bases_)
    reader.bad("cannot make so many bases of " + std::to_string(channels) + " channels");
  channels_ = channels / bases_;
  bits_ = reader.output("bits", {ValueKind::kBits, channels, bit_bases_});
}

void FinishPart::read_bytes(OperatorReader& reader, int64_t channels) {
  channels_ = channels;
  bytes_ = reader.output("bytes", bytes_type(reader, channels));
}

void FinishPart::read_residual(OperatorReader& reader, int index) {
  const int64_t found = reader.real(static_cast<size_t>(index)).channels;
  residual_serves_all_ = found != bases_ * channels_;
  if (residual_serves_all_ && found != channels_)
    reader.bad("has a residual of " + std::to_string(found) + " channels");
  residual_ = reader.inputs[static_cast<size_t>(index)];
}

void FinishPart::read_act(OperatorReader& reader, const std::string& prefix) {
  act_ =
      static_cast<Act>(1 + reader.choice((prefix + "act").c_str(),
                                         {"relu", "relu6", "prelu", "rprelu", "tanh", "sigmoid",
                                          "silu", "hardtanh", "hardsigmoid", "hardswish", "abs"}));
  const auto tensor = [&](const std::string& role) {
    return filled_rows(reader.channels((prefix + role).c_str(), bases_ * channels_), bases_);
  };
  if (act_ == Act::kPrelu) {
    act_tensors_[0] = tensor("slope");
  } else if (act_ == Act::kRprelu) {
    act_tensors_[0] = tensor("before");
    act_tensors_[1] = tensor("slope");
    act_tensors_[2] = tensor("after");
  }
}

void FinishPart::read_outputs(OperatorReader& reader, const char* real, bool with_bytes) {
  const int64_t all = bases_ * channels_;
  if (reader.makes(real))
    real_ = reader.output(real, {ValueKind::kReal, all, 1, stored_as_bfloat16(reader)});
  if (reader.makes("bits")) {
    if (reader.has_tensor("threshold"))
      threshold_ = filled_rows(reader.channels("threshold", all), bits_fit() ? bases_ : bit_bases_);
    bits_ = reader.output("bits", {ValueKind::kBits, all, bit_bases_});
  }
  if (with_bytes && reader.makes("bytes")) bytes_ = reader.output("bytes", bytes_type(reader, all));
}

// Whether the kernel's bases lie in memory as those of the bits do.
bool FinishPart::bits_fit() const {
  return bit_bases_ == bases_ || (channels_ % 32 == 0 && bases_ * channels_ / bit_bases_ % 32 == 0);
}

void FinishPart::size(Planner& plan, int64_t height, int64_t width) {
  height_ = height;
  width_ = width;
  for (int id : {real_, bits_, bytes_})
    if (id >= 0) plan.set_size(id, height, width);
  if (residual_ >= 0) {
    const Value& r = plan.value(residual_);
    if (r.height != height || r.width != width)
      fail("two values do not go together: the image's size does not fit this network");
  }
  apart_ = (bits_ >= 0 && !bits_fit()) || (bytes_ >= 0 && bases_ > 1 && channels_ % 4 != 0);
  scratch_bytes_ = apart_ ? times(height, width, bases_ * channels_, 4) : 0;
}

Finish FinishPart::place(Planner& plan, uint8_t* scratch) {
  const int64_t all = bases_ * channels_;
  Finish finish{};
  finish.bases = bases_;
  finish.channels = channels_;
  finish.base_stride = up_to_multiple(channels_, kFilled);
  if (residual_ >= 0)
    finish.residual = plan.value(residual_).real(residual_serves_all_ ? 0 : channels_);
  finish.act = act_;
  for (int i = 0; i < 3; ++i)
    finish.act_tensors[i] = act_tensors_[i].empty() ? nullptr : act_tensors_[i].data();
  Finish* with_bits = &finish;
  Finish* with_bytes = &finish;
  if (apart_) {
    finish.real = {scratch, width_ * all, all, channels_, false};
    const RealMap y = finish.real;
    rest_ = rest_of_bytes_ = {};
    for (PointArgs* rest : {&rest_, &rest_of_bytes_}) {
      rest->x = y;
      rest->width = width_;
      rest->finish.bases = 1;
      rest->finish.channels = all;
    }
    with_bits = &rest_.finish;
    with_bytes = &rest_of_bytes_.finish;
    with_bits->bases = bit_bases_;
    with_bits->channels = all / bit_bases_;
    with_bits->base_stride = up_to_multiple(all / bit_bases_, kFilled);
  }
  if (real_ >= 0) with_bits->real = plan.value(real_).real(with_bits->channels);
  if (bits_ >= 0) {
    with_bits->bits = plan.value(bits_).bits();
    with_bits->bits.words = divide_up(with_bits->channels, 32);
    with_bits->threshold = threshold_.empty() ? nullptr : threshold_.data();
  }
  if (bytes_ >= 0) {
    with_bytes->bytes = plan.value(bytes_).bytes();
    if (with_bytes->bases > 1) with_bytes->bytes.base_step = with_bytes->channels;
  }
  return finish;
}

void FinishPart::run_rest(Pool& pool, const RowKernels& rows, const Scratch& scratch) const {
  if (!apart_) return;
  pool.run(height_, [&](int64_t begin, int64_t end, int thread) {
    if (real_ >= 0 || bits_ >= 0) rows.point(rest_, begin, end, scratch.of(thread));
    if (bytes_ >= 0) rows.point(rest_of_bytes_, begin, end, scratch.of(thread));
  });
}

}  // namespace binseg
