// Results of emulated operators: between guards, which are looked at when the next one is made.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <vector>

#include "machine.h"

namespace binseg::emulation {

constexpr int64_t kGuard = 64;  // elements

struct Guarded {
  torch::stable::Tensor whole;  // keeps the memory
  int64_t bytes;                // of a guard
};

inline std::vector<Guarded> guarded;

inline void check_guards() {
  for (const Guarded& each : guarded) {
    const auto* begin = static_cast<const unsigned char*>(each.whole.data_ptr());
    const int64_t size = each.whole.numel() * each.whole.element_size();
    for (int64_t i = 0; i < each.bytes; ++i) {
      if (begin[i] != 0x4d || begin[size - 1 - i] != 0x4d) {
        fail("write outside a result");
      }
    }
  }
  guarded.clear();
}

inline torch::stable::Tensor make_guarded(const torch::stable::Tensor& like,
                                          const std::vector<int64_t>& size, int64_t count,
                                          torch::headeronly::ScalarType type) {
  if (guarded.size() > 16) {
    check_guards();
  }
  auto whole = torch::stable::new_empty(like, std::vector<int64_t>{count + 2 * kGuard}, type);
  std::memset(whole.data_ptr(), 0x4d, whole.numel() * whole.element_size());
  guarded.push_back({whole, kGuard * static_cast<int64_t>(whole.element_size())});
  auto inner = torch::stable::narrow(whole, 0, kGuard, count);
  return torch::stable::view(inner, size);
}

}  // namespace binseg::emulation
