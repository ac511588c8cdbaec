// Which kernels this processor can run.
#include <algorithm>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.h"

namespace binseg {

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512, kAmx;
#elif defined(__aarch64__)
extern const Kernels kNeon;
#elif defined(__wasm_simd128__)
extern const Kernels kWasm;
#endif

namespace {

// From the best to what always works.
const Kernels* const kAll[] = {
#if defined(__x86_64__)
    &kAmx,
    &kAvx512,
    &kAvx2,
#elif defined(__aarch64__)
    &kNeon,
#elif defined(__wasm_simd128__)
    &kWasm,
#endif
#ifndef BINSEG_NO_PORTABLE  // a page is to be small
    &kPortable,
#endif
};

#if defined(__x86_64__)
#if defined(__linux__)
// Whether a signal may come while tiles are permitted: its frame then has room for 8 kB of them. A
// program may run its handlers on a stack of their own, and CPython's faulthandler gives them 16
// kB, past whose end the kernel and the handlers would write. What a frame takes is asked of the
// system and, as not every system says it, of the processor.
bool signals_have_room() {
  constexpr unsigned long kLeastFrame = 51;  // AT_MINSIGSTKSZ, which old headers lack
  constexpr unsigned long kForHandlers = 16384;
  stack_t now;
  if (sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE)) return true;
  unsigned a, registers = 0, c, d;  // bytes of all registers that the system keeps
  __get_cpuid_count(0xd, 0, &a, &registers, &c, &d);
  const unsigned long frame = std::max<unsigned long>(getauxval(kLeastFrame), registers);
  return now.ss_size >= frame + kForHandlers;
}
#endif

// Whether the processor has tiles, and the operating system keeps them for this process, which must
// ask for it.
bool has_tiles() {
#if defined(__linux__)
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kTile) || !(d & kInt8)) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl
  static const bool permitted =
      signals_have_room() && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return permitted;
#else
  return false;
#endif
}
#endif

bool supported(const char* name) {
#if defined(__x86_64__)
  if (std::strcmp(name, "amx") == 0) return supported("avx512") && has_tiles();
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
