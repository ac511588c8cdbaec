#include "fault.h"

#include <utility>

#ifndef __cpp_exceptions
#include <cstdio>
#include <cstdlib>
#endif

namespace binseg {

void fail(std::string text) {
#ifdef __cpp_exceptions
  throw Fault{std::move(text)};
#else  // WebAssembly without exceptions: the page makes a new instance
  std::fprintf(stderr, "%s\n", text.c_str());
  std::abort();
#endif
}

constexpr int64_t kLargest = int64_t(1) << 62;

int64_t times(int64_t a, int64_t b) {
  if (a != 0 && b > kLargest / a) fail("a size overflows");
  return a * b;
}

int64_t plus(int64_t a, int64_t b) {
  if (b > kLargest - a) fail("a size overflows");
  return a + b;
}

}  // namespace binseg
