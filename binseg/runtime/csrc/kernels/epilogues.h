// What becomes of the sums of a tile while they are in registers.
#pragma once

#include "arithmetic.h"
#include "conv.h"

namespace binseg {
namespace {

struct Place {
  int64_t y, x, base, channel, count;
};

// A group of V vectors of channels of P pixels, and where it lies.
template <class Isa, int P, int V>
struct Group {
  int64_t y, x, base, channel;  // channel: first of the group, of its base
  int64_t count;                // channels that exist, more than V * kLanes or less than one too

  Group(const Finish& f, int64_t base, int64_t channel, int64_t y, int64_t x)
      : y(y), x(x), base(base), channel(channel), count(f.channels - channel) {}
  bool whole() const { return count >= V * Isa::kLanes; }
  int64_t element(const RealMap& map) const {
    return y * map.row + x * map.pixel + base * map.base_step + channel;
  }
  Place place() const { return {y, x, base, channel, count}; }
};

// f(pixel, vector) for every vector of a group.
template <int P, int V, class F>
inline BINSEG_INLINE void each_value(F&& f) {
  unroll<P>([&](auto p) BINSEG_INLINE { unroll<V>([&](auto v) BINSEG_INLINE { f(p, v); }); });
}

template <class Isa, int P, int V>
inline BINSEG_INLINE void to_memory(const typename Isa::Float (&values)[P][V], float* to) {
  each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
    Isa::storef(to + (p * V + v) * Isa::kLanes, values[p][v]);
  });
}

// Asks for what will be added to `vectors` vectors of P pixels, before their sums are made: the
// caches answer meanwhile.
template <class Isa>
inline BINSEG_INLINE void prefetch_residual(const RealMap& map, int64_t base, int64_t channel,
                                            int64_t y, int64_t x, int64_t pixels, int64_t vectors) {
  const int64_t size = map.bfloat16 ? 2 : 4, of_pixel = map.pixel * size;
  const char* from = static_cast<const char*>(map.data) +
                     (y * map.row + x * map.pixel + base * map.base_step + channel) * size;
  const int64_t bytes = vectors * Isa::kLanes * size;
  for (int64_t p = 0; p < pixels; ++p, from += of_pixel)
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i);
}

// What is written here stands in every kernel, and only for groups all of whose channels exist; the
// rest goes through memory, below.
template <class Isa, int P, int V>
inline BINSEG_INLINE void add_residual(const RealMap& map, const Group<Isa, P, V>& at,
                                       typename Isa::Float (&values)[P][V]) {
  const int64_t element = at.element(map), pixel = map.pixel;
  if (map.bfloat16) {
    const auto* from = static_cast<const uint16_t*>(map.data) + element;
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      values[p][v] =
          Isa::addf(values[p][v], Isa::load_bfloat16(from + p * pixel + v * Isa::kLanes));
    });
  } else {
    const auto* from = static_cast<const float*>(map.data) + element;
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      values[p][v] = Isa::addf(values[p][v], Isa::loadf(from + p * pixel + v * Isa::kLanes));
    });
  }
}

template <class Isa, int P, int V>
inline BINSEG_INLINE void store_real(const RealMap& map, const Group<Isa, P, V>& at,
                                     const typename Isa::Float (&values)[P][V]) {
  const int64_t element = at.element(map), pixel = map.pixel;
  if (map.bfloat16) {
    auto* to = static_cast<uint16_t*>(map.data) + element;
    unroll<P>([&](auto p)
                  BINSEG_INLINE { Isa::template store_bfloat16<V>(to + p * pixel, values[p]); });
  } else {
    auto* to = static_cast<float*>(map.data) + element;
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      Isa::storef(to + p * pixel + v * Isa::kLanes, values[p][v]);
    });
  }
}

// The words of V vectors, which are 8, 16, 32 or 64 bits of them; those of channels that do not
// exist become 0.
template <class Isa, int V>
inline BINSEG_INLINE void store_mask(const BitMap& map, uint64_t bits, int64_t x, int64_t y,
                                     int64_t base, int64_t channel, int64_t count) {
  if (count < V * Isa::kLanes) bits &= count > 0 ? (1ull << count) - 1 : 0;
  auto* to = reinterpret_cast<uint8_t*>(map.data + y * map.row + x * map.pixel + base * map.words) +
             channel / 8;
  __builtin_memcpy(to, &bits, V * Isa::kLanes / 8);
}

