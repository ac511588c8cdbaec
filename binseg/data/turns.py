"""Flips, turns and holes of a training crop; image and labels change together.

The functions take an image, uint8 (h, w, 3), and labels, uint8 (h, w) train ids, and change nothing
in place. Labels are never interpolated; where nothing of the image is left they are 255.
"""

import cv2
import numpy as np

from binseg.data.labels import IGNORE

Crop = tuple[np.ndarray, np.ndarray]
Color = tuple[int, int, int]


def quarter_turned(image: np.ndarray, labels: np.ndarray, turns: int) -> Crop:
    """Turned counter-clockwise by `turns` times 90°; an odd number swaps height and width."""
    if turns % 4 == 0:
        return image, labels
    turned = np.rot90(image, turns), np.rot90(labels, turns)
    return np.ascontiguousarray(turned[0]), np.ascontiguousarray(turned[1])


def rotated(image: np.ndarray, labels: np.ndarray, angle: float, fill: Color) -> Crop:
    """Turned about the centre by `angle` degrees, counter-clockwise, at the same size."""
    height, width = labels.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    size, border = (width, height), cv2.BORDER_CONSTANT
    return (
        cv2.warpAffine(
            image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=fill
        ),
        cv2.warpAffine(
            labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=border, borderValue=(IGNORE,)
        ),
    )


def with_hole(
    image: np.ndarray,
    labels: np.ndarray,
    generator: np.random.Generator,
    largest: float,
    fill: Color,
) -> Crop:
    """With a rectangle of the colour `fill`, whose labels are 255: Cutout.

    Its sides are uniform between a tenth of `largest` and `largest`, as shares of the crop's, its
    place uniform. Source: DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural
    Networks with Cutout" (arXiv 1708.04552); that what is covered does not count is ours.
    """
    part = []
    for length in labels.shape:
        side = min(length, max(1, round(length * generator.uniform(largest / 10, largest))))
        start = int(generator.integers(length - side + 1))
        part.append(slice(start, start + side))
    image, labels = image.copy(), labels.copy()
    image[tuple(part)] = fill
    labels[tuple(part)] = IGNORE
    return image, labels
