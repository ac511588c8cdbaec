// The C API: arguments are checked here, and no exception passes.
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "binseg.h"
#include "fault.h"
#include "interpolation.h"
#include "network.h"
#include "resize_image.h"

struct binseg_network {
  std::string error;
  std::unique_ptr<binseg::Network> network;  // null: it could not be opened
  std::vector<float> scores;
};

namespace binseg {
namespace {

constexpr int kMostThreads = 256;
constexpr char kNan[] = "the network's scores hold nan: its weights are damaged";

// Runs f, and turns what it throws into an error of the handle.
template <class F>
int guarded(binseg_network* handle, int code, F&& f) {
  if (!handle) return BINSEG_BAD_ARGUMENT;
#ifdef __cpp_exceptions
  try {
    handle->error.clear();
    return f();
  } catch (const Fault& fault) {
    handle->error.assign(fault.text);
    return code;
  } catch (const std::bad_alloc&) {
    handle->error.assign("out of memory");
    return BINSEG_NO_MEMORY;
  } catch (...) {
    handle->error.assign("an internal error");
    return code;
  }
#else
  static_cast<void>(code);
  handle->error.clear();
  return f();
#endif
}

int bad_argument(binseg_network* handle, const char* why) {
  handle->error.assign(why);
  return BINSEG_BAD_ARGUMENT;
}

// Null if the image is one.
const char* fault_of_image(const uint8_t* rgb, int64_t height, int64_t width, int64_t row_bytes) {
  if (!rgb) return "the image is a null pointer";
  if (height < 1 || width < 1) return "the image is empty";
  if (height > kLargestSide || width > kLargestSide || height * width > kMostPixels)
    return "the image is too large: a side may have 65,535 pixels, the whole 268,435,456";
  if (row_bytes < 3 * width) return "the image's rows overlap: row_bytes is smaller than 3 * width";
  if (row_bytes > INT64_MAX / kLargestSide) return "row_bytes is too large";
  return nullptr;
}

// Resizes the image into the network's input, and runs it.
void run(Network& network, const ImageView& image, bool resize) {
  int64_t height = image.height, width = image.width;
  if (resize && network.preprocessing.short_side)
    short_side_size(height, width, network.preprocessing.short_side);
  network.prepare(height, width);
  resize_image(image, network.image(), height, width, network.image_row(), network.kernels().shrink,
               network.pool());
  network.run();
}

// The output as float32 without gaps; `space` is used where it is not stored like that.
const float* scores_of(const Network& network, std::vector<float>& space) {
  const Value& value = network.output();
  const RealMap map = value.real(0);
  const int64_t classes = value.type.channels;
  if (!map.bfloat16 && map.pixel == classes && map.row == value.width * classes)
    return static_cast<const float*>(map.data);
  space.resize(static_cast<size_t>(value.height * value.width * classes));
  float* to = space.data();
  for (int64_t y = 0; y < value.height; ++y) {
    for (int64_t x = 0; x < value.width; ++x, to += classes) {
      const int64_t at = y * map.row + x * map.pixel;
      for (int64_t c = 0; c < classes; ++c) {
        if (map.bfloat16) {
          const uint32_t bits =
              static_cast<uint32_t>(static_cast<const uint16_t*>(map.data)[at + c]) << 16;
          std::memcpy(to + c, &bits, sizeof bits);
        } else {
          to[c] = static_cast<const float*>(map.data)[at + c];
        }
      }
    }
  }
  return space.data();
}

// The largest absolute value, or nan if there is one: of numbers, seen as integers, in their order.
float largest(const float* scores, int64_t count) {
  uint32_t most = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(scores[i]) & 0x7FFFFFFF;
    most = bits > most ? bits : most;
  }
  return std::bit_cast<float>(most);
}

// Fails on nan.
void upsample_argmax(Network& network, const float* scores, int64_t in_height, int64_t in_width,
                     int64_t classes, uint8_t* ids, int64_t height, int64_t width,
                     int64_t row_bytes) {
  const Interpolation rows = bilinear(in_height, height, false);
  const Interpolation columns = bilinear(in_width, width, false);
  UpsampleArgs args{};
  args.largest = largest(scores, in_height * in_width * classes);
  if (args.largest != args.largest) fail(kNan);
  args.scores = scores;
  args.in_height = in_height;
  args.in_width = in_width;
  args.classes = classes;
  args.height = height;
  args.width = width;
  args.top = rows.index.data();
  args.left = columns.index.data();
  args.weight_y = rows.weight.data();
  args.weight_x = columns.weight.data();
  args.out = ids;
  args.out_row = row_bytes;
  network.pool().run(in_height, [&](int64_t begin, int64_t end, int) {
    network.kernels().upsample(args, begin, end);
  });
}

constexpr const char* kNames[] = {"amx", "avx512", "avx2", "neon", "wasm", "portable"};

}  // namespace
}  // namespace binseg

