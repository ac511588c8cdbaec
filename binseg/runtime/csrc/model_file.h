// The file of docs/program.md, part 1: safetensors with a header of JSON and a checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "json.h"

namespace binseg {

enum class Dtype { kF32, kBf16, kI32, kI16, kI8, kU8 };

struct Tensor {
  Dtype dtype;
  std::vector<int64_t> shape;
  int64_t count;        // elements
  const uint8_t* data;  // in the file, at no particular alignment
};

struct Preprocessing {
  double mean[3], deviation[3];
  int64_t short_side;  // 0: images are not resized
};

struct ModelFile {
  Json program;
  Preprocessing preprocessing;
  std::map<std::string, Tensor> tensors;
};

// Tensors point into `file`. Fails unless the file is whole, a program, and of this format.
ModelFile read_model_file(const uint8_t* file, size_t bytes);

// The CRC-32 of zlib and PNG, continued: 0 begins it.
uint32_t crc32(uint32_t crc, const uint8_t* data, size_t bytes);

}  // namespace binseg