template <class Isa, int P, int V>
inline BINSEG_INLINE void store_signs(const Finish& f, const Group<Isa, P, V>& at,
                                      const typename Isa::Float (&values)[P][V]) {
  if (f.threshold) {
    const float* from = f.threshold + at.base * f.base_stride + at.channel;
    typename Isa::Float thresholds[V];
    unroll<V>([&](auto v) BINSEG_INLINE { thresholds[v] = Isa::loadf(from + v * Isa::kLanes); });
    unroll<P>([&](auto p) BINSEG_INLINE {
      typename Isa::Float sums[V];
      unroll<V>([&](auto v) BINSEG_INLINE { sums[v] = Isa::addf(values[p][v], thresholds[v]); });
      store_mask<Isa, V>(f.bits, Isa::template signs<V>(sums), at.x + p, at.y, at.base, at.channel,
                         at.count);
    });
  } else {
    unroll<P>([&](auto p) BINSEG_INLINE {
      store_mask<Isa, V>(f.bits, Isa::template signs<V>(values[p]), at.x + p, at.y, at.base,
                         at.channel, at.count);
    });
  }
}

template <class Isa, int P, int V>
inline BINSEG_INLINE void activate(const Finish& f, const Group<Isa, P, V>& at,
                                   typename Isa::Float (&values)[P][V]) {
  if (f.act == Act::kRelu) {
    const auto zero = Isa::setf(0.0f);
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      values[p][v] = Isa::max(zero, values[p][v]);  // nan stays
    });
  } else if (f.act == Act::kPrelu || f.act == Act::kRprelu) {
    const int64_t from = at.base * f.base_stride + at.channel;
    const bool shifts = f.act == Act::kRprelu;
    const auto add = [&](const float* shift) BINSEG_INLINE {
      each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
        values[p][v] = Isa::addf(values[p][v], Isa::loadf(shift + v * Isa::kLanes));
      });
    };
    if (shifts) add(f.act_tensors[0] + from);
    const float* slope = f.act_tensors[shifts ? 1 : 0] + from;
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      values[p][v] = Isa::prelu(values[p][v], Isa::loadf(slope + v * Isa::kLanes));
    });
    if (shifts) add(f.act_tensors[2] + from);
  }
}

// The same for `pixels` pixels of `vectors` vectors in memory, whatever they need. `count` channels
// exist.
inline int lanes_of(int64_t count, int64_t vector, int lanes) {
  const int64_t left = count - vector * lanes;
  return left >= lanes ? lanes : left > 0 ? static_cast<int>(left) : 0;
}

template <class Isa>
__attribute__((noinline)) void add_residual_memory(const RealMap& map, const Place& at,
                                                   int64_t pixels, int64_t vectors, float* values) {
  for (int64_t p = 0; p < pixels; ++p) {
    const int64_t element =
        at.y * map.row + (at.x + p) * map.pixel + at.base * map.base_step + at.channel;
    for (int64_t v = 0; v < vectors; ++v, values += Isa::kLanes) {
      const int lanes = lanes_of(at.count, v, Isa::kLanes);
      const int64_t from = element + v * Isa::kLanes;
      const auto residual =
          map.bfloat16
              ? Isa::load_bfloat16_some(static_cast<const uint16_t*>(map.data) + from, lanes)
              : Isa::loadf_some(static_cast<const float*>(map.data) + from, lanes);
      Isa::storef(values, Isa::addf(Isa::loadf(values), residual));
    }
  }
}

template <class Isa>
__attribute__((noinline)) void store_real_memory(const RealMap& map, const Place& at,
                                                 int64_t pixels, int64_t vectors,
                                                 const float* values) {
  for (int64_t p = 0; p < pixels; ++p) {
    const int64_t element =
        at.y * map.row + (at.x + p) * map.pixel + at.base * map.base_step + at.channel;
    for (int64_t v = 0; v < vectors; ++v, values += Isa::kLanes) {
      const int lanes = lanes_of(at.count, v, Isa::kLanes);
      const int64_t to = element + v * Isa::kLanes;
      if (map.bfloat16) {
        Isa::store_bfloat16_some(static_cast<uint16_t*>(map.data) + to, Isa::loadf(values), lanes);
      } else {
        Isa::storef_some(static_cast<float*>(map.data) + to, Isa::loadf(values), lanes);
      }
    }
  }
}

