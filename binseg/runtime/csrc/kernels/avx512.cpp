#include "avx512.h"

#include "tiles.h"

namespace binseg {

extern const Kernels kAvx512, kAmx;

constexpr Kernels kPlain = make_kernels<Avx512>("avx512");
const Kernels kAvx512 = kPlain;

// Only convolutions use tiles.
const Kernels kAmx = {
    "amx",
    Arrangement::kTiles,
    convolve_tiles_to_bits,
    convolve_tiles_to_real,
    convolve_tiles_and_merge,
    convolve_tiles_of_bytes,
    convolve_tiles_and_pool,
    kPlain.upsample,
    kPlain.rows,
    kPlain.shrink,
    &kAvx512,
};

}  // namespace binseg
