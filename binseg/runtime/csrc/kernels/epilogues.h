// What becomes of the sums of a tile while they are in registers.
#pragma once

#include "arithmetic.h"
#include "conv.h"

namespace binseg {
namespace {

// A group of V vectors of channels of P pixels, and where it lies.
template <class Isa, int P, int V>
struct Group {
  using Float = typename Isa::Float;
  int64_t y, x, base, channel;  // channel: first of the group, of its base
  int64_t count;                // channels that exist, at most V * kLanes; may be 0 or less
  bool whole() const { return count >= V * Isa::kLanes; }
  int lanes(int v) const {
    const int64_t left = count - v * Isa::kLanes;
    return left >= Isa::kLanes ? Isa::kLanes : left > 0 ? static_cast<int>(left) : 0;
  }

  Group(const Finish& f, int64_t base, int64_t channel, int64_t y, int64_t x)
      : y(y), x(x), base(base), channel(channel), count(f.channels - channel) {}
  int64_t element(const RealMap& map) const {
    return y * map.row + x * map.pixel + base * map.base_step + channel;
  }
};

#define BINSEG_EACH_VALUE                                \
  _Pragma("GCC unroll 16") for (int p = 0; p < P; ++p) \
      _Pragma("GCC unroll 8") for (int v = 0; v < V; ++v)

template <class Isa, int P, int V>
inline void add_residual(const RealMap& map, const Group<Isa, P, V>& at,
                         typename Isa::Float (&values)[P][V]) {
  const int64_t element = at.element(map);
  if (map.bfloat16) {
    const auto* from = static_cast<const uint16_t*>(map.data) + element;
    if (at.whole()) {
      BINSEG_EACH_VALUE values[p][v] = Isa::addf(
          values[p][v], Isa::load_bfloat16(from + p * map.pixel + v * Isa::kLanes));
    } else {
      BINSEG_EACH_VALUE values[p][v] =
          Isa::addf(values[p][v], Isa::load_bfloat16_some(from + p * map.pixel + v * Isa::kLanes,
                                                          at.lanes(v)));
    }
  } else {
    const auto* from = static_cast<const float*>(map.data) + element;
    if (at.whole()) {
      BINSEG_EACH_VALUE values[p][v] =
          Isa::addf(values[p][v], Isa::loadf(from + p * map.pixel + v * Isa::kLanes));
    } else {
      BINSEG_EACH_VALUE values[p][v] = Isa::addf(
          values[p][v], Isa::loadf_some(from + p * map.pixel + v * Isa::kLanes, at.lanes(v)));
    }
  }
}

template <class Isa, int P, int V>
inline void store_real(const RealMap& map, const Group<Isa, P, V>& at,
                       const typename Isa::Float (&values)[P][V]) {
  const int64_t element = at.element(map);
  if (map.bfloat16) {
    auto* to = static_cast<uint16_t*>(map.data) + element;
    if (at.whole()) {
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) Isa::template store_bfloat16<V>(to + p * map.pixel, values[p]);
    } else {
      BINSEG_EACH_VALUE Isa::store_bfloat16_some(to + p * map.pixel + v * Isa::kLanes,
                                                 values[p][v], at.lanes(v));
    }
  } else {
    auto* to = static_cast<float*>(map.data) + element;
    if (at.whole()) {
      BINSEG_EACH_VALUE Isa::storef(to + p * map.pixel + v * Isa::kLanes, values[p][v]);
    } else {
      BINSEG_EACH_VALUE Isa::storef_some(to + p * map.pixel + v * Isa::kLanes, values[p][v],
                                         at.lanes(v));
    }
  }
}

// The words of V vectors, which are 8, 16, 32 or 64 bits of them; those of channels that do not
// exist become 0.
template <class Isa, int V>
inline void store_mask(const BitMap& map, uint64_t bits, int64_t x, int64_t y, int64_t base,
                       int64_t channel, int64_t count) {
  if (count < V * Isa::kLanes) bits &= count > 0 ? (1ull << count) - 1 : 0;
  auto* to = reinterpret_cast<uint8_t*>(map.data + y * map.row + x * map.pixel + base * map.words) +
             channel / 8;
  __builtin_memcpy(to, &bits, V * Isa::kLanes / 8);
}

template <class Isa, int P, int V>
inline void store_signs(const Finish& f, const Group<Isa, P, V>& at,
                        const typename Isa::Float (&values)[P][V]) {
  typename Isa::Float thresholds[V];
  if (f.threshold) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v)
      thresholds[v] =
          Isa::loadf(f.threshold + at.base * f.base_stride + at.channel + v * Isa::kLanes);
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    uint64_t bits;
    if (f.threshold) {
      typename Isa::Float sums[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[v] = Isa::addf(values[p][v], thresholds[v]);
      bits = Isa::template signs<V>(sums);
    } else {
      bits = Isa::template signs<V>(values[p]);
    }
    store_mask<Isa, V>(f.bits, bits, at.x + p, at.y, at.base, at.channel, at.count);
  }
}