template <class Isa>
__attribute__((noinline)) void store_bytes_memory(const ByteMap& map, const Place& at,
                                                  int64_t pixels, int64_t vectors,
                                                  const float* values) {
  const Quantizer<Isa> quantizer(map);
  for (int64_t p = 0; p < pixels; ++p) {
    uint8_t* to =
        map.data + at.y * map.row + (at.x + p) * map.pixel + at.base * map.base_step + at.channel;
    for (int64_t v = 0; v < vectors; ++v, values += Isa::kLanes, to += Isa::kLanes) {
      const int lanes = lanes_of(at.count, v, Isa::kLanes);
      if (lanes == 0) continue;
      Isa::store_bytes(to, quantizer(Isa::loadf(values)), lanes);
      for (int i = lanes; i % 4 != 0; ++i) to[i] = 0;
    }
  }
}

template <class Isa, int V>
__attribute__((noinline)) void store_signs_memory(const Finish& f, const Place& at, int64_t pixels,
                                                  const float* values) {
  const int64_t from = at.base * f.base_stride + at.channel;
  for (int64_t p = 0; p < pixels; ++p, values += V * Isa::kLanes) {
    typename Isa::Float sums[V];
    unroll<V>([&](auto v) BINSEG_INLINE {
      sums[v] = Isa::loadf(values + v * Isa::kLanes);
      if (f.threshold)
        sums[v] = Isa::addf(sums[v], Isa::loadf(f.threshold + from + v * Isa::kLanes));
    });
    store_mask<Isa, V>(f.bits, Isa::template signs<V>(sums), at.x + p, at.y, at.base, at.channel,
                       at.count);
  }
}

template <class Isa>
__attribute__((noinline)) void activate_memory(const Finish& f, const Place& at, int64_t pixels,
                                               int64_t vectors, float* values) {
  const int64_t from = at.base * f.base_stride + at.channel;
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t v = 0; v < vectors; ++v, values += Isa::kLanes) {
      auto value = Isa::loadf(values);
      const auto tensor = [&](int i) {
        return Isa::loadf(f.act_tensors[i] + from + v * Isa::kLanes);
      };
      if (f.act == Act::kPrelu) {
        value = Isa::prelu(value, tensor(0));
      } else if (f.act == Act::kRprelu) {
        value = Isa::addf(Isa::prelu(Isa::addf(value, tensor(0)), tensor(1)), tensor(2));
      } else {
        value = long_activation<Isa>(f.act, value);
      }
      Isa::storef(values, value);
    }
  }
}

template <class Isa, int V>
__attribute__((noinline)) void finish_memory(const Finish& f, const Place& at, int64_t pixels,
                                             float* values) {
  if (f.residual.data) add_residual_memory<Isa>(f.residual, at, pixels, V, values);
  if (f.act != Act::kNone) activate_memory<Isa>(f, at, pixels, V, values);
  if (f.real.data) store_real_memory<Isa>(f.real, at, pixels, V, values);
  if (f.bits.data) store_signs_memory<Isa, V>(f, at, pixels, values);
  if (f.bytes.data) store_bytes_memory<Isa>(f.bytes, at, pixels, V, values);
}

// *Finish*: residual, activation, results.
template <class Isa, int P, int V>
inline BINSEG_INLINE void finish_group(const Finish& f, const Group<Isa, P, V>& at,
                                       typename Isa::Float (&values)[P][V]) {
  const bool usual =
      f.act == Act::kNone || f.act == Act::kRelu || f.act == Act::kPrelu || f.act == Act::kRprelu;
  if (!at.whole() || !usual || f.bytes.data) {
    alignas(64) float memory[P * V * Isa::kLanes];
    to_memory<Isa, P, V>(values, memory);
    return finish_memory<Isa, V>(f, at.place(), P, memory);
  }
  if (f.residual.data) add_residual<Isa, P, V>(f.residual, at, values);
  activate<Isa, P, V>(f, at, values);
  if (f.real.data) store_real<Isa, P, V>(f.real, at, values);
  if (f.bits.data) store_signs<Isa, P, V>(f, at, values);
}

template <class Isa>
__attribute__((noinline)) void tanh_memory(float* values, int64_t vectors) {
  for (int64_t i = 0; i < vectors; ++i, values += Isa::kLanes)
    Isa::storef(values, tanh_of<Isa>(Isa::loadf(values)));
}

