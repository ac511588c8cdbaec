#include "operator_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace binseg {
namespace {

bool is_integer(const Json& value, int64_t least, int64_t most) {
  return value.kind == Json::kNumber && value.number == std::floor(value.number) &&
         value.number >= static_cast<double>(least) && value.number <= static_cast<double>(most);
}

std::string kind_of(const Json& json, size_t index) {
  const Json* op = json.get("op");
  if (!op || op->kind != Json::kString)
    fail("operator " + std::to_string(index) + " is no JSON object with a key 'op'");
  return op->text;
}

const char* name_of(ValueKind kind) {
  switch (kind) {
    case ValueKind::kImage:
      return "image";
    case ValueKind::kReal:
      return "real";
    case ValueKind::kBits:
      return "bits";
    case ValueKind::kBytes:
      return "bytes";
  }
  return "";
}

}  // namespace

OperatorReader::OperatorReader(const Json& json, size_t index, ProgramParts& parts)
    : kind(kind_of(json, index)), json_(json), index_(index), parts_(parts) {
  const Json *in = json.get("in"), *out = json.get("out"), *tensors = json.get("tensors");
  if (!in || in->kind != Json::kArray) bad("has no list 'in'");
  if (!out || out->kind != Json::kObject || out->items.empty()) bad("has no output");
  if (tensors && tensors->kind != Json::kObject) bad("has no object 'tensors'");
  keys_read_ = {"op", "in", "out", "tensors"};
  const auto last = static_cast<int64_t>(parts.values.size()) - 1;
  for (const Json& value : in->items) {
    if (!is_integer(value, 0, last) || !parts.made[static_cast<size_t>(value.number)])
      bad("reads a value that no operator before it makes");
    inputs.push_back(static_cast<int>(value.number));
    parts.read[static_cast<size_t>(inputs.back())] = true;
  }
}

void OperatorReader::bad(const std::string& why) const {
  fail("operator " + std::to_string(index_) + " (" + kind + ") " + why);
}

void OperatorReader::bad_attribute(const char* key, const std::string& wanted) const {
  bad(std::string("has the attribute '") + key + "', which is not " + wanted);
}

const Json* OperatorReader::object(const char* key) const { return json_.get(key); }

void OperatorReader::expect_inputs(size_t least, size_t most) const {
  if (inputs.size() < least || inputs.size() > most)
    bad("reads " + std::to_string(inputs.size()) + " values");
}

const ValueType& OperatorReader::type(size_t input) const {
  if (input >= inputs.size()) bad("reads too few values");
  return parts_.values[static_cast<size_t>(inputs[input])].type;
}

const ValueType& OperatorReader::of_kind(size_t input,
                                         std::initializer_list<ValueKind> kinds) const {
  const ValueType& found = type(input);
  if (std::find(kinds.begin(), kinds.end(), found.kind) == kinds.end())
    bad("reads value " + std::to_string(inputs[input]) + " of the wrong kind, " +
        name_of(found.kind));
  return found;
}

const ValueType& OperatorReader::real(size_t input) const {
  return of_kind(input, {ValueKind::kReal});
}

bool OperatorReader::makes(const char* role) const { return object("out")->get(role) != nullptr; }

int OperatorReader::output(const char* role, const ValueType& type) {
  outputs_made_.insert(role);
  if (type.channels > kMostChannels) bad("has more than 65,536 channels");
  const Json* value = object("out")->get(role);
  if (!value) return -1;
  if (!is_integer(*value, 1, static_cast<int64_t>(parts_.values.size()) - 1))
    bad("makes a value of a number that a program of this size does not have");
  const auto id = static_cast<size_t>(value->number);
  if (parts_.made[id]) bad("makes a value that exists already");
  parts_.values[id].type = type;
  outputs.push_back(static_cast<int>(id));
  return outputs.back();
}

bool OperatorReader::has(const char* key) const { return json_.get(key) != nullptr; }

const Json& OperatorReader::attribute(const char* key) {
  keys_read_.insert(key);
  const Json* found = json_.get(key);
  if (!found) bad(std::string("lacks the attribute '") + key + "'");
  return *found;
}

