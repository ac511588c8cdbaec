// Opens and runs model files that come on standard input, each after its length in 8 bytes (lowest
// first); prints how many opened and how many ran. For tools/fuzz_model_files.py, which builds it
// with the sanitizers.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "binseg.h"

int main(int argc, char** argv) {
  const char* isa = argc > 1 ? argv[1] : nullptr;
  long files = 0, opened = 0, ran = 0;
  for (uint8_t head[8]; std::fread(head, 1, 8, stdin) == 8;) {
    uint64_t length = 0;
    for (int i = 0; i < 8; ++i) length |= static_cast<uint64_t>(head[i]) << (8 * i);
    // exactly as much memory as the file has, so that one byte beyond it is found
    std::vector<uint8_t> file(length);
    file.shrink_to_fit();
    if (std::fread(file.data(), 1, length, stdin) != length) return 2;
    ++files;
    binseg_network* network = nullptr;
    if (binseg_open(file.data(), file.size(), isa, &network) == BINSEG_OK) {
      ++opened;
      binseg_set_threads(network, 1 + files % 2);
      bool good = true;
      for (const int side : {13, 40}) {
        const int width = side + static_cast<int>(files % 5);
        std::vector<uint8_t> image(static_cast<size_t>(side * (3 * width + 7)));
        for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<uint8_t>(i * 37 + files);
        std::vector<uint8_t> classes(static_cast<size_t>(side * width));
        good &= binseg_segment(network, image.data(), side, width, 3 * width + 7, classes.data(),
                               width) == BINSEG_OK;
      }
      ran += good;
    } else if (!network || !*binseg_error(network)) {
      std::fprintf(stderr, "file %ld: an error without a text\n", files);
      return 3;
    }
    binseg_close(network);
  }
  std::printf("%ld %ld %ld\n", files, opened, ran);
  return 0;
}