// f(s) of the accumulators.
template <class Isa, int P, int V>
inline BINSEG_INLINE void curve_values(const ConvArgs& a, int64_t base, int64_t block,
                                       int64_t first, typename Isa::Int (&sums)[P][V],
                                       typename Isa::Float (&values)[P][V]) {
  const int64_t from = base * a.channel_base + block * kBlock + first;
  const float *row0 = a.curve.rows[0] + from, *row1 = a.curve.rows[1] + from,
              *row2 = a.curve.rows[2] + from;
  const auto zero = Isa::setf(0.0f);
  const auto at = [](const float* row, int v)
                      BINSEG_INLINE { return Isa::loadf(row + v * Isa::kLanes); };
  each_value<P, V>([&](auto p, auto v) BINSEG_INLINE { values[p][v] = Isa::to_float(sums[p][v]); });
  if (a.curve.kind == Curve::kTwoSided) {  // s is at least 0 where the accumulator is at most 0
    unroll<V>([&](auto v) BINSEG_INLINE {
      const auto above = at(row0, v), below = at(row1, v), plus = at(row2, v);
      unroll<P>([&](auto p) BINSEG_INLINE {
        const auto slope = Isa::select_positive(values[p][v], below, above);
        values[p][v] = Isa::fma(slope, values[p][v], plus);
      });
    });
    return;
  }
  if (a.curve.kind == Curve::kOneSided) {
    each_value<P, V>([&](auto p, auto v)
                         BINSEG_INLINE { values[p][v] = Isa::min(values[p][v], zero); });
  } else if (a.curve.kind == Curve::kTanh) {
    alignas(64) float memory[P * V * Isa::kLanes];
    each_value<P, V>([&](auto p, auto v)
                         BINSEG_INLINE { values[p][v] = Isa::mul(at(row1, v), values[p][v]); });
    to_memory<Isa, P, V>(values, memory);
    tanh_memory<Isa>(memory, P * V);
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      values[p][v] = Isa::loadf(memory + (p * V + v) * Isa::kLanes);
    });
  }
  unroll<V>([&](auto v) BINSEG_INLINE {
    const auto times = at(row0, v), plus = at(row2, v);
    unroll<P>([&](auto p) BINSEG_INLINE { values[p][v] = Isa::fma(times, values[p][v], plus); });
  });
}

// Bits from bits.
template <class Isa>
struct Threshold {
  static constexpr bool kMerges = false;
  const ConvArgs& a;

  Threshold(const ConvArgs& args, Scratch&) : a(args) {}

  void prefetch(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) {}

  template <int P, int V>
  BINSEG_INLINE void take(int64_t base, int64_t block, int64_t first, int64_t y, int64_t x,
                          typename Isa::Int (&sums)[P][V]) {
    const int64_t channel = block * kBlock + first, from = base * a.channel_base + channel;
    typename Isa::Int low[V], span[V];
    unroll<V>([&](auto v) BINSEG_INLINE {
      low[v] = Isa::load(a.low + from + v * Isa::kLanes);
      span[v] = Isa::load(a.span + from + v * Isa::kLanes);
    });
    unroll<P>([&](auto p) BINSEG_INLINE {
      store_mask<Isa, V>(a.finish.bits, Isa::template inside<V>(sums[p], low, span), x + p, y, base,
                         channel, a.out_channels - channel);
    });
  }
  template <int P, int V>
  void finish(int64_t, int64_t, int64_t, int64_t) {}
};

template <class Isa>
struct Real {
  static constexpr bool kMerges = false;
  const ConvArgs& a;

  Real(const ConvArgs& args, Scratch&) : a(args) {}

  BINSEG_INLINE void prefetch(int64_t base, int64_t channel, int64_t y, int64_t x, int64_t pixels,
                              int64_t vectors) {
    if (a.finish.residual.data)
      prefetch_residual<Isa>(a.finish.residual, base, channel, y, x, pixels, vectors);
  }

