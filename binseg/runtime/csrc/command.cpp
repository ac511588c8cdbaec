// binseg-run MODEL IN OUT: a PPM image to a PGM map of class ids, without Python.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "binseg.h"

namespace {

constexpr const char kHelp[] =
    "usage: binseg-run [--threads N] [--profile] MODEL IN OUT\n"
    "\n"
    "Segments an image.\n"
    "\n"
    "  MODEL        a packed network (.safetensors)\n"
    "  IN           the image, binary PPM (P6) with 8 bits; - reads standard input\n"
    "  OUT          receives the class of each pixel, binary PGM (P5); - is standard output\n"
    "  --threads N  work on N threads (default 1)\n"
    "  --profile    print how long each operator takes, in microseconds, to standard error:\n"
    "               the least of ten more runs\n"
    "\n"
    "The environment variable BINSEG_ISA chooses the instruction set (%s).\n";

constexpr size_t kLargestFile = size_t(1) << 30;

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "binseg-run: %s\n", why.c_str());
  std::exit(1);
}

struct Close {
  void operator()(FILE* file) const { std::fclose(file); }
};

std::vector<uint8_t> read_file(const std::string& path) {
  std::unique_ptr<FILE, Close> opened;
  FILE* file = stdin;
  if (path != "-") {
    opened.reset(file = std::fopen(path.c_str(), "rb"));
    if (!file) stop(path + ": " + std::strerror(errno));
  }
  std::vector<uint8_t> all;
  uint8_t some[65536];
  for (size_t n; (n = std::fread(some, 1, sizeof some, file)) > 0;) {
    if (all.size() + n > kLargestFile) stop(path + ": is larger than 1 GiB");
    all.insert(all.end(), some, some + n);
  }
  if (std::ferror(file)) stop(path + ": " + std::strerror(errno));
  return all;
}

struct Image {
  int64_t height = 0, width = 0;
  const uint8_t* data = nullptr;
};

// One number of a PPM's header, after blanks and comments; -1 if there is none.
int64_t header_number(const std::vector<uint8_t>& file, size_t& at) {
  while (at < file.size() && (file[at] == '#' || std::strchr(" \t\r\n", file[at]))) {
    if (file[at] == '#')
      while (at < file.size() && file[at] != '\n') ++at;
    else
      ++at;
  }
  int64_t number = -1;
  for (; at < file.size() && file[at] >= '0' && file[at] <= '9'; ++at) {
    number = (number < 0 ? 0 : number) * 10 + (file[at] - '0');
    if (number > 1000000) return -1;
  }
  return number;
}

Image read_ppm(const std::string& path, const std::vector<uint8_t>& file) {
  if (file.size() < 2 || file[0] != 'P' || file[1] != '6')
    stop(path +
         ": is no binary PPM image; convert it first, for example `convert photo.jpg photo.ppm`");
  size_t at = 2;
  Image image;
  image.width = header_number(file, at);
  image.height = header_number(file, at);
  const int64_t most = header_number(file, at);
  if (image.width < 1 || image.height < 1 || most < 1) stop(path + ": has a damaged PPM header");
  if (most != 255) stop(path + ": has other than 8 bits a channel; convert it to 8 bits");
  ++at;  // one blank
  if (at > file.size() ||
      static_cast<uint64_t>(image.width) * static_cast<uint64_t>(image.height) * 3 >
          file.size() - at)
    stop(path + ": is cut short");
  image.data = file.data() + at;
  return image;
}

void write_pgm(const std::string& path, const Image& image, const std::vector<uint8_t>& classes) {
  // written beside its place first: whole or not at all
  const bool to_stdout = path == "-";
  const std::string temporary = path + ".part";
  FILE* file = to_stdout ? stdout : std::fopen(temporary.c_str(), "wb");
  if (!file) stop(path + ": " + std::strerror(errno));
  bool good =
      std::fprintf(file, "P5\n%" PRId64 " %" PRId64 "\n255\n", image.width, image.height) > 0;
  good = std::fwrite(classes.data(), 1, classes.size(), file) == classes.size() && good;
  good = (to_stdout ? std::fflush(file) : std::fclose(file)) == 0 && good;
  if (good && !to_stdout) good = std::rename(temporary.c_str(), path.c_str()) == 0;
  if (!good) {
    const std::string why = std::strerror(errno);
    if (!to_stdout) std::remove(temporary.c_str());
    stop(path + ": " + why);
  }
}

// Least times of all operators over some more runs of `segment`.
template <class Segment>
void print_profile(binseg_network* network, Segment&& segment) {
  constexpr int kRuns = 10;
  std::vector<double> least(static_cast<size_t>(binseg_operator_count(network)), 1e9);
  binseg_set_timing(network, 1);
  for (int run = 0; run < kRuns; ++run) {
    segment();
    for (size_t i = 0; i < least.size(); ++i)
      least[i] = std::min(least[i], binseg_operator_seconds(network, static_cast<int64_t>(i)));
  }
  double sum = 0;
  for (size_t i = 0; i < least.size(); ++i) {
    std::fprintf(stderr, "%4zu %-16s %10.1f\n", i,
                 binseg_operator_name(network, static_cast<int64_t>(i)), least[i] * 1e6);
    sum += least[i];
  }
  std::fprintf(stderr, "     %-16s %10.1f\n", binseg_isa(network), sum * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths;
  int threads = 1;
  bool profile = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      std::printf(kHelp, binseg_isas());
      return 0;
    }
    if (word == "--threads" && i + 1 < argc) {
      char* end = nullptr;
      const long count = std::strtol(argv[++i], &end, 10);
      if (*end || count < 1 || count > 256) stop("--threads takes a number from 1 to 256");
      threads = static_cast<int>(count);
    } else if (word == "--profile") {
      profile = true;
    } else if (word.size() > 1 && word[0] == '-') {
      stop("unknown option " + word + "; see binseg-run --help");
    } else {
      paths.push_back(word);
    }
  }
  if (paths.size() != 3) stop("takes MODEL IN OUT; see binseg-run --help");

  const std::vector<uint8_t> model = read_file(paths[0]), file = read_file(paths[1]);
  const Image image = read_ppm(paths[1], file);
  binseg_network* network = nullptr;
  if (binseg_open(model.data(), model.size(), nullptr, &network) != BINSEG_OK)
    stop(paths[0] + ": " + binseg_error(network));
  const std::unique_ptr<binseg_network, void (*)(binseg_network*)> closed(network, binseg_close);
  if (binseg_set_threads(network, threads) != BINSEG_OK) stop(binseg_error(network));
  std::vector<uint8_t> classes(static_cast<size_t>(image.height * image.width));
  const auto segment = [&] {
    if (binseg_segment(network, image.data, image.height, image.width, 3 * image.width,
                       classes.data(), image.width) != BINSEG_OK)
      stop(paths[1] + ": " + binseg_error(network));
  };
  segment();
  if (profile) print_profile(network, segment);
  write_pgm(paths[2], image, classes);
  return 0;
}
