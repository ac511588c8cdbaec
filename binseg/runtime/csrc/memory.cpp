#include "memory.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "fault.h"
#include "sorting.h"

namespace binseg {

std::vector<int64_t> place_in_memory(const std::vector<Lifetime>& lives, int64_t& total) {
  // the largest first, each at the lowest place that is free all its life
  std::vector<std::pair<int64_t, int64_t>> order;
  for (const Lifetime& life : lives) order.emplace_back(-life.bytes, order.size());
  sort(order);
  std::vector<int64_t> offsets(lives.size(), 0);
  std::vector<std::pair<int64_t, size_t>> placed;  // by offset
  total = 0;
  for (const auto& [negated, place] : order) {
    const auto i = static_cast<size_t>(place);
    if (lives[i].bytes == 0) break;
    int64_t at = 0;
    for (const auto& [offset, other] : placed) {
      if (lives[other].first > lives[i].last || lives[other].last < lives[i].first) continue;
      if (plus(at, lives[i].bytes) <= offset) break;
      at = std::max(at, up_to_multiple(offset + lives[other].bytes, 64));
    }
    offsets[i] = at;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), std::pair(at, i)), {at, i});
    total = std::max(total, plus(at, lives[i].bytes));
  }
  return offsets;
}

void check_memory(int64_t bytes) {
#if defined(_SC_PHYS_PAGES) && !defined(__wasm__)
  const int64_t pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  const int64_t most = pages > 0 && size > 0 ? pages / 4 * 3 * size : INT64_MAX;
#else
  const int64_t most = int64_t(3) << 30;
#endif
  if (bytes > most)
    fail("the network needs " + std::to_string(bytes >> 20) +
         " MiB for an image of this size, more than this machine can give; give a smaller image");
}

}  // namespace binseg
