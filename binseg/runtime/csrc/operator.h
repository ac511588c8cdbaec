// What all operators have in common: how they are sized, placed in memory and run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fault.h"
#include "kernels/kernels.h"
#include "kernels/row_args.h"
#include "pool.h"
#include "values.h"

namespace binseg {

// Memory that an operator needs while it runs, beside its values; at multiples of 64 bytes.
struct Scratch {
  uint8_t* of_all = nullptr;
  uint8_t* of_threads = nullptr;
  int64_t thread_bytes = 0;  // from one thread's to the next
  uint8_t* of(int thread) const { return of_threads + thread * thread_bytes; }
};

// A real value that may lie inside another one: its channels are those of `whole` from `channel`
// on.
struct Part {
  int value, whole;
  int64_t channel;
};

// The sizes of one image and the memory that they need, while they are worked out.
class Planner {
 public:
  Planner(std::vector<Value>& values, const Kernels& kernels) : kernels(kernels), values_(values) {}

  const Kernels& kernels;
  int64_t scratch_of_all = 0, scratch_of_thread = 0;  // of the operator that is sized now

  Value& value(int id) { return values_[static_cast<size_t>(id)]; }
  void set_size(int id, int64_t height, int64_t width);
  // Whether the rows of a value will have such a border; otherwise its reader makes a copy.
  bool ask_border(int id, int64_t left, int64_t right, const std::vector<uint8_t>& pixel);
  void ask_scratch(int64_t of_all, int64_t of_thread);
  // Whether the value lies there, so that nothing has to be copied.
  bool lies_inside(const Part& part) const;

  std::vector<Part> parts;  // by value; whole is -1 where a value lies by itself

 private:
  std::vector<Value>& values_;
};

class Operator {
 public:
  virtual ~Operator() = default;

  std::string kind;
  std::vector<int> inputs, outputs;

  // Sets height and width of the outputs and asks for borders and scratch memory.
  virtual void size(Planner& plan) = 0;
  // After the sizes are known: parts that would save a copy.
  virtual std::vector<Part> parts(Planner&) const { return {}; }
  // A real output and a real input of which each number is read for the last time before the one in
  // its place is written: -1 where there are none.
  struct Replaced {
    int output = -1, input = -1;
  };
  virtual Replaced replaces() const { return {}; }
  // Called when all values and the scratch memory have their place.
  virtual void place(Planner& plan, const Scratch& scratch) = 0;
  virtual void run(Pool& pool) = 0;
};

using OperatorPointer = std::unique_ptr<Operator>;

}  // namespace binseg
