"""Scale and crop in one: labels in step with the image, scales and places as they are said."""

import cv2
import numpy as np
import pytest

from binseg.data.window import Window, cut, random_window

FILL = (10, 20, 30)


def mosaic(height: int, width: int, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Squares of random class; the image's red is the class, times ten."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 21, (-(-height // side), -(-width // side)), np.uint8)
    labels = coarse.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    image = np.stack([labels * 10, labels * 5, 255 - labels * 10], axis=-1)
    return image, labels


@pytest.mark.parametrize("size", [(75, 101), (20, 150), (150, 20)])
def test_labels_are_those_of_the_image_to_the_pixel(size: tuple[int, int]) -> None:
    """Where the image has the colour of one class unblended, the label is that class."""
    image, labels = mosaic(*size)
    generator, crop = np.random.default_rng(1), (48, 64)
    for _ in range(60):
        window = random_window(generator, size, crop, 0.5, 2.0)
        shown, classes = cut(image, labels, window, crop, FILL)
        assert (shown.shape, classes.shape) == ((*crop, 3), crop)
        inside = classes != 255
        assert inside.sum() == window.shown[0] * window.shown[1]
        assert (shown[~inside] == FILL).all()
        # a pixel and its four neighbours alike: nothing was blended into it
        red = shown[..., 0].astype(int)
        same = [np.roll(red, shift, axis) == red for shift in (1, -1) for axis in (0, 1)]
        flat = inside & np.logical_and.reduce(same)
        flat[[0, -1]] = flat[:, [0, -1]] = False
        assert flat.sum() > 0.15 * inside.sum()
        wrong = red[flat] != 10 * classes[flat].astype(int)
        assert wrong.mean() < 0.01, "a chance blend of two classes may equal a third"


def test_at_native_size_every_pixel_keeps_its_label() -> None:
    image, labels = mosaic(41, 67, side=3)
    generator, crop = np.random.default_rng(1), (48, 33)
    for _ in range(20):
        window = random_window(generator, (41, 67), crop, 1, 1)
        shown, classes = cut(image, labels, window, crop, FILL)
        inside = classes != 255
        np.testing.assert_array_equal(shown[..., 0][inside], 10 * classes[inside])
        (top, left), (above, before) = window.start, window.before
        assert classes[above, before] == labels[top, left]


def test_it_is_the_crop_of_the_scaled_image() -> None:
    """The slow way: scale the whole image, then cut."""
    y, x = np.mgrid[:90, :120]
    image = np.stack([x * 2, y * 2, x + y], axis=-1).astype(np.uint8)
    labels = (x // 2).astype(np.uint8)
    for start, length, shown in (((10, 20), (40, 40), (80, 80)), ((6, 8), (60, 80), (30, 40))):
        scale = shown[0] / length[0]
        whole = (round(90 * scale), round(120 * scale))
        method = cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA
        scaled = cv2.resize(image, whole[::-1], interpolation=method)
        nearest = cv2.resize(labels, whole[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        top, left = round(start[0] * scale), round(start[1] * scale)
        part = np.s_[top : top + shown[0], left : left + shown[1]]
        found, classes = cut(image, labels, Window(start, length, shown, (0, 0)), shown, FILL)
        inner = np.s_[1:-1, 1:-1]  # the outermost pixels do not see beyond the window
        assert np.abs(found[inner].astype(int) - scaled[part][inner]).max() <= 1
        np.testing.assert_array_equal(classes, nearest[part])


def test_scales_are_uniform() -> None:
    generator = np.random.default_rng(0)
    windows = [random_window(generator, (400, 500), (200, 200), 0.6, 2.0) for _ in range(2000)]
    scales = np.sort([window.shown[0] / window.length[0] for window in windows])
    expected = np.linspace(0.6, 2.0, 2000)
    assert np.abs(scales - expected).max() < 0.05, "further from uniform than 2,000 draws can be"
    across = np.array([window.shown[1] / window.length[1] for window in windows])
    down = np.array([window.shown[0] / window.length[0] for window in windows])
    assert np.abs(across / down - 1).max() < 0.01, "the aspect must stay"


def test_places_are_uniform_and_reach_every_edge() -> None:
    generator = np.random.default_rng(0)
    larger = [random_window(generator, (40, 48), (32, 32), 1, 1) for _ in range(4000)]
    for axis, room in ((0, 9), (1, 17)):
        counts = np.bincount([window.start[axis] for window in larger], minlength=room)
        assert counts.size == room
        assert counts.min() > 0.7 * 4000 / room
    smaller = [random_window(generator, (40, 48), (44, 58), 1, 1) for _ in range(4000)]
    for axis, room in ((0, 5), (1, 11)):
        counts = np.bincount([window.before[axis] for window in smaller], minlength=room)
        assert counts.size == room
        assert counts.min() > 0.7 * 4000 / room


def test_a_window_lies_in_its_image() -> None:
    generator = np.random.default_rng(0)
    for size in ((1, 1), (1, 500), (3, 7), (33, 31), (700, 2)):
        for crop in ((1, 1), (8, 64), (33, 31)):
            for _ in range(50):
                window = random_window(generator, size, crop, 0.1, 4.0)
                for axis in (0, 1):
                    assert window.length[axis] >= 1
                    assert 0 <= window.start[axis] <= size[axis] - window.length[axis]
                    assert 0 <= window.before[axis] <= crop[axis] - window.shown[axis]
                    assert window.shown[axis] >= 1
