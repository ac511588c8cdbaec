// One operator of a program's JSON, read part by part. Whatever is asked for is checked; what was
// never asked for is unknown to the definition and an error at the end.
#pragma once

#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json.h"
#include "model_file.h"
#include "operator.h"

namespace binseg {

// A program while it is read.
struct ProgramParts {
  const std::map<std::string, Tensor>& tensors;
  std::vector<Value> values;
  std::vector<bool> made, read;  // values
  std::set<std::string> tensors_read;
};

class OperatorReader {
 public:
  OperatorReader(const Json& json, size_t index, ProgramParts& parts);

  const std::string kind;
  std::vector<int> inputs, outputs;
  [[noreturn]] void bad(const std::string& why) const;

  // Fails unless there are so many inputs.
  void expect_inputs(size_t least, size_t most) const;
  const ValueType& type(size_t input) const;
  const ValueType& real(size_t input) const;
  const ValueType& of_kind(size_t input, std::initializer_list<ValueKind> kinds) const;

  bool makes(const char* role) const;
  // The value of an output, or -1 where there is none.
  int output(const char* role, const ValueType& type);

  bool has(const char* key) const;
  int64_t integer(const char* key, int64_t least, int64_t most);
  int64_t integer_or(const char* key, int64_t otherwise, int64_t least, int64_t most);
  std::vector<int64_t> integers(const char* key, size_t fewest, size_t most, int64_t least,
                                int64_t largest);
  bool flag(const char* key);
  double number(const Json& value, const char* key) const;
  // The index of the attribute among the choices; without `otherwise` it must be there.
  size_t choice(const char* key, std::initializer_list<std::string_view> choices,
                const char* otherwise = nullptr);
  const Json& attribute(const char* key);

  bool has_tensor(const char* role) const;
  // A tensor of one of these dtypes and of this shape.
  const Tensor& tensor(const char* role, std::initializer_list<Dtype> dtypes,
                       const std::vector<int64_t>& shape);
  const Tensor& tensor(const char* role, std::initializer_list<Dtype> dtypes);
  // So many bits of a U8 tensor.
  const Tensor& bits(const char* role, int64_t count);
  // float32 (channels,); where it has fewer entries they are repeated.
  std::vector<float> channels(const char* role, int64_t channels);
  std::vector<float> floats(const char* role, const std::vector<int64_t>& shape);

  // Fails if anything is left over.
  void close() const;

 private:
  const Json& json_;
  const size_t index_;
  ProgramParts& parts_;
  std::set<std::string, std::less<>> keys_read_, roles_read_, outputs_made_;

  [[noreturn]] void bad_attribute(const char* key, const std::string& wanted) const;
  const Json* object(const char* key) const;
};

inline bool bit_of(const uint8_t* bits, int64_t i) { return bits[i / 8] >> (i % 8) & 1; }
std::vector<float> to_floats(const Tensor& tensor);

// Rows of numbers, each filled up to a multiple of `to` with zeros.
template <class T>
std::vector<T> filled_rows(const std::vector<T>& from, int64_t rows, int64_t to = kFilled) {
  const int64_t length = static_cast<int64_t>(from.size()) / rows,
                filled = up_to_multiple(length, to);
  std::vector<T> all(static_cast<size_t>(times(rows, filled)));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < length; ++i)
      all[static_cast<size_t>(r * filled + i)] = from[static_cast<size_t>(r * length + i)];
  return all;
}

// Kernel, stride, pads and dilation of convolutions of bytes or real maps and of poolings.
struct WindowShape {
  int64_t kernel[2], stride[2], pads[4], dilation[2];

  explicit WindowShape(OperatorReader& reader);
  // Rows (axis 0) or columns of the result; at most 0 where the map is too small.
  int64_t count(int64_t size, int axis, bool ceil = false) const;
  template <class Args>
  void describe_to(Args& args) const {
    args.kernel_h = kernel[0];
    args.kernel_w = kernel[1];
    args.stride_h = stride[0];
    args.stride_w = stride[1];
    args.top = pads[0];
    args.left = pads[1];
    args.dilation_h = dilation[0];
    args.dilation_w = dilation[1];
  }
};

OperatorPointer read_operator(OperatorReader& reader);
// Each returns null for an operator of another family.
OperatorPointer read_bits_operator(OperatorReader& reader);
OperatorPointer read_real_conv(OperatorReader& reader);
OperatorPointer read_row_operator(OperatorReader& reader);

}  // namespace binseg
