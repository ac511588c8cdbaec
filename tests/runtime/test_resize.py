"""Resizing is OpenCV's, bit for bit."""

import cv2
import numpy as np
import pytest

from binseg.runtime.library import resize


def by_opencv(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    fewer = size[0] * size[1] < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if fewer else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


def sizes(count: int):
    """Pairs of sizes of about the same aspect, small and large, with every ratio."""
    rng = np.random.default_rng(5)
    for i in range(count):
        height, width = (int(side) for side in rng.integers(1, 60 if i % 2 else 400, 2))
        scale = (
            (0.5, 1 / 3, 0.25, 2.0, 0.2, 3.0)[i % 6] if i % 4 == 0 else rng.random() * 2.2 + 0.02
        )
        yield (height, width), (max(1, round(height * scale)), max(1, round(width * scale)))


def test_hundreds_of_sizes():
    rng = np.random.default_rng(6)
    wrong = []
    for (height, width), target in sizes(500):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if not np.array_equal(resize(image, target), by_opencv(image, target)):
            wrong.append(((height, width), target))
    assert not wrong


@pytest.mark.parametrize("target", [(1, 1), (2, 3), (720, 960), (480, 640), (1001, 333)])
@pytest.mark.parametrize("value", [0, 255])
def test_flat_images_stay_flat(target, value):
    image = np.full((97, 130, 3), value, np.uint8)
    assert (resize(image, target) == value).all()


def test_rows_may_have_gaps():
    image = np.random.default_rng(1).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    view = image[3:40, 5:60]
    for target in ((20, 30), (80, 90), (37, 55)):
        np.testing.assert_array_equal(
            resize(view, target), by_opencv(np.ascontiguousarray(view), target)
        )


def test_sizes_that_cannot_be():
    image = np.zeros((4, 4, 3), np.uint8)
    for target in ((0, 4), (4, -1), (70000, 4)):
        with pytest.raises(ValueError, match="resize"):
            resize(image, target)
