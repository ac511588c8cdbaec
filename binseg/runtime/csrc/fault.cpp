#include "fault.h"

#include <utility>

namespace binseg {

#ifndef __cpp_exceptions
[[noreturn]] void fail_in_page(const char* text);  // web.cpp
#endif

void fail(std::string text) {
#ifdef __cpp_exceptions
  throw Fault{std::move(text)};
#else
  fail_in_page(text.c_str());
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