using namespace binseg;

int binseg_version(void) { return BINSEG_VERSION; }

const char* binseg_isas(void) {
  // one of few constants: what a processor can run is a beginning or an end of these
  static constexpr const char* kLists[] = {"amx avx512 avx2 portable",
                                           "avx512 avx2 portable",
                                           "avx2 portable",
                                           "neon portable",
                                           "wasm portable",
                                           "portable"};
  for (const char* list : kLists) {
    const std::string_view first(list, std::strcspn(list, " "));
    const Kernels* kernels = nullptr;
    for (const char* name : kNames)
      if (first == name) kernels = find_kernels(name);
    if (kernels) return list;
  }
  return "portable";
}

int binseg_open(const void* file, size_t bytes, const char* isa, binseg_network** network) {
  if (!network) return BINSEG_BAD_ARGUMENT;
  *network = new (std::nothrow) binseg_network;
  binseg_network* handle = *network;
  if (!handle) return BINSEG_NO_MEMORY;
  return guarded(handle, BINSEG_BAD_MODEL, [&] {
    if (!file) return bad_argument(handle, "the file is a null pointer");
    if (!isa) isa = std::getenv("BINSEG_ISA");
    const Kernels* kernels = find_kernels(isa);
    if (!kernels) {
      handle->error =
          std::string("this processor has no instruction set '") + isa + "', but " + binseg_isas();
      return int(BINSEG_BAD_ARGUMENT);
    }
    handle->network = std::make_unique<Network>(static_cast<const uint8_t*>(file), bytes, *kernels);
    return int(BINSEG_OK);
  });
}

void binseg_close(binseg_network* network) { delete network; }

const char* binseg_error(const binseg_network* network) {
  return network ? network->error.c_str() : "the network is a null pointer";
}

int binseg_classes(const binseg_network* network) {
  return network && network->network ? static_cast<int>(network->network->classes()) : 0;
}

const char* binseg_isa(const binseg_network* network) {
  return network && network->network ? network->network->kernels().name : "";
}

void binseg_preprocessing(const binseg_network* network, double mean[3], double deviation[3],
                          int64_t* short_side) {
  const Preprocessing values =
      network && network->network ? network->network->preprocessing : Preprocessing{};
  for (int c = 0; c < 3; ++c) {
    if (mean) mean[c] = values.mean[c];
    if (deviation) deviation[c] = values.deviation[c];
  }
  if (short_side) *short_side = values.short_side;
}

namespace {
// Whether the handle holds a network; sets its error otherwise.
bool opened(binseg_network* handle) {
  if (handle && !handle->network && handle->error.empty()) handle->error = "no network is open";
  return handle && handle->network;
}
}  // namespace

int binseg_set_threads(binseg_network* network, int threads) {
  return guarded(network, BINSEG_BAD_ARGUMENT, [&] {
    if (!opened(network)) return int(BINSEG_BAD_ARGUMENT);
    if (threads < 1 || threads > kMostThreads)
      return bad_argument(network, "the number of threads must be from 1 to 256");
    network->network->pool().set_threads(threads);
    return int(BINSEG_OK);
  });
}

int binseg_threads(const binseg_network* network) {
  return network && network->network ? network->network->pool().threads() : 0;
}

int binseg_segment(binseg_network* network, const uint8_t* rgb, int64_t height, int64_t width,
                   int64_t row_bytes, uint8_t* classes, int64_t classes_row_bytes) {
  return guarded(network, BINSEG_BAD_IMAGE, [&] {
    if (!opened(network)) return int(BINSEG_BAD_ARGUMENT);
    if (const char* fault = fault_of_image(rgb, height, width, row_bytes))
      return bad_argument(network, fault);
    if (!classes) return bad_argument(network, "the class map is a null pointer");
    if (classes_row_bytes < width)
      return bad_argument(network,
                          "the class map's rows overlap: they are shorter than the image's");
    Network& net = *network->network;
    run(net, {rgb, height, width, row_bytes}, true);
    const Value& out = net.output();
    upsample_argmax(net, scores_of(net, network->scores), out.height, out.width, net.classes(),
                    classes, height, width, classes_row_bytes);
    return int(BINSEG_OK);
  });
}

