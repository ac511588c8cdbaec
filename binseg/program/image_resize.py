"""Resizing of images as OpenCV does it, bit for bit, in numpy: docs/program.md, part 3."""

import numpy as np

from binseg.program.sizes import Size

_FRACTION = np.float32(2048)
"""OpenCV's bilinear weights for uint8 are integers of 11 bits."""
_SLIVER = 1e-3
"""Parts of a pixel below this do not count in an area average."""


def target_size(height: int, width: int, short_side: int | None) -> Size:
    """(height, width) in pixels that an image of `height` × `width` is resized to."""
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """An image, uint8 (H, W, 3), at another size of about the same aspect.

    Args:
        image: returned itself if it has the size already.
        size: (height, width) in pixels, both at most the image's (then by area averages, OpenCV's
            INTER_AREA) or both at least (INTER_LINEAR).
    """
    old, new = image.shape[:2], size
    if old == new:
        return image
    if new[0] * new[1] >= old[0] * old[1]:
        return _linear(image, size)
    if new[0] > old[0] or new[1] > old[1]:
        raise ValueError(f"{old} cannot be resized to {new}: one side grows and one shrinks")
    return _area(image, size)


# INTER_LINEAR


def _linear(image: np.ndarray, size: Size) -> np.ndarray:
    left, weight = _linear_axis(image.shape[1], size[1])
    # beyond the first and last pixel's middle the columns take one pixel, whole
    beyond = (left < 0) | (left >= image.shape[1] - 1)
    left, weight = np.clip(left, 0, image.shape[1] - 1), np.where(beyond, np.float32(0), weight)
    right = np.minimum(left + 1, image.shape[1] - 1)
    a, b = (part[:, None] for part in _fixed(weight))
    values = image.astype(np.int32)
    rows = (values[:, left] * a + values[:, right] * b) >> 4
    # … where the rows take both, which are the same there
    upper, weight = _linear_axis(image.shape[0], size[0])
    lower = np.clip(upper + 1, 0, image.shape[0] - 1)
    upper = np.clip(upper, 0, image.shape[0] - 1)
    a, b = (part[:, None, None] for part in _fixed(weight))
    return ((((rows[upper] * a) >> 16) + ((rows[lower] * b) >> 16) + 2) >> 2).astype(np.uint8)


def _linear_axis(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each new pixel the old one before it, −1 at the beginning, and the next one's weight."""
    scale = 1 / (new / old)  # as OpenCV rounds it
    at = ((np.arange(new) + 0.5) * scale - 0.5).astype(np.float32)
    index = np.floor(at)
    return index.astype(np.int64), at - index


def _fixed(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weights of both pixels, of 11 bits."""
    first, second = np.rint((1 - weight) * _FRACTION), np.rint(weight * _FRACTION)
    return first.astype(np.int32), second.astype(np.int32)


# INTER_AREA


def _area(image: np.ndarray, size: Size) -> np.ndarray:
    scales = [1 / (new / old) for new, old in zip(size, image.shape, strict=False)]
    if all(scale.is_integer() for scale in scales):
        return _integer_area(image, int(scales[0]), int(scales[1]))
    values, rows = image.astype(np.float32), np.zeros((len(image), size[1], 3), np.float32)
    for source, weight in _parts(image.shape[1], size[1], scales[1]):
        rows += values[:, source] * weight[:, None]
    result = np.zeros((*size, 3), np.float32)
    for source, weight in _parts(image.shape[0], size[0], scales[0]):
        result += rows[source] * weight[:, None, None]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _integer_area(image: np.ndarray, high: int, wide: int) -> np.ndarray:
    """Averages of high × wide pixels, summed as integers."""
    blocks = image.reshape(len(image) // high, high, -1, wide, 3)
    total = blocks.sum(axis=(1, 3), dtype=np.int64)
    if high == wide == 2:
        return ((total + 2) >> 2).astype(np.uint8)
    average = total.astype(np.float32) * np.float32(1 / (high * wide))
    return np.clip(np.rint(average), 0, 255).astype(np.uint8)


def _parts(old: int, new: int, scale: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """What each new pixel is the sum of, in order: old pixels and their weights, float32.

    The k-th entry is the k-th part of all new pixels; those with fewer parts have the weight 0.
    """
    begin = np.arange(new) * scale
    end = begin + scale
    cell = np.minimum(scale, old - begin)
    last = np.minimum(np.floor(end).astype(np.int64), old - 1)
    first = np.minimum(np.ceil(begin).astype(np.int64), last)
    head, tail = first - begin, end - last
    # the piece of a pixel before, whole pixels, the piece of a pixel behind
    parts = [(first - 1, np.where(head > _SLIVER, head / cell, 0))]
    for k in range(int((last - first).max())):
        parts.append((first + k, np.where(first + k < last, 1 / cell, 0)))
    piece = np.minimum(np.minimum(tail, 1), cell) / cell
    parts.append((last, np.where(tail > _SLIVER, piece, 0)))
    return [(np.clip(source, 0, old - 1), weight.astype(np.float32)) for source, weight in parts]
