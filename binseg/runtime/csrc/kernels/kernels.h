// What the runtime hands to the kernels of one instruction set. Plain data, no std types: each
// instruction set is compiled with flags of its own, and code shared with it by accident (an
// inline function of the standard library, say) could be the copy that the linker keeps.
// `layer.h` makes the arguments of convolutions from a program's tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "finish.h"
#include "row_args.h"
#include "shrink_args.h"

namespace binseg {

constexpr int kBlock = 64;  // output channels that lie side by side in packed weights
constexpr int kMostBases = 8;
constexpr int kLargestTile = 10;  // pixels; no instruction set takes more at once
constexpr int kRowsAtOnce = 4;    // rows of results that share weights in the first cache

// One position of the kernel, seen from output pixel (0, 0).
struct Tap {
  int64_t row;     // of the input; may lie outside
  int64_t offset;  // bytes from pixel 0 of a row; may lie in the border
  bool outside;    // every output pixel reads the border
};

// f(s) of the integer sum: fma(s >= 0 ? rows[0] : rows[1], s, rows[2]), or with tanh
// fma(rows[0], tanh(rows[1] * s), rows[2]). Rows are [bases][blocks * 64]. For bits they are made
// for the accumulator a instead, which is -s / 2 or -s.
struct Curve {
  enum Kind : int32_t { kLinear, kOneSided, kTwoSided, kTanh };  // one-sided: rows[1] is 0
  Kind kind;
  const float* rows[3];
};

// A convolution of bits or bytes; a "word" is 32 channels of one bit or 4 of one byte. All
// distances in the input are in bytes.
struct ConvArgs {
  const uint8_t* image;       // pixel (0, 0)
  const uint8_t* border_row;  // pixel 0 of a row of border pixels only
  int64_t row_stride;
  int64_t pixel_step;                 // from the input of one output pixel to that of the next
  int64_t base_step;                  // 0 where all bases read the same channels
  int64_t height;                     // of the input
  int64_t stride;                     // of rows
  int64_t border_left, border_right;  // pixels of border that taps read
  // pixels of a row without its border; bytes of one pixel, and of one base in it
  int64_t in_width, pixel, base_bytes;

  const Tap* taps;  // [bases][tap_count]
  int64_t tap_count;
  int64_t tap_from, tap_to;           // rows of the taps lie in [tap_from, tap_to]
  int64_t run;                        // words of one tap that lie side by side in image and weights
  const void* weight;                 // [bases][blocks][tap_count][run], arranged by `layer.cpp`
  const uint64_t* run_masks;          // of tiles: [run][16], which bytes of a row have weights
  int64_t weight_base, weight_block;  // bytes

  int64_t out_height, out_width, out_channels, blocks, bases;

  // Bits: accumulators count differing bits from `start` on, so that the sum s is -2 * a, or -a
  // where they are `doubled` and `doubled_plus` is added afterwards (odd numbers of
  // products).
  int32_t start;
  bool doubled;
  int32_t doubled_plus;
  bool wide;  // sums may not fit 16 bits
  // Zero padding of bits: what to add to the accumulators of pixels near the border, null for all
  // others. Columns in [inner_from, inner_to) have nothing in rows of class 0.
  const int32_t* const* starts;  // [bases][row_classes][column_classes] -> [blocks * 64]
  const int32_t* row_class;      // [bases][out_height]
  const int32_t* column_class;   // [bases][out_width]
  int64_t row_classes, column_classes;
  const int32_t *inner_from, *inner_to;  // [bases]

  // Bits from bits: (a - low) mod 2^32 <= span: [bases][blocks * 64].
  const uint32_t *low, *span;
  Curve curve;
  int64_t channel_base;  // elements from one base to the next in low, span, curve; 0: one for all

  // Merge: m = sum of lambda_k * out_k. `finish` is of m, or with gates of b (all bases).
  const float *lambdas, *gates;
  RealMap merge_residual;  // added to out_k
  Finish branch;           // of out_k after that: the activation alone
  RealMap merged;          // with gates
  ByteMap merged_bytes;    // with gates

  Finish finish;
};

struct UpsampleArgs {
  const float* scores;  // [in_height][in_width][classes], none of them nan
  float largest;        // of their absolute values
  int64_t in_height, in_width, classes, height, width;
  const int32_t *top, *left;         // [height], [width]: index of the source pixel above / before
  const float *weight_y, *weight_x;  // of the source pixel below / after, in [0, 1]
  uint8_t* out;                      // [height][out_row bytes]
  int64_t out_row;
};

// Calls do rows [begin, end) of the result; upsample: of the source.
using ConvKernel = void (*)(const ConvArgs&, int64_t begin, int64_t end, void* scratch);

// How weights lie.
enum class Arrangement : int32_t {
  // [word][64 channels]: bits as words of 32 input channels, bytes as four input channels
  kWords,
  // bits as [word][8][64 channels] bytes, each with 4 input channels, and bytes as
  // [word][2][64 channels] pairs of 16 bits; rows of the input are unpacked alike, see `avx2.cpp`
  kUnpacked,
  // [2][run][2][16][16 channels][4 input channels], numbers of one bit or of one byte, where a run
  // is of 64 input channels; see `tiles.h`
  kTiles,
};

struct Kernels {
  const char* name;
  Arrangement arrangement;
  ConvKernel conv_bits, conv_real, conv_merge, conv_int8, conv_int8_pool;
  void (*upsample)(const UpsampleArgs&, int64_t begin, int64_t end);
  RowKernels rows;
  ShrinkKernels shrink;
  // For convolutions that read fewer channels than fill a tile; null: these are for all.
  const Kernels* for_few_channels;

  const Kernels& for_channels(int64_t count) const {
    return for_few_channels && count < 64 ? *for_few_channels : *this;
  }
};

// Memory of instruction sets that unpack rows of the input (`unpacks`) to two bytes for each byte:
// all rows that kRowsAtOnce rows of results of all bases may read.
inline int64_t unpacked_row_bytes(const ConvArgs& a) {
  const int64_t pixels = a.border_left + a.in_width + a.border_right;
  return (2 * pixels * a.base_bytes + 8 + 63) / 64 * 64;  // as many as `layer.h` wants after a row
}
inline int64_t most_unpacked_rows(const ConvArgs& a) { return kRowsAtOnce * a.bases * a.tap_count; }

// Those of an instruction set by its name (amx, avx512, avx2, neon, wasm, portable), or without a
// name the best that the processor has; null where it does not have them.
const Kernels* find_kernels(const char* name);

}  // namespace binseg
