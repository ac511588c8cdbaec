// Where an enlarged axis takes its pixels from: docs/program.md, part 3.
#pragma once

#include <cstdint>
#include <vector>

namespace binseg {

struct Interpolation {
  std::vector<int32_t> index;  // of the source pixel before
  std::vector<float> weight;   // of the next one; empty for nearest
};

Interpolation bilinear(int64_t source, int64_t size, bool align_corners);
Interpolation nearest(int64_t source, int64_t size);

}  // namespace binseg
