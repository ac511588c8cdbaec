// Errors inside the library: thrown by `fail`, caught once, at the C API.
#pragma once

#include <cstdint>
#include <string>

namespace binseg {

struct Fault {
  std::string text;
};

[[noreturn]] void fail(std::string text);

// Products and sums of sizes; a fault where 62 bits do not hold them. Arguments are not negative.
int64_t times(int64_t a, int64_t b);
int64_t plus(int64_t a, int64_t b);
template <class... More>
int64_t times(int64_t a, int64_t b, More... more) {
  return times(times(a, b), more...);
}

inline int64_t up_to_multiple(int64_t x, int64_t of) { return (x + of - 1) / of * of; }
inline int64_t divide_up(int64_t x, int64_t by) { return (x + by - 1) / by; }

}  // namespace binseg
