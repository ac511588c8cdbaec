#include "network.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "memory.h"
#include "operator_reader.h"

namespace binseg {
namespace {

constexpr size_t kMostOperators = 4096;
constexpr size_t kMostValues = 65536;
constexpr int64_t kMostClasses = 255;
constexpr int64_t kVersion = 1;
constexpr int64_t kSlack = 64;  // bytes that kernels may read beyond the end of a value

bool is(const Json* json, double number) {
  return json && json->kind == Json::kNumber && json->number == number;
}

}  // namespace

void Network::Free::operator()(uint8_t* memory) const {
  ::operator delete(memory, std::align_val_t(64));
}

Network::Network(const uint8_t* file, size_t bytes, const Kernels& kernels)
    : Network(read_model_file(file, bytes), kernels) {}

Network::Network(const ModelFile& file, const Kernels& kernels)
    : preprocessing(file.preprocessing), kernels_(kernels) {
  const Json& program = file.program;
  if (!is(program.get("version"), kVersion))
    fail("the program is of a version that this binseg does not run; upgrade it");
  const Json *operators = program.get("operators"), *output = program.get("output");
  if (!operators || operators->kind != Json::kArray || !output || program.keys.size() != 3)
    fail("the program is not made of a version, operators and an output");
  if (operators->items.size() > kMostOperators) fail("the program has more than 4,096 operators");

  ProgramParts parts{file.tensors,
                     std::vector<Value>(kMostValues),
                     std::vector<bool>(kMostValues),
                     std::vector<bool>(kMostValues),
                     {}};
  parts.values[0].type = {ValueKind::kImage, 3};
  parts.made[0] = true;
  for (const Json& json : operators->items) {
    OperatorReader reader(json, operators_.size(), parts);
    operators_.push_back(read_operator(reader));
  }
  if (output->kind != Json::kNumber || !(output->number >= 0) ||
      output->number >= static_cast<double>(kMostValues) ||
      !parts.made[static_cast<size_t>(output->number)] ||
      output->number != static_cast<double>(static_cast<int64_t>(output->number)))
    fail("no operator makes the program's output");
  output_ = static_cast<size_t>(output->number);
  const ValueType& type = parts.values[output_].type;
  if (type.kind != ValueKind::kReal) fail("the program's output is not real");
  if (type.channels > kMostClasses) fail("the program has more than 255 classes");
  size_t last = 0;
  for (size_t i = 0; i < kMostValues; ++i) {
    if (!parts.made[i]) continue;
    if (!parts.read[i] && i != output_) fail("value " + std::to_string(i) + " is never read");
    last = i;
  }
  for (const auto& [name, tensor] : file.tensors)
    if (!parts.tensors_read.count(name)) fail("tensor '" + name + "' is never used");
  for (size_t i = 0; i <= last; ++i) types_.push_back(parts.values[i].type);
}

void Network::prepare(int64_t height, int64_t width) {
  if (height == height_ && width == width_ && pool_.threads() == threads_) return;
  height_ = width_ = 0;  // nothing, should this fail
  lay_out(height, width);
  height_ = height;
  width_ = width;
  threads_ = pool_.threads();
}

void Network::lay_out(int64_t height, int64_t width) {
  values_.assign(types_.size(), Value());
  for (size_t i = 0; i < types_.size(); ++i) values_[i].type = types_[i];
  Planner plan(values_, kernels_);
  plan.set_size(0, height, width);
  const auto steps = static_cast<int64_t>(operators_.size());
  const int64_t threads = pool_.threads();
  std::vector<Lifetime> lives(values_.size() + operators_.size(), {0, 0, -1});
  std::vector<int64_t> of_all(operators_.size()), of_thread(operators_.size());
  for (size_t i = 0; i < operators_.size(); ++i) {
    const auto step = static_cast<int64_t>(i);
    Operator& op = *operators_[i];
    plan.scratch_of_all = plan.scratch_of_thread = 0;
    op.size(plan);
    of_all[i] = up_to_multiple(plan.scratch_of_all, 64);
    of_thread[i] = up_to_multiple(plan.scratch_of_thread, 64);
    lives[values_.size() + i] = {plus(of_all[i], times(of_thread[i], threads)), step, step};
    for (int id : op.outputs) lives[static_cast<size_t>(id)].first = step;
    for (int id : op.inputs) lives[static_cast<size_t>(id)].last = step;
  }
  lives[0].first = -1;
  lives[output_].last = steps;
  for (size_t i = 0; i < values_.size(); ++i)
    if (values_[i].height > 0) lives[i].bytes = plus(values_[i].lay_out(), kSlack);

  int64_t total = 0;
  const std::vector<int64_t> offsets = place_in_memory(lives, total);
  if (total > memory_bytes_) {
    check_memory(total);
    memory_.reset();
    memory_bytes_ = 0;
    memory_.reset(static_cast<uint8_t*>(
        ::operator new(static_cast<size_t>(total), std::align_val_t(64))));
    memory_bytes_ = total;
  }
  for (size_t i = 0; i < values_.size(); ++i)
    if (values_[i].height > 0)
      values_[i].data =
          memory_.get() + offsets[i] + values_[i].border.left * values_[i].pixel;
  for (size_t i = 0; i < operators_.size(); ++i) {
    uint8_t* at = memory_.get() + offsets[values_.size() + i];
    operators_[i]->place(plan, {at, at + of_all[i], of_thread[i]});
  }
  seconds.assign(operators_.size(), 0);
}

void Network::fill_border(const Value& value) {
  const Border& border = value.border;
  if (border.pixel.empty()) return;
  const auto fill = [&](uint8_t* to, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i)
      std::memcpy(to + i * value.pixel, border.pixel.data(), border.pixel.size());
  };
  for (int64_t y = 0; y < value.height; ++y) {
    uint8_t* row = value.data + y * value.row;
    fill(row - border.left * value.pixel, border.left);
    fill(row + value.width * value.pixel, border.right);
  }
}

void Network::run() {
  using Clock = std::chrono::steady_clock;
  fill_border(values_[0]);
  for (size_t i = 0; i < operators_.size(); ++i) {
    const auto begun = timing ? Clock::now() : Clock::time_point();
    for (int id : operators_[i]->outputs) fill_border(values_[static_cast<size_t>(id)]);
    operators_[i]->run(pool_);
    if (timing) seconds[i] = std::chrono::duration<double>(Clock::now() - begun).count();
  }
  const Value& scores = values_[output_];
  const int64_t count = scores.height * scores.width * scores.type.channels;
  bool nan = false;
  if (scores.type.bfloat16) {
    const auto* all = reinterpret_cast<const uint16_t*>(scores.data);
    for (int64_t i = 0; i < count; ++i) nan |= (all[i] & 0x7FFF) > 0x7F80;
  } else {
    const auto* all = reinterpret_cast<const float*>(scores.data);
    for (int64_t i = 0; i < count; ++i) nan |= all[i] != all[i];
  }
  if (nan) fail("the network's scores hold nan: its weights are damaged");
}

}  // namespace binseg