template <class Isa, int P, int V>
inline void store_levels(const ByteMap& map, const Group<Isa, P, V>& at,
                         const typename Isa::Float (&values)[P][V]) {
  const Quantizer<Isa> quantizer(map);
  uint8_t* to =
      map.data + at.y * map.row + at.x * map.pixel + at.base * map.base_step + at.channel;
  BINSEG_EACH_VALUE {
    const int lanes = at.lanes(v);
    uint8_t* here = to + p * map.pixel + v * Isa::kLanes;
    if (lanes > 0) Isa::store_bytes(here, quantizer(values[p][v]), lanes);
    // up to a multiple of four
    for (int64_t i = lanes; lanes > 0 && i % 4 != 0; ++i) here[i] = 0;
  }
}

// Activations that are too long to stand twenty times in every kernel.
template <class Isa>
__attribute__((noinline)) void activate_memory(Act act, float* values, int64_t vectors) {
  for (int64_t i = 0; i < vectors; ++i, values += Isa::kLanes)
    Isa::storef(values, long_activation<Isa>(act, Isa::loadf(values)));
}

template <class Isa, int P, int V>
inline void activate(const Finish& f, const Group<Isa, P, V>& at,
                     typename Isa::Float (&values)[P][V]) {
  if (f.act == Act::kNone) return;
  if (f.act == Act::kRelu) {
    const auto zero = Isa::setf(0.0f);
    BINSEG_EACH_VALUE values[p][v] = Isa::max(zero, values[p][v]);  // nan stays
    return;
  }
  if (f.act == Act::kPrelu || f.act == Act::kRprelu) {
    const int64_t from = at.base * f.base_stride + at.channel;
    const float *before = f.act_tensors[0] + from, *slope = before, *after = before;
    if (f.act == Act::kRprelu) {
      slope = f.act_tensors[1] + from;
      after = f.act_tensors[2] + from;
      BINSEG_EACH_VALUE values[p][v] =
          Isa::addf(values[p][v], Isa::loadf(before + v * Isa::kLanes));
    }
    BINSEG_EACH_VALUE values[p][v] =
        Isa::prelu(values[p][v], Isa::loadf(slope + v * Isa::kLanes));
    if (f.act == Act::kRprelu) {
      BINSEG_EACH_VALUE values[p][v] =
          Isa::addf(values[p][v], Isa::loadf(after + v * Isa::kLanes));
    }
    return;
  }
  alignas(64) float memory[P * V * Isa::kLanes];
  BINSEG_EACH_VALUE Isa::storef(memory + (p * V + v) * Isa::kLanes, values[p][v]);
  activate_memory<Isa>(f.act, memory, P * V);
  BINSEG_EACH_VALUE values[p][v] = Isa::loadf(memory + (p * V + v) * Isa::kLanes);
}

// *Finish*: residual, activation, results.
template <class Isa, int P, int V>
inline void finish_group(const Finish& f, const Group<Isa, P, V>& at,
                         typename Isa::Float (&values)[P][V]) {
  if (f.residual.data) add_residual<Isa, P, V>(f.residual, at, values);
  activate<Isa, P, V>(f, at, values);
  if (f.real.data) store_real<Isa, P, V>(f.real, at, values);
  if (f.bits.data) store_signs<Isa, P, V>(f, at, values);
  if (f.bytes.data) store_levels<Isa, P, V>(f.bytes, at, values);
}

// f(s) of the accumulators.
template <class Isa, int P, int V>
inline void curve_values(const ConvArgs& a, int64_t base, int64_t block, int64_t first,
                         typename Isa::Int (&sums)[P][V], typename Isa::Float (&values)[P][V]) {
  const int64_t from = base * a.channel_base + block * kBlock + first;
  const float *row0 = a.curve.rows[0] + from, *row1 = a.curve.rows[1] + from,
              *row2 = a.curve.rows[2] + from;
  const auto zero = Isa::setf(0.0f);
  const auto at = [](const float* row, int v) { return Isa::loadf(row + v * Isa::kLanes); };
  BINSEG_EACH_VALUE values[p][v] = Isa::to_float(sums[p][v]);
  switch (a.curve.kind) {
    case Curve::kLinear:
      BINSEG_EACH_VALUE values[p][v] = Isa::fma(at(row0, v), values[p][v], at(row2, v));
      break;
    case Curve::kOneSided:  // s is at least 0 where the accumulator is at most 0
      BINSEG_EACH_VALUE values[p][v] =
          Isa::fma(at(row0, v), Isa::min(values[p][v], zero), at(row2, v));
      break;
    case Curve::kTwoSided:
      BINSEG_EACH_VALUE values[p][v] = Isa::fma(
          Isa::select_positive(values[p][v], at(row1, v), at(row0, v)), values[p][v], at(row2, v));
      break;
    case Curve::kTanh: {
      alignas(64) float memory[P * V * Isa::kLanes];
      BINSEG_EACH_VALUE Isa::storef(memory + (p * V + v) * Isa::kLanes,
                                    Isa::mul(at(row1, v), values[p][v]));
      activate_memory<Isa>(Act::kTanh, memory, P * V);
      BINSEG_EACH_VALUE values[p][v] =
          Isa::fma(at(row0, v), Isa::loadf(memory + (p * V + v) * Isa::kLanes), at(row2, v));
      break;
    }
  }
}

