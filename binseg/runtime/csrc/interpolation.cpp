#include "interpolation.h"

#include <algorithm>

namespace binseg {

Interpolation bilinear(int64_t source, int64_t size, bool align_corners) {
  Interpolation result;
  result.index.resize(static_cast<size_t>(size));
  result.weight.resize(static_cast<size_t>(size));
  float scale = static_cast<float>(source) / static_cast<float>(size);
  if (align_corners)
    scale = size == 1 ? 0.0f : static_cast<float>(source - 1) / static_cast<float>(size - 1);
  for (int64_t i = 0; i < size; ++i) {
    const auto place = static_cast<float>(i);
    const float at = align_corners ? place * scale : std::max((place + 0.5f) * scale - 0.5f, 0.0f);
    const auto index = std::min(static_cast<int32_t>(at), static_cast<int32_t>(source - 1));
    const float weight = at - static_cast<float>(index);
    result.index[static_cast<size_t>(i)] = index;
    result.weight[static_cast<size_t>(i)] = std::min(std::max(weight, 0.0f), 1.0f);
  }
  return result;
}

Interpolation nearest(int64_t source, int64_t size) {
  Interpolation result;
  result.index.resize(static_cast<size_t>(size));
  const float scale = static_cast<float>(source) / static_cast<float>(size);
  for (int64_t i = 0; i < size; ++i)
    result.index[static_cast<size_t>(i)] = std::min(
        static_cast<int32_t>(static_cast<float>(i) * scale), static_cast<int32_t>(source - 1));
  return result;
}

}  // namespace binseg