int binseg_scores(binseg_network* network, const uint8_t* rgb, int64_t height, int64_t width,
                  int64_t row_bytes, int resize, const float** scores, int64_t* out_height,
                  int64_t* out_width) {
  return guarded(network, BINSEG_BAD_IMAGE, [&] {
    if (!opened(network)) return int(BINSEG_BAD_ARGUMENT);
    if (const char* fault = fault_of_image(rgb, height, width, row_bytes))
      return bad_argument(network, fault);
    if (!scores || !out_height || !out_width)
      return bad_argument(network, "a result is a null pointer");
    Network& net = *network->network;
    run(net, {rgb, height, width, row_bytes}, resize != 0);
    *out_height = net.output().height;
    *out_width = net.output().width;
    *scores = scores_of(net, network->scores);
    const float most = largest(*scores, *out_height * *out_width * net.classes());
    if (most != most) fail(kNan);
    return int(BINSEG_OK);
  });
}

int binseg_upsample_argmax(binseg_network* network, const float* scores, int64_t height,
                           int64_t width, int64_t classes, uint8_t* ids, int64_t ids_height,
                           int64_t ids_width, int64_t ids_row_bytes) {
  return guarded(network, BINSEG_BAD_ARGUMENT, [&] {
    if (!opened(network)) return int(BINSEG_BAD_ARGUMENT);
    if (!scores || !ids) return bad_argument(network, "the scores or the ids are a null pointer");
    const auto is_side = [](int64_t side) { return side >= 1 && side <= kLargestSide; };
    if (!is_side(height) || !is_side(width) || !is_side(ids_height) || !is_side(ids_width) ||
        classes < 1 || classes > 255 || ids_row_bytes < ids_width)
      return bad_argument(network, "the scores or the ids are of a size that cannot be");
    times(height, width, classes);
    upsample_argmax(*network->network, scores, height, width, classes, ids, ids_height, ids_width,
                    ids_row_bytes);
    return int(BINSEG_OK);
  });
}

int binseg_input_size(binseg_network* network, int64_t height, int64_t width, int64_t* in_height,
                      int64_t* in_width) {
  return guarded(network, BINSEG_BAD_IMAGE, [&] {
    if (!opened(network)) return int(BINSEG_BAD_ARGUMENT);
    if (!in_height || !in_width) return bad_argument(network, "a result is a null pointer");
    const uint8_t some = 0;
    if (const char* fault = fault_of_image(&some, height, width, 3 * width))
      return bad_argument(network, fault);
    if (const int64_t side = network->network->preprocessing.short_side)
      short_side_size(height, width, side);
    *in_height = height;
    *in_width = width;
    return int(BINSEG_OK);
  });
}

int binseg_resize(const uint8_t* rgb, int64_t height, int64_t width, int64_t row_bytes,
                  uint8_t* resized, int64_t out_height, int64_t out_width) {
  binseg_network nothing;
  return guarded(&nothing, BINSEG_BAD_ARGUMENT, [&] {
    if (!resized || fault_of_image(rgb, height, width, row_bytes) ||
        fault_of_image(rgb, out_height, out_width, 3 * out_width))
      return int(BINSEG_BAD_ARGUMENT);
    const Kernels* kernels = find_kernels(std::getenv("BINSEG_ISA"));
    if (!kernels) return int(BINSEG_BAD_ARGUMENT);
    Pool pool;
    resize_image({rgb, height, width, row_bytes}, resized, out_height, out_width, 3 * out_width,
                 kernels->shrink, pool);
    return int(BINSEG_OK);
  });
}

int64_t binseg_operator_count(const binseg_network* network) {
  return network && network->network ? static_cast<int64_t>(network->network->operator_count()) : 0;
}

const char* binseg_operator_name(const binseg_network* network, int64_t index) {
  if (index < 0 || index >= binseg_operator_count(network)) return "";
  return network->network->at(static_cast<size_t>(index)).kind.c_str();
}

void binseg_set_timing(binseg_network* network, int on) {
  if (network && network->network) network->network->timing = on != 0;
}

double binseg_operator_seconds(const binseg_network* network, int64_t index) {
  if (index < 0 || index >= binseg_operator_count(network)) return 0;
  const auto& seconds = network->network->seconds;
  return static_cast<size_t>(index) < seconds.size() ? seconds[static_cast<size_t>(index)] : 0;
}
