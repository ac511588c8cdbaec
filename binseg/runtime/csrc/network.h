// A program ready to run: operators, and the memory of one size of the image.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "model_file.h"
#include "operator.h"

namespace binseg {

class Network {
 public:
  // `file` is not needed afterwards.
  Network(const uint8_t* file, size_t bytes, const Kernels& kernels);

  const Preprocessing preprocessing;
  int64_t classes() const { return types_[output_].channels; }
  const Kernels& kernels() const { return kernels_; }
  Pool& pool() { return pool_; }

  // Lays everything out for an image of this size, unless it is the size of the last one.
  void prepare(int64_t height, int64_t width);
  // Where the image goes: pixel (0, 0), bytes from one row to the next.
  uint8_t* image() { return values_[0].data; }
  int64_t image_row() const { return values_[0].row; }
  // Runs all operators.
  void run();
  // The output, without gaps: [height][width][classes].
  const Value& output() const { return values_[output_]; }

  size_t operator_count() const { return operators_.size(); }
  const Operator& at(size_t index) const { return *operators_[index]; }
  bool timing = false;
  std::vector<double> seconds;  // of each operator in the last run, if `timing`

 private:
  const Kernels& kernels_;
  std::vector<OperatorPointer> operators_;
  std::vector<ValueType> types_;
  size_t output_ = 0;
  Pool pool_;

  std::vector<Value> values_;
  int64_t height_ = 0, width_ = 0;  // laid out; 0: none
  int threads_ = 0;
  struct Free {
    void operator()(uint8_t* memory) const;
  };
  std::unique_ptr<uint8_t, Free> memory_;
  int64_t memory_bytes_ = 0;

  explicit Network(const ModelFile& file, const Kernels& kernels);
  void lay_out(int64_t height, int64_t width);
  void find_parts(Planner& plan) const;
  void find_replacements(Planner& plan, const std::vector<Lifetime>& lives) const;
  static void fill_border(const Value& value);
};

}  // namespace binseg