  template <int P, int V>
  BINSEG_INLINE void take(int64_t base, int64_t block, int64_t first, int64_t y, int64_t x,
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

  BINSEG_INLINE void prefetch(int64_t base, int64_t channel, int64_t y, int64_t x, int64_t pixels,
                              int64_t vectors) {
    if (a.merge_residual.data)
      prefetch_residual<Isa>(a.merge_residual, base, channel, y, x, pixels, vectors);
  }

  template <int P, int V>
  BINSEG_INLINE void take(int64_t base, int64_t block, int64_t first, int64_t y, int64_t x,
                          typename Isa::Int (&sums)[P][V]) {
    typename Isa::Float values[P][V];
    curve_values<Isa, P, V>(a, base, block, first, sums, values);
    const Group<Isa, P, V> at(a.finish, base, block * kBlock + first, y, x);
    const Act act = a.branch.act;
    if (a.merge_residual.data || act != Act::kNone) {
      const bool usual =
          act == Act::kNone || act == Act::kRelu || act == Act::kPrelu || act == Act::kRprelu;
      if (at.whole() && usual) {
        if (a.merge_residual.data) add_residual<Isa, P, V>(a.merge_residual, at, values);
        activate<Isa, P, V>(a.branch, at, values);
      } else {
        alignas(64) float memory[P * V * Isa::kLanes];
        to_memory<Isa, P, V>(values, memory);
        if (a.merge_residual.data)
          add_residual_memory<Isa>(a.merge_residual, at.place(), P, V, memory);
        if (act != Act::kNone) activate_memory<Isa>(a.branch, at.place(), P, V, memory);
        each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
          values[p][v] = Isa::loadf(memory + (p * V + v) * Isa::kLanes);
        });
      }
    }
    float* to = space + base * kLargestTile * kBlock + first;
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
      Isa::storef(to + p * kBlock + v * Isa::kLanes, values[p][v]);
    });
  }

  template <int P, int V>
  BINSEG_INLINE void finish(int64_t block, int64_t first, int64_t y, int64_t x) {
    constexpr int G = V < 2 ? V : 2, Q = P < Isa::kMergePixels ? P : Isa::kMergePixels;
    for (int g = 0; g < V; g += G) {
      const int64_t lane = first + g * Isa::kLanes, channel = block * kBlock + lane;
      int p = 0;
      for (; p + Q <= P; p += Q) finish_pixels<Q, G>(space + p * kBlock + lane, channel, y, x + p);
      if constexpr (P % Q != 0) {
        for (; p < P; ++p) finish_pixels<1, G>(space + p * kBlock + lane, channel, y, x + p);
      }
    }
  }

 private:
  // V vectors of P pixels.
  template <int P, int V>
  void finish_pixels(const float* from, int64_t channel, int64_t y, int64_t x) {
    typename Isa::Float merged[P][V];
    each_value<P, V>([&](auto p, auto v) BINSEG_INLINE { merged[p][v] = Isa::setf(0.0f); });
    for (int64_t k = 0; k < a.bases; ++k) {
      const auto lambda = Isa::setf(a.lambdas[k]);
      each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
        merged[p][v] = Isa::fma(lambda, at(from, k, p, v), merged[p][v]);
      });
    }
    const Group<Isa, P, V> here(a.finish, 0, channel, y, x);
    if (!a.gates) return finish_group<Isa, P, V>(a.finish, here, merged);
    if (a.merged.data || a.merged_bytes.data) store_merged<P, V>(here.place(), merged);
    for (int64_t k = 0; k < a.bases; ++k) {
      const auto gate = Isa::setf(a.gates[k]);
      typename Isa::Float mixed[P][V];
      each_value<P, V>([&](auto p, auto v) BINSEG_INLINE {
        mixed[p][v] = Isa::fma(gate, Isa::subf(at(from, k, p, v), merged[p][v]), merged[p][v]);
      });
      finish_group<Isa, P, V>(a.finish, Group<Isa, P, V>(a.finish, k, channel, y, x), mixed);
    }
  }
  template <int P, int V>
  void store_merged(const Place& here, const typename Isa::Float (&merged)[P][V]) {
    alignas(64) float memory[P * V * Isa::kLanes];
    to_memory<Isa, P, V>(merged, memory);
    if (a.merged.data) store_real_memory<Isa>(a.merged, here, P, V, memory);
    if (a.merged_bytes.data) store_bytes_memory<Isa>(a.merged_bytes, here, P, V, memory);
  }
  static BINSEG_INLINE typename Isa::Float at(const float* from, int64_t base, int p, int v) {
    return Isa::loadf(from + (base * kLargestTile + p) * kBlock + v * Isa::kLanes);
  }
};

}  // namespace
}  // namespace binseg
