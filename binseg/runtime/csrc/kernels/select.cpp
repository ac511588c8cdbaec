// Which kernels this processor can run.
#include <cstring>

#include "kernels.h"

namespace binseg {

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512;
#elif defined(__aarch64__)
extern const Kernels kNeon;
#elif defined(__wasm_simd128__)
extern const Kernels kWasm;
#endif

namespace {

// From the best to what always works.
const Kernels* const kAll[] = {
#if defined(__x86_64__)
    &kAvx512,
    &kAvx2,
#elif defined(__aarch64__)
    &kNeon,
#elif defined(__wasm_simd128__)
    &kWasm,
#endif
    &kPortable,
};

bool supported(const char* name) {
#if defined(__x86_64__)
  // these ask the operating system, too, whether it keeps the registers
  if (std::strcmp(name, "avx512") == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("fma");
  if (std::strcmp(name, "avx2") == 0)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  static_cast<void>(name);
  return true;
}

}  // namespace

const Kernels* find_kernels(const char* name) {
  for (const Kernels* kernels : kAll) {
    if (name != nullptr && *name != '\0' && std::strcmp(kernels->name, name) != 0) continue;
    if (supported(kernels->name)) return kernels;
  }
  return nullptr;
}

}  // namespace binseg
