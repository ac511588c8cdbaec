#include "model_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "fault.h"
#include "sorting.h"

namespace binseg {
namespace {

constexpr uint64_t kLargestHeader = 16 << 20;
constexpr int kFormat = 2;

struct DtypeName {
  const char* name;
  Dtype dtype;
  int64_t bytes;
};
constexpr DtypeName kDtypes[] = {
    {"F32", Dtype::kF32, 4}, {"BF16", Dtype::kBf16, 2}, {"I32", Dtype::kI32, 4},
    {"I16", Dtype::kI16, 2}, {"I8", Dtype::kI8, 1},     {"U8", Dtype::kU8, 1},
};

// Eight tables, for eight bytes a step.
constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0);
    tables[0][i] = c;
  }
  for (size_t t = 1; t < 8; ++t)
    for (uint32_t i = 0; i < 256; ++i)
      tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
  return tables;
}();

int64_t offset(const Json& number, int64_t most) {
  if (number.kind != Json::kNumber || number.number < 0 ||
      number.number > static_cast<double>(most) || number.number != std::floor(number.number))
    fail("the header gives a tensor a size or place that does not exist");
  return static_cast<int64_t>(number.number);
}

bool is_finite(const Tensor& tensor) {
  if (tensor.dtype != Dtype::kF32 && tensor.dtype != Dtype::kBf16) return true;
  const int64_t bytes = tensor.dtype == Dtype::kF32 ? 4 : 2;
  for (const uint8_t* last = tensor.data + bytes - 1; last < tensor.data + tensor.count * bytes;
       last += bytes)
    if ((last[0] & 0x7F) == 0x7F && (last[-1] & 0x80)) return false;
  return true;
}

Tensor read_tensor(const std::string& name, const Json& json, const uint8_t* data, int64_t room,
                   std::pair<int64_t, int64_t>& range) {
  const Json *dtype = json.get("dtype"), *shape = json.get("shape"),
             *offsets = json.get("data_offsets");
  if (!dtype || dtype->kind != Json::kString || !shape || shape->kind != Json::kArray || !offsets ||
      offsets->kind != Json::kArray || offsets->items.size() != 2 || json.keys.size() != 3)
    fail("tensor '" + name + "' has no dtype, shape and data_offsets");
  const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const DtypeName& d) { return d.name == dtype->text; });
  if (known == std::end(kDtypes))
    fail("tensor '" + name + "' has the unknown dtype " + dtype->text);
  Tensor tensor{known->dtype, {}, 1, nullptr};
  for (const Json& side : shape->items) {
    tensor.shape.push_back(offset(side, room));
    tensor.count = times(tensor.count, tensor.shape.back());
  }
  range = {offset(offsets->items[0], room), offset(offsets->items[1], room)};
  if (range.first > range.second || range.second - range.first != times(tensor.count, known->bytes))
    fail("tensor '" + name + "' has a shape that its bytes do not fill");
  tensor.data = data + range.first;
  if (!is_finite(tensor)) fail("tensor '" + name + "' holds nan or infinity");
  return tensor;
}

void check_sum(const Json& outer, const uint8_t* file, size_t bytes) {
  const Json* sum = outer.get("crc32");
  if (!sum || sum->kind != Json::kString || sum->text.size() != 8) fail("the file has no checksum");
  constexpr uint8_t kZeros[] = {'0', '0', '0', '0', '0', '0', '0', '0'};
  const size_t at = 8 + sum->at;
  if (at + 8 > bytes || std::memcmp(file + at, sum->text.data(), 8) != 0)
    fail("the file's checksum is not written in plain digits");
  uint32_t crc = crc32(0, file, at);
  crc = crc32(crc, kZeros, 8);
  crc = crc32(crc, file + at + 8, bytes - at - 8);
  constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < 8; ++i)
    if (sum->text[i] != kDigits[crc >> (28 - 4 * i) & 15])
      fail("the file is damaged: its checksum does not fit; copy or download it again");
}

