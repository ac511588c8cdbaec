#include "values.h"

#include "fault.h"

namespace binseg {

int64_t Value::lay_out() {
  const int64_t channels = type.channels_of_base();
  switch (type.kind) {
    case ValueKind::kImage:
      step = pixel = 3;
      break;
    case ValueKind::kReal:
      step = 0;
      pixel = type.channels * element_bytes();
      break;
    case ValueKind::kBits:
      step = divide_up(channels, 32) * 4;
      pixel = type.bases * step;
      break;
    case ValueKind::kBytes:
      step = up_to_multiple(channels, 4);
      pixel = type.bases * step;
      break;
  }
  row = times(plus(width, border.left + border.right), pixel);
  return times(row, height);
}

RealMap Value::real(int64_t channels) const {
  return {data, row / element_bytes(), pixel / element_bytes(), channels, type.bfloat16};
}

RealMap Value::spread() const { return {data, 0, 0, 0, type.bfloat16}; }

BitMap Value::bits() const {
  return {reinterpret_cast<uint32_t*>(data), row / 4, pixel / 4, step / 4};
}

ByteMap Value::bytes() const {
  return {data, row, pixel, step, type.inverse_scale, type.zero_point};
}

}  // namespace binseg
