"""Resizing in numpy against OpenCV, bit for bit."""

import cv2
import numpy as np
import pytest

from binseg.data.preprocess import Preprocessing
from binseg.program.image_resize import resize_image, target_size


def assert_as_opencv(rng, old, new):
    image = rng.integers(0, 256, (*old, 3), dtype=np.uint8)
    shrinks = new[0] * new[1] < old[0] * old[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    expected = cv2.resize(image, (new[1], new[0]), interpolation=method)
    found = resize_image(image, new)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected, err_msg=f"{old} → {new}")


@pytest.mark.parametrize("seed", range(10))
def test_shrinking(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        old = tuple(int(n) for n in rng.integers(1, 90, 2))
        new = tuple(int(rng.integers(1, n + 1)) for n in old)
        assert_as_opencv(rng, old, new)


@pytest.mark.parametrize("seed", range(10))
def test_growing(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        old = tuple(int(n) for n in rng.integers(1, 60, 2))
        new = tuple(int(n * rng.uniform(1, 4)) for n in old)
        assert_as_opencv(rng, old, new)


def test_shrinking_by_integers():
    rng = np.random.default_rng(0)
    for high in range(1, 8):
        for wide in range(1, 8):
            assert_as_opencv(rng, (5 * high, 7 * wide), (5, 7))
    # 1 / (1 / 49) is not 49 in float64, so that OpenCV takes its general way
    assert_as_opencv(rng, (98, 147), (2, 3))
    assert_as_opencv(rng, (300, 600), (1, 2))


@pytest.mark.parametrize("short_side", [1, 97, 270, 360, 511, 720])
def test_sizes_of_photographs(short_side):
    rng = np.random.default_rng(short_side)
    for old in [(720, 960), (375, 500), (333, 127), (1, 400), (511, 511)]:
        new = target_size(*old, short_side)
        assert new == Preprocessing(short_side=short_side).target_size(*old)
        if new[0] * new[1] < 1 << 21:
            assert_as_opencv(rng, old, new)


def test_the_size_it_has_already():
    image = np.zeros((5, 7, 3), np.uint8)
    assert resize_image(image, target_size(5, 7, None)) is image


def test_one_side_up_and_one_down_is_refused():
    with pytest.raises(ValueError, match="one side grows"):
        resize_image(np.zeros((10, 10, 3), np.uint8), (11, 2))
