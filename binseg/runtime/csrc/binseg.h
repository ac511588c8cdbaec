/* libbinseg: runs packed segmentation networks. See docs/program.md for what a model file holds.
 *
 * One handle must not be used by two threads at once; different handles may. Functions that can
 * fail return 0 (BINSEG_OK) on success; binseg_error then tells what went wrong with this handle,
 * in one line. Images are 8-bit RGB, three bytes a pixel, top row first; rows may lie `row_bytes`
 * apart, at least 3 * width. */
#ifndef BINSEG_H
#define BINSEG_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define BINSEG_API __attribute__((visibility("default")))
#else
#define BINSEG_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define BINSEG_VERSION 1 /* of this interface */

typedef struct binseg_network binseg_network;

enum {
  BINSEG_OK = 0,
  BINSEG_BAD_MODEL = 1,    /* the file is damaged, or not a program that this version runs */
  BINSEG_BAD_ARGUMENT = 2, /* null pointers, sizes that cannot be, too small a row */
  BINSEG_BAD_IMAGE = 3,    /* the network cannot take an image of this size */
  BINSEG_NO_MEMORY = 4
};

BINSEG_API int binseg_version(void);

/* Names of the instruction sets that this processor can run, the best first, separated by spaces:
 * some of amx, avx512, avx2, neon, wasm, and portable. */
BINSEG_API const char* binseg_isas(void);

/* Opens a model file that lies in memory; the memory is not needed afterwards. `isa` chooses the
 * kernels by name; null: what the environment variable BINSEG_ISA names, or the best.
 * *network is set even on failure, so that binseg_error can be asked, and is to be closed; it is
 * null only if there is no memory at all. */
BINSEG_API int binseg_open(const void* file, size_t bytes, const char* isa,
                           binseg_network** network);
BINSEG_API void binseg_close(binseg_network* network); /* null is allowed */

/* The last error of this handle; empty if there was none. Valid until its next call. */
BINSEG_API const char* binseg_error(const binseg_network* network);

BINSEG_API int binseg_classes(const binseg_network* network);
BINSEG_API const char* binseg_isa(const binseg_network* network);

/* How images are prepared: normalized by mean and standard deviation of each channel (values from 0
 * to 1), which the program does itself; resized so that the shorter side has *short_side pixels, or
 * not at all if that is 0. Null pointers are skipped. */
BINSEG_API void binseg_preprocessing(const binseg_network* network, double mean[3],
                                     double deviation[3], int64_t* short_side);

/* Threads that work on one image, the caller among them (default 1). Others sleep in between. */
BINSEG_API int binseg_set_threads(binseg_network* network, int threads);
BINSEG_API int binseg_threads(const binseg_network* network);

/* The class of each pixel: `classes` receives height rows, `classes_row_bytes` (at least width)
 * apart. The image is resized to the short side first, and the class map has the image's size. */
BINSEG_API int binseg_segment(binseg_network* network, const uint8_t* rgb, int64_t height,
                              int64_t width, int64_t row_bytes, uint8_t* classes,
                              int64_t classes_row_bytes);

/* The network's scores, float32 [*out_height][*out_width][classes], for an image that is resized to
 * the short side first (resize != 0) or taken as it is. The result belongs to the handle and is
 * valid until its next call. */
BINSEG_API int binseg_scores(binseg_network* network, const uint8_t* rgb, int64_t height,
                             int64_t width, int64_t row_bytes, int resize, const float** scores,
                             int64_t* out_height, int64_t* out_width);

/* The largest of scores, float32 [height][width][classes], upsampled bilinearly to another size:
 * the lowest of equal ones. Fails if there is a nan. */
BINSEG_API int binseg_upsample_argmax(binseg_network* network, const float* scores, int64_t height,
                                      int64_t width, int64_t classes, uint8_t* ids,
                                      int64_t ids_height, int64_t ids_width, int64_t ids_row_bytes);

/* The size to which an image is resized before the network sees it. */
BINSEG_API int binseg_input_size(binseg_network* network, int64_t height, int64_t width,
                                 int64_t* in_height, int64_t* in_width);

/* Resizing alone, as OpenCV's INTER_AREA where the number of pixels falls, else INTER_LINEAR. */
BINSEG_API int binseg_resize(const uint8_t* rgb, int64_t height, int64_t width, int64_t row_bytes,
                             uint8_t* resized, int64_t out_height, int64_t out_width);

/* The program's operators and the wall-clock seconds that each took for the last image. Times are
 * taken only after binseg_set_timing(network, 1). */
BINSEG_API int64_t binseg_operator_count(const binseg_network* network);
BINSEG_API const char* binseg_operator_name(const binseg_network* network, int64_t index);
BINSEG_API void binseg_set_timing(binseg_network* network, int on);
BINSEG_API double binseg_operator_seconds(const binseg_network* network, int64_t index);

#ifdef __cplusplus
}
#endif
#endif
