// What all operators have in common: how they are read, sized, placed in memory and run.
#pragma once

#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fault.h"
#include "kernels/kernels.h"
#include "model_file.h"
#include "pool.h"
#include "values.h"

namespace binseg {

class Planner;

// Memory that an operator needs while it runs, beside its values.
struct Scratch {
  uint8_t* of_all = nullptr;
  uint8_t* of_threads = nullptr;
  int64_t thread_bytes = 0;  // from one thread's to the next
  uint8_t* of(int thread) const { return of_threads + thread * thread_bytes; }
};

class Operator {
 public:
  virtual ~Operator() = default;

  std::string kind;
  std::vector<int> inputs, outputs;

  // Sets height and width of the outputs and asks for borders and scratch memory.
  virtual void size(Planner& plan) = 0;
  // Called when all values and the scratch memory have their place.
  virtual void place(Planner& plan, const Scratch& scratch) = 0;
  virtual void run(Pool& pool) = 0;
};

// The sizes of one image and the memory that they need, while they are worked out.
class Planner {
 public:
  Planner(std::vector<Value>& values, const Kernels& kernels) : values_(values), kernels_(kernels) {}

  Value& value(int id) { return values_[static_cast<size_t>(id)]; }
  const Kernels& kernels() const { return kernels_; }

  void set_size(int id, int64_t height, int64_t width);
  // Whether the rows of a value will have such a border; otherwise the reader has to copy it.
  bool ask_border(int id, int64_t left, int64_t right, const std::vector<uint32_t>& pixel);
  bool ask_byte_bases(int id, int64_t bases);
  void ask_scratch(int64_t of_all, int64_t of_thread);

  int64_t scratch_of_all = 0, scratch_of_thread = 0;  // of the operator that is sized now

 private:
  std::vector<Value>& values_;
  const Kernels& kernels_;
};

// One operator of the program's JSON. Whatever is asked for is checked; what was never asked for is
// an error at the end.
class OperatorReader {
 public:
  OperatorReader(const Json& json, const std::map<std::string, Tensor>& tensors,
                 std::vector<Value>& values, std::set<std::string>& tensors_read);

  const std::string& kind() const { return kind_; }
  [[noreturn]] void bad(const std::string& why) const;

  size_t input_count() const { return inputs_.size(); }
  int input(size_t index) const;
  // The type of an input that must be of that kind.
  const ValueType& input_of(size_t index, ValueKind kind) const;
  const std::vector<int>& inputs() const { return inputs_; }
  void expect_inputs(size_t least, size_t most) const;

  // The value of an output, or -1; its type becomes `type`.
  int output(const char* role, const ValueType& type);
  std::vector<int> outputs() const { return outputs_; }

  bool has(const char* key) const;
  int64_t integer(const char* key, int64_t least, int64_t most);
  int64_t integer_or(const char* key, int64_t otherwise, int64_t least, int64_t most);
  std::vector<int64_t> integers(const char* key, size_t count, int64_t least, int64_t most);
  std::vector<int64_t> integer_list(const char* key, int64_t least, int64_t most);
  bool flag(const char* key);
  std::string text(const char* key, const char* otherwise);
  std::vector<double> numbers(const char* key, size_t count);

  bool has_tensor(const char* role) const;
  // A tensor of one of these dtypes and so many elements.
  const Tensor& tensor(const char* role, std::initializer_list<Dtype> dtypes, int64_t count);
  // F32 or BF16 values.
  std::vector<float> floats(const char* role, int64_t count);
  // [bases][channels filled up to 64] of F32 [bases * channels].
  std::vector<float> channel_floats(const char* role, int64_t bases, int64_t channels);
  // U8 bits or nothing: whether the tensor is of dtype U8.
  Dtype dtype_of(const char* role) const;

  void done() const;

 private:
  const Json& json_;
  std::string kind_;
  const std::map<std::string, Tensor>& tensors_;
  std::vector<Value>& values_;
  std::set<std::string>& tensors_read_;
  std::vector<int> inputs_, outputs_;
  std::set<std::string> keys_read_, roles_read_, outputs_read_;

  const Json* attribute(const char* key);
  int64_t checked(const char* key, const Json& value, int64_t least, int64_t most) const;
  const std::string* tensor_name(const char* role) const;
};

// Bits of a U8 tensor.
inline bool bit_of(const uint8_t* bits, int64_t i) { return bits[i / 8] >> (i % 8) & 1; }
std::vector<float> to_floats(const Tensor& tensor);
// Rows of numbers, each filled up to a multiple of 64 with zeros.
template <class T>
std::vector<T> filled_rows(const T* from, int64_t rows, int64_t length) {
  const int64_t to = up_to_multiple(length, 64);
  std::vector<T> all(static_cast<size_t>(times(rows, to)));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < length; ++i) all[static_cast<size_t>(r * to + i)] = from[r * length + i];
  return all;
}

// *Finish* of one operator.
class FinishPart {
 public:
  enum Outputs { kAll, kBitsOnly, kBytesOnly, kRealOnly };

  // Reads the rest of an operator whose results have so many bases of so many channels.
  // `residual` is the index of the optional last input, or -1 where there can be none.
  void read(OperatorReader& reader, int64_t bases, int64_t channels, int residual,
            Outputs outputs = kAll);
  // `real` is the name of the output that holds y, `of_merge` that there are more outputs.
  void read_outputs(OperatorReader& reader, const char* real);

  void size(Planner& plan, int64_t height, int64_t width) const;
  Finish bind(Planner& plan) const;

  int64_t bases = 1, channels = 0;
  int residual = -1;
  bool only_real() const;  // nothing happens to y

  int real = -1, bits = -1, bytes = -1;

 private:
  Act act_ = Act::kNone;
  std::vector<float> act_tensors_[3], threshold_;
  int64_t base_stride_ = 0;
  bool residual_serves_all_ = false;

  void read_act(OperatorReader& reader, int64_t tensor_bases);
};

// The type of a `bytes` output from the attribute `bytes`.
ValueType bytes_type(OperatorReader& reader, int64_t channels);
bool stored_as_bfloat16(OperatorReader& reader);

using OperatorPointer = std::unique_ptr<Operator>;
OperatorPointer read_bits_operator(OperatorReader& reader);
OperatorPointer read_int8_operator(OperatorReader& reader);
OperatorPointer read_real_conv(OperatorReader& reader);
OperatorPointer read_point_operator(OperatorReader& reader);
OperatorPointer read_window_operator(OperatorReader& reader);
OperatorPointer read_shape_operator(OperatorReader& reader);

}  // namespace binseg
