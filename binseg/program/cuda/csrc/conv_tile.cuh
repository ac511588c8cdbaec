// The core of the binary convolution: an implicit matrix product on bits. A CTA of four warps makes
// `kRows` output pixels × 64 output channels of one base (or of all bases, one after the other).
//
// The inner dimension is all (tap, word) pairs in order, 8 words to a step and 4 steps to a chunk;
// chunks travel through shared memory in several stages. Pixels outside the image are loaded as
// zeros, which the product reads as −1 in every channel; what that gets wrong for other padding
// values is a sum over a rectangle of taps, which the table answers with four look-ups.
#pragma once

#include "conv_engine.cuh"

namespace binseg {

template <class Engine, class T>
class ConvTile {
 public:
  __device__ __forceinline__ ConvTile(const Conv& conv, int block)
      : conv_(conv), block_(block), thread_(threadIdx.x) {
    unsigned char* memory = dynamic_shared();
    pixels_ = reinterpret_cast<int4*>(memory);
    corners_ = pixels_ + T::kRows;
    ones_ = reinterpret_cast<int*>(corners_ + T::kRows);
    stages_ = reinterpret_cast<uint32_t*>(memory + T::kHead);
    lane_ = thread_ & (kWarp - 1);
    const int warp = thread_ / kWarp;
    warp_n_ = warp % T::kWarpsN;
    first_row_ = warp / T::kWarpsN * T::kMTiles * 16;
    chunks_ = (conv.steps + kChunkSteps - 1) / kChunkSteps;
    find_pixels();
  }

  // Makes the sums of bases [first, last) in turn and calls `epilogue(base)` after each.
  template <class F>
  __device__ __forceinline__ void run(int first, int last, int stages, F epilogue) {
    if (!Engine::kAvailable) {
      return;  // the host does not launch it on this GPU
    }
    const int total = (last - first) * chunks_;
    const int ahead = stages > 1 ? stages - 1 : 1;
    int chunk = 0, base = first, stage = 0, filled = 0;
    clear();
    __syncthreads();  // pixels_ is filled
#pragma unroll 1
    for (int i = -ahead; i < total; ++i) {  // one place that loads keeps the code short
      if (i >= 0) {
        if (stages >= 4) {
          copy_wait<2>();
        } else if (stages == 3) {
          copy_wait<1>();
        } else {
          copy_wait<0>();
        }
        if constexpr (Engine::kWarpGroup) {
          show_to_wgmma();
        }
        __syncthreads();  // this chunk is there, and the one before it is no longer read
      }
      if (i + ahead < total) {
        load(first, i + ahead, filled);
        filled = filled + 1 == stages ? 0 : filled + 1;
      }
      copy_commit();
      if (i < 0) {
        continue;
      }
      multiply(stages_ + stage * T::kStageWords,
               min(kChunkSteps, conv_.steps - chunk * kChunkSteps));
      stage = stage + 1 == stages ? 0 : stage + 1;
      if (++chunk == chunks_) {
        share(base);
        epilogue(base);
        clear();
        chunk = 0;
        ++base;
      }
    }
  }

  // Calls f(m, half, pixel, inside) for each row of 8 channels that this thread holds. All threads
  // of a warp call it together, so that f may shuffle; `inside` says whether the row exists.
  template <class F>
  __device__ __forceinline__ void each_row(F f) const {
#pragma unroll
    for (int m = 0; m < T::kMTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row_of(m, half);
        f(m, half, first_pixel() + row, pixels_[row].w != 0);
      }
    }
  }

