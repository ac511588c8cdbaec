// For instruction sets that look up how many bits differ (Arrangement::kUnpacked): the tables, and
// rows of the input in the form that chooses among them.
#pragma once

#include "conv.h"

namespace binseg {
namespace {

struct NibbleTables {
  alignas(64) uint8_t differ[256];  // [activations][weights]
};
constexpr NibbleTables make_tables() {
  NibbleTables tables{};
  for (int a = 0; a < 16; ++a)
    for (int w = 0; w < 16; ++w)
      tables.differ[a * 16 + w] =
          static_cast<uint8_t>(__builtin_popcount(static_cast<unsigned>(a ^ w)));
  return tables;
}
constexpr NibbleTables kTables = make_tables();

// bytes between inputs of neighbouring outputs, in a row of UnpackedRows
inline int64_t unpacked_step(const ConvArgs& a) {
  return a.pixel_step / a.pixel * 2 * a.base_bytes;
}

// Rows of the input with two bytes for each byte. Bits: each is the place of a table, 16 * (four
// activations). Bytes: numbers of 16 bits.
template <class Isa, bool Bytes>
class UnpackedRows {
 public:
  UnpackedRows(const ConvArgs& a, Scratch& scratch) : a_(a), length_(unpacked_row_bytes(a)) {
    const int64_t most = most_unpacked_rows(a);
    packed_ = scratch.take<const uint8_t*>(most);
    rows_ = scratch.take<uint8_t>(most * length_);
  }
  void clear() { count_ = 0; }
  const uint8_t* find(const uint8_t* row, int64_t offset) {
    // no other bases lie between those of this one
    const int64_t at = (a_.border_left + offset / a_.pixel) * 2 * a_.base_bytes;
    for (int64_t i = count_ - 1; i >= 0; --i)
      if (packed_[i] == row) return rows_ + i * length_ + at;
    packed_[count_] = row;
    uint8_t* const to = rows_ + count_++ * length_;
    unpack(row, to);
    return to + at;
  }

 private:
  const ConvArgs& a_;
  int64_t length_, count_ = 0;
  const uint8_t** packed_;
  uint8_t* rows_;

  static void unpack_some(const uint8_t* from, uint8_t* to, int64_t bytes) {
    for (; bytes >= 16; bytes -= 16, from += 16, to += 32) Isa::template unpack16<Bytes>(from, to);
    for (; bytes > 0; --bytes, ++from, to += 2) {
      to[0] = static_cast<uint8_t>(Bytes ? *from : *from << 4);
      to[1] = Bytes ? 0 : *from & 0xF0;
    }
  }
  void unpack(const uint8_t* row, uint8_t* to) const {
    const int64_t pixels = a_.border_left + a_.in_width + a_.border_right;
    const uint8_t* from = row - a_.border_left * a_.pixel;
    if (a_.base_bytes == a_.pixel) return unpack_some(from, to, pixels * a_.pixel);
    for (int64_t p = 0; p < pixels; ++p)
      unpack_some(from + p * a_.pixel, to + p * 2 * a_.base_bytes, a_.base_bytes);
  }
};

}  // namespace
}  // namespace binseg