int64_t OperatorReader::integer(const char* key, int64_t least, int64_t most) {
  const Json& value = attribute(key);
  if (!is_integer(value, least, most))
    bad_attribute(key, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
  return static_cast<int64_t>(value.number);
}

int64_t OperatorReader::integer_or(const char* key, int64_t otherwise, int64_t least,
                                   int64_t most) {
  return has(key) ? integer(key, least, most) : otherwise;
}

std::vector<int64_t> OperatorReader::integers(const char* key, size_t fewest, size_t most,
                                              int64_t least, int64_t largest) {
  const Json& value = attribute(key);
  if (value.kind != Json::kArray || value.items.size() < fewest || value.items.size() > most ||
      !std::all_of(value.items.begin(), value.items.end(),
                   [&](const Json& item) { return is_integer(item, least, largest); }))
    bad_attribute(key, "a list of such integers");
  std::vector<int64_t> result;
  for (const Json& item : value.items) result.push_back(static_cast<int64_t>(item.number));
  return result;
}

bool OperatorReader::flag(const char* key) {
  if (!has(key)) return false;
  const Json& value = attribute(key);
  if (value.kind != Json::kBool) bad_attribute(key, "true or false");
  return value.truth;
}

size_t OperatorReader::choice(const char* key, std::initializer_list<std::string_view> choices,
                              const char* otherwise) {
  std::string_view chosen;
  if (has(key) || !otherwise) {
    const Json& value = attribute(key);
    if (value.kind != Json::kString) bad_attribute(key, "a word");
    chosen = value.text;
  } else {
    chosen = otherwise;
  }
  const auto* found = std::find(choices.begin(), choices.end(), chosen);
  if (found == choices.end()) bad_attribute(key, "a word that is known");
  return static_cast<size_t>(found - choices.begin());
}

bool OperatorReader::has_tensor(const char* role) const {
  const Json* tensors = object("tensors");
  return tensors && tensors->get(role);
}

const Tensor& OperatorReader::tensor(const char* role, std::initializer_list<Dtype> dtypes) {
  const Json* tensors = object("tensors");
  const Json* name = tensors ? tensors->get(role) : nullptr;
  if (!name || name->kind != Json::kString) bad(std::string("lacks the tensor '") + role + "'");
  const auto found = parts_.tensors.find(name->text);
  if (found == parts_.tensors.end())
    bad(std::string("has a tensor '") + role + "' that is missing from the file");
  if (std::find(dtypes.begin(), dtypes.end(), found->second.dtype) == dtypes.end())
    bad(std::string("has a tensor '") + role + "' of the wrong dtype");
  roles_read_.insert(role);
  parts_.tensors_read.insert(name->text);
  return found->second;
}

const Tensor& OperatorReader::tensor(const char* role, std::initializer_list<Dtype> dtypes,
                                     const std::vector<int64_t>& shape) {
  const Tensor& found = tensor(role, dtypes);
  if (found.shape != shape) bad(std::string("has a tensor '") + role + "' of the wrong shape");
  return found;
}

const Tensor& OperatorReader::bits(const char* role, int64_t count) {
  const Tensor& found = tensor(role, {Dtype::kU8}, {divide_up(count, 8)});
  if (count % 8 && found.data[count / 8] >> (count % 8))
    bad(std::string("has a tensor '") + role + "' with unused bits that are not 0");
  return found;
}

std::vector<float> OperatorReader::channels(const char* role, int64_t channels) {
  const Tensor& found = tensor(role, {Dtype::kF32});
  if (found.shape.size() != 1 || found.count == 0 || channels % found.count)
    bad(std::string("has a tensor '") + role + "' of the wrong shape");
  std::vector<float> values = to_floats(found);
  values.resize(static_cast<size_t>(channels));
  for (int64_t c = found.count; c < channels; ++c)
    values[static_cast<size_t>(c)] = values[static_cast<size_t>(c % found.count)];
  return values;
}

std::vector<float> OperatorReader::floats(const char* role, const std::vector<int64_t>& shape) {
  return to_floats(tensor(role, {Dtype::kF32}, shape));
}

void OperatorReader::close() const {
  for (const std::string& key : json_.keys)
    if (!keys_read_.count(key)) bad("has the attribute '" + key + "', which it has no use for");
  if (const Json* tensors = object("tensors"))
    for (const std::string& role : tensors->keys)
      if (!roles_read_.count(role)) bad("has the tensor '" + role + "', which it has no use for");
  for (const std::string& role : object("out")->keys)
    if (!outputs_made_.count(role)) bad("has no output '" + role + "'");
  for (int id : outputs) {
    if (parts_.made[static_cast<size_t>(id)]) bad("makes a value twice");
    parts_.made[static_cast<size_t>(id)] = true;
  }
}

std::vector<float> to_floats(const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.count));
  if (tensor.dtype == Dtype::kF32) {
    if (tensor.count) std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
  } else {  // BF16
    for (size_t i = 0; i < values.size(); ++i) {
      const uint32_t bits = static_cast<uint32_t>(tensor.data[2 * i]) << 16 |
                            static_cast<uint32_t>(tensor.data[2 * i + 1]) << 24;
      std::memcpy(&values[i], &bits, sizeof bits);
    }
  }
  return values;
}

WindowShape::WindowShape(OperatorReader& reader) {
  const auto take = [&](const char* key, size_t count, int64_t least, int64_t most, int64_t* to) {
    const auto values = reader.integers(key, count, count, least, most);
    std::copy(values.begin(), values.end(), to);
  };
  take("kernel", 2, 1, 64, kernel);
  take("stride", 2, 1, 64, stride);
  take("pads", 4, 0, kLargestSide, pads);
  dilation[0] = dilation[1] = 1;
  if (reader.has("dilation")) take("dilation", 2, 1, 4096, dilation);
}

int64_t WindowShape::count(int64_t size, int axis, bool ceil) const {
  const int64_t before = pads[axis], after = pads[axis + 2];
  const int64_t room = size + before + after - dilation[axis] * (kernel[axis] - 1) - 1;
  const auto floor = [&](int64_t x) {
    return x >= 0 ? x / stride[axis] : -divide_up(-x, stride[axis]);
  };
  if (!ceil) return floor(room) + 1;
  // a last window may reach beyond the border if it starts inside the map or the border before it
  const int64_t count = -floor(-room) + 1;
  return (count - 1) * stride[axis] >= size + before ? count - 1 : count;
}

OperatorPointer read_operator(OperatorReader& reader) {
  for (const auto read : {read_bits_operator, read_real_conv, read_row_operator}) {
    if (OperatorPointer op = read(reader)) {
      reader.close();
      op->kind = reader.kind;
      op->inputs = reader.inputs;
      op->outputs = reader.outputs;
      return op;
    }
  }
  reader.bad("is unknown to this version; upgrade it");
}

}  // namespace binseg
