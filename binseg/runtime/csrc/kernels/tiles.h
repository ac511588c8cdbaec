// How convolutions are cut for instruction sets that multiply tiles (Arrangement::kTiles): 16
// pixels of 64 bytes with 64 bytes of 16 channels. Two tiles of pixels and two of channels are
// multiplied at a time. For the kernels and for `layer.cpp`, which asks for their memory.
#pragma once

#include "kernels.h"

namespace binseg {

constexpr int64_t kTilePixels = 16, kTileBytes = 64, kTileChannels = 32;
constexpr int64_t kTileWeights = kTileBytes * kTileChannels;  // numbers of one step of a run
constexpr int64_t kRowsInCache = 64 << 10;                    // bytes of input
constexpr int64_t kLeastPixels = 512;                         // that are worth unpacking weights

struct TilePlan {
  int64_t pixels;     // of one tile: so many that the last of a row is nearly full, too
  int64_t pixel;      // bytes of one base of an input pixel, with a byte for each bit
  int64_t step;       // bytes from the input of one output pixel to that of the next
  int64_t row_bytes;  // of one base of an input row
  int64_t rows;       // of results at a time
  int64_t kept;       // input rows of one base that these may read
  int64_t together;   // bases at a time
  int64_t slice;      // weights of 32 channels of one base

  TilePlan(const ConvArgs& a, bool bytes, bool merges, bool pools) {
    const int64_t tiles = (a.out_width + kTilePixels - 1) / kTilePixels;
    pixels = (a.out_width + tiles - 1) / tiles;
    if (pools) pixels += pixels % 2;
    pixel = bytes ? a.base_bytes : a.base_bytes * 8;
    step = a.pixel_step / a.pixel * pixel;
    // the last tile may reach over the row's end, and each run over its pixels
    const int64_t beyond = kTilePixels * step + a.run * kTileBytes;
    const int64_t of_row = (a.border_left + a.in_width + a.border_right) * pixel + beyond;
    row_bytes = (of_row + 63) / 64 * 64;
    together = merges ? a.bases : 1;
    slice = a.tap_count * a.run * kTileWeights;
    rows = kRowsInCache / (row_bytes * a.stride * together);
    const int64_t least = bytes ? kRowsAtOnce : (kLeastPixels + a.out_width - 1) / a.out_width;
    if (rows < least) rows = least;
    if (2 * a.out_height <= 3 * rows) rows = a.out_height;
    const int64_t span = a.tap_to - a.tap_from + 1;
    kept = (rows - 1) * a.stride + span;
    if (kept > a.height) kept = a.height;
    ++kept;  // a row of the border
  }
};

// The kernels of `amx.cpp`.
void convolve_tiles_to_bits(const ConvArgs&, int64_t begin, int64_t end, void* scratch);
void convolve_tiles_to_real(const ConvArgs&, int64_t begin, int64_t end, void* scratch);
void convolve_tiles_and_merge(const ConvArgs&, int64_t begin, int64_t end, void* scratch);
void convolve_tiles_of_bytes(const ConvArgs&, int64_t begin, int64_t end, void* scratch);
void convolve_tiles_and_pool(const ConvArgs&, int64_t begin, int64_t end, void* scratch);

}  // namespace binseg
