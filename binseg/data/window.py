"""Random scale and crop in one step: only the part of an image that the crop shows is resized.

An image of 2048 × 1024 that is magnified by 2 has 25 MB; the window that a crop of 480 × 480
shows of it has 170 kB.
"""

from typing import NamedTuple

import cv2
import numpy as np

from binseg.data.labels import IGNORE
from binseg.data.preprocess import resize_image, resize_labels


class Window(NamedTuple):
    """What a crop shows of an image, each pair for rows and columns.

    `start` and `length`: the part of the image, in its own pixels; `shown`: pixels of the crop
    that this part is resized to; `before`: pixels of the crop in front of it, outside the image.
    """

    start: tuple[int, int]
    length: tuple[int, int]
    shown: tuple[int, int]
    before: tuple[int, int]


def random_window(
    generator: np.random.Generator,
    size: tuple[int, int],
    crop: tuple[int, int],
    scale_min: float,
    scale_max: float,
) -> Window:
    """A crop at a random place of the image at a random scale.

    The scale is uniform in [scale_min, scale_max], the place uniform among those where the crop
    lies in the scaled image, or, along an axis on which that is smaller, where it lies in the
    crop. The part begins and ends between two pixels of the image, so that its scale is exact to
    half a pixel of its length.

    Args:
        generator: of the draws.
        size: (height, width) of the image in pixels.
        crop: (height, width) of the result in pixels.
        scale_min: smallest magnification, above 0.
        scale_max: largest magnification.
    """
    scale = generator.uniform(scale_min, scale_max)
    rows, columns = (
        _random_span(generator, length, wanted, scale)
        for length, wanted in zip(size, crop, strict=True)
    )
    return Window(*zip(rows, columns, strict=True))


def _random_span(
    generator: np.random.Generator, length: int, wanted: int, scale: float
) -> tuple[int, int, int, int]:
    """start, length, shown and before of a `Window` along one axis."""
    scaled = max(1, round(length * scale))
    if scaled <= wanted:
        return 0, length, scaled, int(generator.integers(wanted - scaled + 1))
    part = min(length, max(1, round(wanted / scale)))
    return int(generator.integers(length - part + 1)), part, wanted, 0


def moved_to(
    generator: np.random.Generator, window: Window, size: tuple[int, ...], pixel: tuple[int, int]
) -> Window:
    """The window at a random place of those where it shows `pixel`, (row, column) of an image of
    `size`."""
    start = tuple(
        int(generator.integers(max(0, at - part + 1), min(length - part, at), endpoint=True))
        for at, part, length in zip(pixel, window.length, size, strict=True)
    )
    return window._replace(start=(start[0], start[1]))


def cut(
    image: np.ndarray,
    labels: np.ndarray,
    window: Window,
    crop: tuple[int, int],
    fill: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The window of an image and of its labels, resized and with a border where it is smaller.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W) train ids.
        window: of this image.
        crop: (h, w) of the result in pixels.
        fill: colour outside the image; labels are 255 there.

    Returns:
        uint8 (h, w, 3) and uint8 (h, w); views of the arguments if there is nothing to do.
    """
    (top, left), (height, width) = window.start, window.length
    part = np.s_[top : top + height, left : left + width]
    image = resize_image(image[part], window.shown)
    labels = resize_labels(labels[part], window.shown)
    if window.shown == crop:
        return image, labels
    above, before = window.before
    below, after = crop[0] - above - window.shown[0], crop[1] - before - window.shown[1]
    border = above, below, before, after, cv2.BORDER_CONSTANT
    return (
        cv2.copyMakeBorder(image, *border, value=fill),
        cv2.copyMakeBorder(labels, *border, value=(IGNORE,)),
    )