Preprocessing read_preprocessing(const Json* json) {
  if (!json || json->kind != Json::kObject) fail("the header has no preprocessing");
  Preprocessing result{};
  const auto three = [&](const char* key, double* to) {
    const Json* values = json->get(key);
    if (!values || values->kind != Json::kArray || values->items.size() != 3)
      fail(std::string("preprocessing has no three numbers ") + key);
    for (size_t i = 0; i < 3; ++i) {
      if (values->items[i].kind != Json::kNumber)
        fail(std::string("preprocessing has no three numbers ") + key);
      to[i] = values->items[i].number;
    }
  };
  three("mean", result.mean);
  three("std", result.deviation);
  const Json* side = json->get("short_side");
  if (side && side->kind != Json::kNull) {
    if (side->kind != Json::kNumber || !(side->number >= 1 && side->number <= 65535) ||
        side->number != std::floor(side->number))
      fail("preprocessing has a short_side that is no integer from 1 to 65535");
    result.short_side = static_cast<int64_t>(side->number);
  }
  return result;
}

}  // namespace

uint32_t crc32(uint32_t crc, const uint8_t* data, size_t bytes) {
  const auto& t = kCrcTables;
  crc = ~crc;
  for (; bytes >= 8; bytes -= 8, data += 8) {
    crc = t[7][(crc ^ data[0]) & 255] ^ t[6][(crc >> 8 ^ data[1]) & 255] ^
          t[5][(crc >> 16 ^ data[2]) & 255] ^ t[4][crc >> 24 ^ data[3]] ^ t[3][data[4]] ^
          t[2][data[5]] ^ t[1][data[6]] ^ t[0][data[7]];
  }
  for (; bytes > 0; --bytes, ++data) crc = t[0][(crc ^ *data) & 255] ^ crc >> 8;
  return ~crc;
}

ModelFile read_model_file(const uint8_t* file, size_t bytes) {
  uint64_t length = 0;
  if (bytes < 8) fail("the file is not a safetensors file: it is too short");
  for (int i = 0; i < 8; ++i) length |= static_cast<uint64_t>(file[i]) << (8 * i);
  if (length > bytes - 8) fail("the file is not a safetensors file, or is cut short");
  if (length > kLargestHeader) fail("the file's header is larger than 16 MiB");
  const Json outer = read_json(
      {reinterpret_cast<const char*>(file) + 8, static_cast<size_t>(length)}, "the header");
  const Json* metadata = outer.get("__metadata__");
  const Json* text = metadata ? metadata->get("binseg") : nullptr;
  if (!text || text->kind != Json::kString) fail("the file holds no binseg model");
  const Json header = read_json(text->text, "the model's description");
  const Json *format = header.get("format"), *kind = header.get("kind"),
             *program = header.get("program");
  if (!format || format->kind != Json::kNumber || format->number != kFormat)
    fail("the file is of another format than 2; pack the network again with this version");
  if (!kind || kind->kind != Json::kString || kind->text != "packed")
    fail("the file holds no packed network; make one with `binseg pack`");
  check_sum(*metadata, file, bytes);
  if (!program || program->kind != Json::kObject) fail("the file holds no program");

  ModelFile model{*program, read_preprocessing(header.get("preprocessing")), {}};
  const uint8_t* data = file + 8 + length;
  const auto room = static_cast<int64_t>(bytes - 8 - length);
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (size_t i = 0; i < outer.keys.size(); ++i) {
    if (outer.keys[i] == "__metadata__") continue;
    ranges.emplace_back();
    model.tensors[outer.keys[i]] =
        read_tensor(outer.keys[i], outer.items[i], data, room, ranges.back());
  }
  sort(ranges);
  int64_t end = 0;
  for (const auto& range : ranges) {
    if (range.first != end) fail("the file's tensors overlap, or leave bytes between them");
    end = range.second;
  }
  if (end != room) fail("the file has bytes that belong to no tensor, or is cut short");
  return model;
}

}  // namespace binseg