  // The constants of 8 channels' sums, for `sums`.
  __device__ __forceinline__ void constants(int base, int channel, int (&values)[8]) const {
    if constexpr (Engine::kAnd) {
      load_ints(table(base) + channel, values);
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        values[i] = conv_.terms;
      }
    }
  }

  // The 8 sums of row (m, half) from channel `channel` on.
  __device__ __forceinline__ void sums(int base, int group, int m, int half, int channel,
                                       const int (&constant)[8], int (&result)[8]) const {
    const int row = row_of(m, half);
    unsigned one = 0;
    if constexpr (Engine::kAnd) {
#pragma unroll
      for (int n = 0; n < T::kWarpsN; ++n) {
        one += ones_[n * T::kRows + row];
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      // unsigned, for partial results may leave the range of int
      const unsigned count = static_cast<unsigned>(sums_[m][group * 4 + i / 2][half * 2 + i % 2]);
      const unsigned products = Engine::kAnd ? 4 * count - 2 * one : 0 - 2 * count;
      result[i] = static_cast<int>(static_cast<unsigned>(constant[i]) + products);
    }
    if (conv_.corrected) {
      const int4 corner = corners_[row];
      if (corner.x >= 0) {
        const int* rectangles = table(base) + width() + channel;
        const int whole = (conv_.kernel_height + 1) * (conv_.kernel_width + 1) - 1;
#pragma unroll 1
        for (int i = 0; i < 5; ++i) {
          const int index = i == 0   ? whole
                            : i == 1 ? corner.x
                            : i == 2 ? corner.y
                            : i == 3 ? corner.z
                                     : corner.w;
          add(rectangles, index, i == 1 || i == 4 ? -1 : 1, result);
        }
      }
    }
  }

  // The first of this thread's 8 channels in `group`, and how many of the 8 exist.
  __device__ __forceinline__ int channel(int group) const {
    return first_of_word(group) + (lane_ & 3) * 8;
  }
  __device__ __forceinline__ int count(int group) const {
    return max(0, min(8, conv_.out_channels - channel(group)));
  }
  // Whether any channel of this group exists; the same for all threads of a warp.
  __device__ __forceinline__ bool has(int group) const {
    return first_of_word(group) < conv_.out_channels;
  }

  // Puts 8 bits of each of four threads together and stores the word; every lane must call it.
  __device__ __forceinline__ void store_word(uint32_t* out, int bases, int base, int group,
                                             unsigned pixel, bool inside, unsigned byte) const {
    unsigned word = byte << ((lane_ & 3) * 8);
    word |= shuffle_xor(word, 1);
    word |= shuffle_xor(word, 2);
    if (inside && (lane_ & 3) == 0) {
      const int words = (conv_.out_channels + 31) / 32;
      out[(pixel * bases + base) * words + first_of_word(group) / 32] = word;
    }
  }

 private:
  __device__ __forceinline__ int first_of_word(int group) const {
    return block_ * kBlock + (warp_n_ * T::kGroups + group) * 32;
  }
  __device__ __forceinline__ int row_of(int m, int half) const {
    return first_row_ + m * 16 + half * 8 + (lane_ >> 2);
  }
  // Places in output maps fit in 32 bits: the binding allows no larger ones.
  __device__ __forceinline__ unsigned first_pixel() const { return blockIdx.x * T::kRows; }
  __device__ __forceinline__ int blocks() const {
    return (conv_.out_channels + kBlock - 1) / kBlock;
  }
  __device__ __forceinline__ int width() const { return blocks() * kBlock; }
  __device__ __forceinline__ int border(int base, int kernel) const {
    return conv_.dilations[base] * (kernel - 1) / 2;
  }
  __device__ __forceinline__ const int* table(int base) const {
    const long long rows =
        conv_.corrected ? 1 + (conv_.kernel_height + 1) * (conv_.kernel_width + 1) : 1;
    return conv_.table + base * rows * width();
  }

  static __device__ __forceinline__ void load_ints(const int* from, int (&values)[8]) {
    const int4 low = __ldg(reinterpret_cast<const int4*>(from));
    const int4 high = __ldg(reinterpret_cast<const int4*>(from) + 1);
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
  }

  __device__ __forceinline__ void add(const int* rectangles, int index, int sign,
                                      int (&result)[8]) const {
    int values[8];
    load_ints(rectangles + static_cast<long long>(index) * width(), values);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      result[i] = static_cast<int>(static_cast<unsigned>(result[i]) + sign * values[i]);
    }
  }

  // pixels_[row]: image, input row and column that its border is counted from, whether it exists.
  __device__ __forceinline__ void find_pixels() {
    const unsigned columns = conv_.out_width, area = conv_.out_height * columns;
    for (int row = thread_; row < T::kRows; row += kThreads) {
      const unsigned pixel = first_pixel() + row;
      const unsigned image = pixel / area, place = pixel - image * area;
      const unsigned y = place / columns, x = place - y * columns;
      const int exists = image < static_cast<unsigned>(conv_.images);
      pixels_[row] = make_int4(image, y * conv_.stride, x * conv_.stride, exists);
    }
  }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int m = 0; m < T::kMTiles; ++m) {
#pragma unroll
      for (int n = 0; n < T::kNTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sums_[m][n][i] = 0;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        counted_[m][half] = 0;
      }
    }
  }

  // Starts the copy of chunk `index`, counted over all bases from `first` on, into a stage.
  __device__ __forceinline__ void load(int first, int index, int stage) {
    const int past = index / chunks_;
    const int base = first + past, chunk = index - past * chunks_;
    const int steps = min(kChunkSteps, conv_.steps - chunk * kChunkSteps);
    uint32_t* a = stages_ + stage * T::kStageWords;
    uint32_t* b = a + T::kRows * kChunkWords;
    const long long tile = static_cast<long long>(base) * blocks() + block_;
    const uint32_t* weight =
        conv_.weight + (tile * conv_.steps + chunk * kChunkSteps) * kStepWeights;
    for (int i = thread_ * 4; i < steps * kStepWeights; i += kThreads * 4) {
      copy_async<16>(b + i, weight + i, true);
    }
    // a thread brings the same 16 bytes of rows that are 16 apart
    if ((thread_ & 7) >= steps * 2) {
      return;
    }
    if (conv_.words % 4 == 0) {
      load_pixels<4>(a, base, chunk);
    } else if (conv_.words % 2 == 0) {
      load_pixels<2>(a, base, chunk);
    } else {
      load_pixels<1>(a, base, chunk);
    }
  }

  template <int Words>
  __device__ __forceinline__ void load_pixels(uint32_t* a, int base, int chunk) {
    const int unit = thread_ & 7;
    const int dilation = conv_.dilations[base];
    const int pixel_words = conv_.words * conv_.input_bases;
    const int first_word = conv_.input_bases == 1 ? 0 : base * conv_.words;
#pragma unroll 1
    for (int part = 0; part < 4; part += Words) {
      const int index = chunk * kChunkWords + unit * 4 + part;
      const int tap = index / conv_.words;
      const int ky = tap / conv_.kernel_width;
      const int dy = ky * dilation - border(base, conv_.kernel_height);
      const int dx = (tap - ky * conv_.kernel_width) * dilation - border(base, conv_.kernel_width);
      const uint32_t* from = conv_.bits + first_word + (index - tap * conv_.words);
      const bool exists = ky < conv_.kernel_height;
#pragma unroll 4
      for (int row = thread_ >> 3; row < T::kRows; row += kThreads / 8) {
        const int4 pixel = pixels_[row];
        const int y = pixel.y + dy, x = pixel.z + dx;
        const bool inside =
            exists && pixel.w != 0 && y >= 0 && y < conv_.height && x >= 0 && x < conv_.width;
        const long long place =
            static_cast<long long>(pixel.x * conv_.height + y) * conv_.width + x;
        copy_async<Words * 4>(a + word_of(row, unit * 2 + part / 2) + part % 2,
                              inside ? from + place * pixel_words : conv_.bits, inside);
      }
    }
  }

  // Loads 16 rows of a step, and counts their ones.
  __device__ __forceinline__ void load_fragment(const uint32_t* a, int m, int step,
                                                Fragment& fragment) {
    const int row = first_row_ + m * 16 + (lane_ >> 2), pair = step * 4 + (lane_ & 3);
    const uint2 upper = *reinterpret_cast<const uint2*>(a + word_of(row, pair));
    const uint2 lower = *reinterpret_cast<const uint2*>(a + word_of(row + 8, pair));
    fragment = Fragment{{upper.x, lower.x, upper.y, lower.y}};
    // warps that share these rows take turns
    if (Engine::kAnd && step % T::kWarpsN == warp_n_) {
      counted_[m][0] += __popc(upper.x) + __popc(upper.y);
      counted_[m][1] += __popc(lower.x) + __popc(lower.y);
    }
  }

  __device__ __forceinline__ void multiply(const uint32_t* a, int steps) {
    const uint32_t* b = a + T::kRows * kChunkWords + warp_n_ * T::kGroups * (kStepWeights / 2);
    if constexpr (Engine::kWarpGroup) {
      Fragment fragments[kChunkSteps];
#pragma unroll
      for (int step = 0; step < kChunkSteps; ++step) {
        if (step < steps) {
          load_fragment(a, 0, step, fragments[step]);
        }
      }
      wgmma_begin(sums_[0]);
#pragma unroll
      for (int step = 0; step < kChunkSteps; ++step) {
        if (step < steps) {
          wgmma_64x64x256_and(sums_[0], fragments[step].words, b + step * kStepWeights);
        }
      }
      wgmma_end(sums_[0]);
    } else {
#pragma unroll
      for (int step = 0; step < kChunkSteps; ++step) {
        if (step >= steps) {
          break;
        }
        Fragment fragments[T::kMTiles];
#pragma unroll
        for (int m = 0; m < T::kMTiles; ++m) {
          load_fragment(a, m, step, fragments[m]);
        }
        Engine::template step<T>(sums_, fragments, b + step * kStepWeights,
                                 a + first_row_ * kChunkWords, step * 4, lane_);
      }
    }
  }

  // Brings together what threads know of each row, for `sums`.
  __device__ __forceinline__ void share(int base) {
    if constexpr (Engine::kAnd) {
#pragma unroll
      for (int m = 0; m < T::kMTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned count = counted_[m][half];
          count += shuffle_xor(count, 1);
          count += shuffle_xor(count, 2);
          if ((lane_ & 3) == 0) {
            ones_[warp_n_ * T::kRows + row_of(m, half)] = count;
          }
        }
      }
    }
    if (conv_.corrected) {
      for (int row = thread_; row < T::kRows; row += kThreads) {
        corners_[row] = find_corners(base, pixels_[row]);
      }
    }
    __syncthreads();
  }

  // Places in the table of rectangle sums of the four corners of the taps that lie inside the
  // image; x is −1 where all do.
  __device__ __forceinline__ int4 find_corners(int base, int4 pixel) const {
    const int dilation = conv_.dilations[base];
    const int2 ys = inside(pixel.y - border(base, conv_.kernel_height), dilation,
                           conv_.kernel_height, conv_.height);
    const int2 xs = inside(pixel.z - border(base, conv_.kernel_width), dilation, conv_.kernel_width,
                           conv_.width);
    if (ys.y - ys.x == conv_.kernel_height && xs.y - xs.x == conv_.kernel_width) {
      return make_int4(-1, 0, 0, 0);
    }
    const int row = conv_.kernel_width + 1;
    return make_int4(ys.y * row + xs.y, ys.x * row + xs.y, ys.y * row + xs.x, ys.x * row + xs.x);
  }

  // Taps [x, y) of those at first, first + dilation, … that lie in [0, size).
  static __device__ __forceinline__ int2 inside(int first, int dilation, int taps, int size) {
    const int begin = first < 0 ? min(taps, (dilation - 1 - first) / dilation) : 0;
    const int end = first < size ? min(taps, (size - 1 - first) / dilation + 1) : 0;
    return end > begin ? make_int2(begin, end) : make_int2(0, 0);
  }

  const Conv& conv_;
  int block_, thread_, lane_, warp_n_, first_row_, chunks_;
  int4* pixels_;
  int4* corners_;
  int* ones_;
  uint32_t* stages_;
  int sums_[T::kMTiles][T::kNTiles][4];
  unsigned counted_[T::kMTiles][2];
};

}  // namespace binseg
