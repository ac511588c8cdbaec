// Where things that live for a while lie in one piece of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace binseg {

// Needed from step `first` to step `last`.
struct Lifetime {
  int64_t bytes;
  int64_t first, last;
};

// An offset for each, a multiple of 64, such that what lives at the same time does not overlap;
// `total` becomes the size of the whole.
std::vector<int64_t> place_in_memory(const std::vector<Lifetime>& lives, int64_t& total);

// Fails if the machine does not have so much memory.
void check_memory(int64_t bytes);

}  // namespace binseg