// Bits from bits.
template <class Isa>
struct Threshold {
  static constexpr bool kMerges = false;
  const ConvArgs& a;

  Threshold(const ConvArgs& args, Scratch&) : a(args) {}

  template <int P, int V>
  void take(int64_t base, int64_t block, int64_t first, int64_t y, int64_t x,
            typename Isa::Int (&sums)[P][V]) {
    const int64_t channel = block * kBlock + first, from = base * a.channel_base + channel;
    typename Isa::Int low[V], span[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      low[v] = Isa::load(a.low + from + v * Isa::kLanes);
      span[v] = Isa::load(a.span + from + v * Isa::kLanes);
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
      store_mask<Isa, V>(a.finish.bits, Isa::template inside<V>(sums[p], low, span), x + p, y, base,
                         channel, a.out_channels - channel);
  }
  template <int P, int V>
  void finish(int64_t, int64_t, int64_t, int64_t) {}
};

template <class Isa>
struct Real {
  static constexpr bool kMerges = false;
  const ConvArgs& a;

  Real(const ConvArgs& args, Scratch&) : a(args) {}

  template <int P, int V>
  void take(int64_t base, int64_t block, int64_t first, int64_t y, int64_t x,
            typename Isa::Int (&sums)[P][V]) {
    const Group<Isa, P, V> at(a.finish, base, block * kBlock + first, y, x);
    typename Isa::Float values[P][V];
    curve_values<Isa, P, V>(a, base, block, first, sums, values);
    finish_group<Isa, P, V>(a.finish, at, values);
  }
  template <int P, int V>
  void finish(int64_t, int64_t, int64_t, int64_t) {}
};

// All bases of a tile go through a few kilobytes of scratch memory, which stay in the first cache.
template <class Isa>
struct Merge {
  static constexpr bool kMerges = true;
  const ConvArgs& a;
  float* space;  // [base][pixel][64]

  Merge(const ConvArgs& args, Scratch& scratch)
      : a(args), space(scratch.take<float>(args.bases * kLargestTile * kBlock)) {}

  template <int P, int V>
  void take(int64_t base, int64_t block, int64_t first, int64_t y, int64_t x,
            typename Isa::Int (&sums)[P][V]) {
    typename Isa::Float values[P][V];
    curve_values<Isa, P, V>(a, base, block, first, sums, values);
    if (a.merge_residual.data) {
      Group<Isa, P, V> at(a.finish, base, block * kBlock + first, y, x);
      add_residual<Isa, P, V>(a.merge_residual, at, values);
    }
    float* to = space + base * kLargestTile * kBlock + first % kBlock;
    BINSEG_EACH_VALUE Isa::storef(to + p * kBlock + v * Isa::kLanes, values[p][v]);
  }

  template <int P, int V>
  void finish(int64_t block, int64_t first, int64_t y, int64_t x) {
    constexpr int G = V < 4 ? V : 4;
    for (int g = 0; g < V; g += G) {
      const int64_t lane = first + g * Isa::kLanes;
      for (int p = 0; p < P; ++p)
        finish_pixel<G>(space + p * kBlock + lane, block * kBlock + lane, y, x + p);
    }
  }

 private:
  // V vectors of one pixel.
  template <int V>
  void finish_pixel(const float* from, int64_t channel, int64_t y, int64_t x) {
    constexpr int P = 1;
    typename Isa::Float merged[1][V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) merged[0][v] = Isa::setf(0.0f);
    for (int64_t k = 0; k < a.bases; ++k) {
      const auto lambda = Isa::setf(a.lambdas[k]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) merged[0][v] = Isa::fma(lambda, at(from, k, v), merged[0][v]);
    }
    if (!a.gates) {
      finish_group<Isa, P, V>(a.finish, Group<Isa, P, V>(a.finish, 0, channel, y, x), merged);
      return;
    }
    const Group<Isa, P, V> of_merged(a.finish, 0, channel, y, x);
    if (a.merged.data) store_real<Isa, P, V>(a.merged, of_merged, merged);
    if (a.merged_bytes.data) store_levels<Isa, P, V>(a.merged_bytes, of_merged, merged);
    for (int64_t k = 0; k < a.bases; ++k) {
      const auto gate = Isa::setf(a.gates[k]);
      typename Isa::Float mixed[1][V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v)
        mixed[0][v] = Isa::fma(gate, Isa::subf(at(from, k, v), merged[0][v]), merged[0][v]);
      const Group<Isa, P, V> here(a.finish, k, channel, y, x);
      if (a.finish.real.data) store_real<Isa, P, V>(a.finish.real, here, mixed);
      if (a.finish.bits.data) store_signs<Isa, P, V>(a.finish, here, mixed);
    }
  }
  static typename Isa::Float at(const float* from, int64_t base, int v) {
    return Isa::loadf(from + base * kLargestTile * kBlock + v * Isa::kLanes);
  }
};

#undef BINSEG_EACH_VALUE

}  // namespace
}  // namespace binseg
