// What only the WebAssembly module needs: errors become exceptions of the page's language, which no
// destructor here sees; binseg.js then starts a fresh module.
#include <cstdint>
#include <cstdlib>
#include <new>

#define IMPORT(name) __attribute__((import_module("binseg"), import_name(name)))

extern "C" {
[[noreturn]] IMPORT("fail") void binseg_page_fail(const char* text);
IMPORT("number") double binseg_page_number(const char* text);
}

namespace binseg {
[[noreturn]] void fail_in_page(const char* text);
void fail_in_page(const char* text) { binseg_page_fail(text); }
// JavaScript rounds decimals correctly, too; wasi-libc does it by floats of 128 bits in software.
double number_in_page(const char* text);
double number_in_page(const char* text) { return binseg_page_number(text); }
}  // namespace binseg

// The standard library's own would bring printf along.
void* operator new(size_t bytes) {
  if (void* found = std::malloc(bytes ? bytes : 1)) return found;
  binseg::fail_in_page("out of memory");
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return std::malloc(bytes); }
void* operator new(size_t bytes, std::align_val_t to) {
  const size_t align = static_cast<size_t>(to);
  if (void* found = std::aligned_alloc(align, (bytes + align - 1) / align * align)) return found;
  binseg::fail_in_page("out of memory");
}
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

_LIBCPP_BEGIN_NAMESPACE_STD
[[noreturn]] void __libcpp_verbose_abort(const char*, ...) {
  binseg::fail_in_page("an internal error");
}
_LIBCPP_END_NAMESPACE_STD

extern "C" [[noreturn]] void __cxa_pure_virtual() { binseg::fail_in_page("an internal error"); }

// RGBA to RGB in place: transparent parts lie on white, as Pillow's alpha_composite rounds it.
extern "C" void binseg_on_white(uint8_t* image, int count);
extern "C" void binseg_on_white(uint8_t* image, int count) {
  uint8_t* to = image;
  for (const uint8_t* from = image; count > 0; --count, from += 4) {
    const uint32_t opacity = from[3];
    for (int i = 0; i < 3; ++i) {
      const uint32_t sum = (from[i] * opacity + 255 * (255 - opacity) + 128) << 7;
      *to++ = static_cast<uint8_t>(((sum >> 8) + sum) >> 15);
    }
  }
}

// There is no environment.
extern "C" char* getenv(const char*) { return nullptr; }
