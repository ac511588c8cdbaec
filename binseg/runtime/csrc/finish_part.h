// *Finish* of one operator.
#pragma once

#include <vector>

#include "operator_reader.h"

namespace binseg {

class FinishPart {
 public:
  // Reads the attributes, tensors and outputs of an operator whose results have `bases` bases of
  // `channels` channels each; bases 0: as many as its bits have, and `channels` are those of all.
  // `residual` is the index of the input that may be one, or -1.
  void read(OperatorReader& reader, int64_t bases, int64_t channels, int residual);
  // The same for bits that always have so many bases and real results under that name.
  void read_fixed(OperatorReader& reader, int64_t bases, int64_t channels, const char* real,
                  bool with_bytes);
  // Bits alone, bytes alone.
  // The activation alone, of the attribute and the tensors whose names begin with "branch_".
  void read_branch(OperatorReader& reader, int64_t bases, int64_t channels);
  void read_bits(OperatorReader& reader, int64_t channels);
  void read_bytes(OperatorReader& reader, int64_t channels);

  void size(Planner& plan, int64_t height, int64_t width);
  // For the kernel. Needs the memory that `size` has asked for, which is its own.
  Finish place(Planner& plan, uint8_t* scratch);
  // After the kernel: what it could not do itself.
  void run_rest(Pool& pool, const RowKernels& rows, const Scratch& scratch) const;
  // Of `scratch_of_all`.
  int64_t scratch_bytes() const { return scratch_bytes_; }

  int64_t bases() const { return bases_; }
  int64_t channels() const { return channels_; }  // of one base
  int real() const { return real_; }
  int residual() const { return residual_; }
  // The real output is y as it is.
  bool keeps_y() const { return real_ >= 0 && act_ == Act::kNone && residual_ < 0; }
  // Nothing but that is wanted.
  bool only_real() const { return keeps_y() && bits_ < 0 && bytes_ < 0; }

 private:
  int64_t bases_ = 1, channels_ = 0, bit_bases_ = 1;
  int residual_ = -1, real_ = -1, bits_ = -1, bytes_ = -1;
  bool residual_serves_all_ = false;
  Act act_ = Act::kNone;
  std::vector<float> act_tensors_[3], threshold_;  // threshold: in bases of the bits

  bool apart_ = false;  // bits or bytes are made afterwards, of a copy of y
  int64_t height_ = 0, width_ = 0, scratch_bytes_ = 0;
  PointArgs rest_{}, rest_of_bytes_{};

  void read_residual(OperatorReader& reader, int index);
  void read_act(OperatorReader& reader, const std::string& prefix = "");
  void read_outputs(OperatorReader& reader, const char* real, bool with_bytes);
  bool bits_fit() const;
};

// The type of a `bytes` output, from the attribute of that name.
ValueType bytes_type(OperatorReader& reader, int64_t channels);
// The attribute `dtype`, of an operator that makes real results.
bool stored_as_bfloat16(OperatorReader& reader);

}  // namespace binseg
