// Shrinking of RGB rows by means over areas, as plain data.
#pragma once

#include <cstdint>

namespace binseg {

constexpr int kShrinkLanes = 16;

// Each result pixel is the sum of `shares` source pixels side by side, each times its weight (0
// where there are fewer). Where `groups` is not 0 the results are known by groups of 16 channels,
// too: the source bytes [base[g], base[g] + 32) hold all that group g needs.
struct ShrinkRow {
  int64_t in_width, width, shares;
  const int32_t* first;     // [width]: source pixel
  const float* weights;     // [width][shares]
  int64_t groups;           // ⌈3 * width / 16⌉ or 0
  const int32_t* base;      // [groups]
  const int32_t* index;     // [groups][shares][16]: which of the 32 bytes
  const float* of_channel;  // [groups][shares][16]: weights
};

struct ShrinkKernels {
  // `to` has 3 * width numbers, and room for 16 more; `space` 3 * (in_width + shares) + 4.
  void (*row)(const ShrinkRow&, const uint8_t* from, float* to, float* space);
  // Sums of rows of `length` numbers, each times its weight, in order; rounded, ties to even.
  void (*sum)(const float* const* rows, const float* weights, int64_t count, int64_t length,
              uint8_t* to);
};

}  // namespace binseg
