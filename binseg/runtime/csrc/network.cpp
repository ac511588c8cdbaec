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

// Decides which values lie inside others. Each lies in one at most, and none in itself: an operator
// that joins values gives them a whole that is made later, one that takes a value apart a whole
// that was there before, which is never the result of the first kind.
void Network::find_parts(Planner& plan) const {
  plan.parts.assign(values_.size(), {0, -1, 0});
  for (const OperatorPointer& op : operators_) {
    for (const Part& part : op->parts(plan)) {
      Part& found = plan.parts[static_cast<size_t>(part.value)];
      const Value &value = plan.value(part.value), &whole = plan.value(part.whole);
      if (found.whole < 0 && value.type.bfloat16 == whole.type.bfloat16) found = part;
    }
  }
}

// Outputs that take the place of an input nobody reads any more: a map that is updated stays in the
// caches, where a new one would drive it out.
void Network::find_replacements(Planner& plan, const std::vector<Lifetime>& lives) const {
  std::vector<bool> shared(values_.size());
  for (const Part& part : plan.parts)
    if (part.whole >= 0)
      shared[static_cast<size_t>(part.value)] = shared[static_cast<size_t>(part.whole)] = true;
  for (size_t i = 0; i < operators_.size(); ++i) {
    const Operator::Replaced ids = operators_[i]->replaces();
    if (ids.output < 0 || ids.input < 0) continue;
    const auto output = static_cast<size_t>(ids.output), input = static_cast<size_t>(ids.input);
    const Value &to = values_[output], &from = values_[input];
    if (shared[output] || shared[input] || lives[input].last != static_cast<int64_t>(i) ||
        to.type.kind != ValueKind::kReal || from.type.kind != ValueKind::kReal ||
        to.type.bfloat16 != from.type.bfloat16 || to.type.channels != from.type.channels ||
        to.height != from.height || to.width != from.width)
      continue;
    plan.parts[output] = {ids.output, ids.input, 0};
  }
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
  find_parts(plan);
  find_replacements(plan, lives);
  const auto whole_of = [&](size_t i) {
    while (plan.parts[i].whole >= 0) i = static_cast<size_t>(plan.parts[i].whole);
    return i;
  };
  for (size_t i = 0; i < values_.size(); ++i) {
    if (values_[i].height == 0) continue;
    const size_t whole = whole_of(i);
    if (whole == i) {
      lives[i].bytes = plus(values_[i].lay_out(), kSlack);
    } else {
      lives[whole].first = std::min(lives[whole].first, lives[i].first);
      lives[whole].last = std::max(lives[whole].last, lives[i].last);
    }
  }

  int64_t total = 0;
  const std::vector<int64_t> offsets = place_in_memory(lives, total);
  if (total > memory_bytes_) {
    check_memory(total);
    memory_.reset();
    memory_bytes_ = 0;
    memory_.reset(
        static_cast<uint8_t*>(::operator new(static_cast<size_t>(total), std::align_val_t(64))));
    memory_bytes_ = total;
  }
  for (size_t i = 0; i < values_.size(); ++i) {
    Value& value = values_[i];
    if (value.height == 0) continue;
    const size_t whole = whole_of(i);
    if (whole == i) value.data = memory_.get() + offsets[i] + value.border.left * value.pixel;
  }
  for (size_t i = 0; i < values_.size(); ++i) {
    Value& value = values_[i];
    if (value.height == 0 || plan.parts[i].whole < 0) continue;
    const Value& whole = values_[whole_of(i)];
    value.row = whole.row;
    value.pixel = whole.pixel;
    value.data = whole.data;
    for (size_t at = i; plan.parts[at].whole >= 0; at = static_cast<size_t>(plan.parts[at].whole))
      value.data += plan.parts[at].channel * value.element_bytes();
  }
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
#ifdef __wasm__
  constexpr bool timed = false;  // a page asks for no times, and its module stays small
#else
  const bool timed = timing;
#endif
  fill_border(values_[0]);
  for (size_t i = 0; i < operators_.size(); ++i) {
    const auto begun = timed ? Clock::now() : Clock::time_point();
    for (int id : operators_[i]->outputs) fill_border(values_[static_cast<size_t>(id)]);
    operators_[i]->run(pool_);
    if (timed) seconds[i] = std::chrono::duration<double>(Clock::now() - begun).count();
  }
}

}  // namespace binseg
