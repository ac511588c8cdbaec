"""The built-in street scenes: the same everywhere, all classes, labels that fit the image."""

import subprocess
import sys

import numpy as np
import pytest

from binseg.data.datasets import ScenesDataset
from binseg.data.labels import get_label_table
from binseg.data.scene_canvas import Camera, Canvas
from binseg.data.scenes import draw_scene
from binseg.errors import BinsegError

DIGEST = (
    "import hashlib; from binseg.data.scenes import draw_scene;"
    "s = [draw_scene(5, i, (96, 128)) for i in range(3)];"
    "print(hashlib.sha256(b''.join(x.image.tobytes() + x.labels.tobytes() for x in s)).hexdigest())"
)


def test_the_same_in_another_process() -> None:
    run = [sys.executable, "-c", DIGEST]
    first = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    second = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert len(first) == 65
    assert first == second


def test_scenes_do_not_depend_on_each_other() -> None:
    alone = draw_scene(1, 9, (64, 80))
    for index in (3, 9):
        again = draw_scene(1, index, (64, 80))
    np.testing.assert_array_equal(alone.image, again.image)
    np.testing.assert_array_equal(alone.labels, again.labels)


@pytest.mark.parametrize("size", [(144, 192), (97, 131), (32, 32), (240, 100)])
def test_shapes_and_types(size: tuple[int, int]) -> None:
    image, labels, _ = draw_scene(0, 0, size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (size, np.uint8)
    assert labels.max() < 8


def test_every_class_is_in_most_scenes_with_a_fair_share() -> None:
    count = 60
    pixels, present = np.zeros(8, np.int64), np.zeros(8)
    for index in range(count):
        counts = np.bincount(draw_scene(3, index, (96, 128)).labels.ravel(), minlength=8)
        pixels += counts
        present += counts >= 10
    assert (present / count >= 0.4).all(), present / count
    shares = pixels / pixels.sum()
    assert shares.min() > 0.008, shares
    assert shares.max() < 0.5, shares


def test_colour_alone_does_not_tell_the_class() -> None:
    """The best class for each coarse colour, learnt on the very same scenes, is often wrong."""
    colors, ids = [], []
    for index in range(40):
        image, labels, _ = draw_scene(3, index, (96, 128))
        coarse = image.reshape(-1, 3).astype(np.int64) // 16
        colors.append(coarse @ np.array([256, 16, 1]))
        ids.append(labels.ravel())
    table = np.zeros((4096, 8), np.int64)
    np.add.at(table, (np.concatenate(colors), np.concatenate(ids)), 1)
    assert table.max(axis=1).sum() / table.sum() < 0.72


def test_labels_lie_where_the_things_are() -> None:
    """In a sharp scene, neighbours of two classes differ more in colour than those of one."""
    across, within = [], []
    for index in range(20):
        image, labels, _ = draw_scene(11, index, (96, 128))
        step = np.abs(np.diff(image.astype(np.int64), axis=1)).sum(axis=2)
        border = labels[:, 1:] != labels[:, :-1]
        across.append(step[border].mean())
        within.append(step[~border].mean())
    assert np.mean(across) > 1.5 * np.mean(within)


def test_painting_gives_image_and_labels_the_same_pixels() -> None:
    canvas = Canvas((40, 50))
    canvas.polygon([(3, 4), (30, 9), (22, 33)], (255, 255, 255), 5)
    canvas.ellipse((35, 20), (8, 5), (255, 255, 255), 5)
    canvas.line((2, 38), (47, 2), (255, 255, 255), 2.2, 5)
    canvas.hull([(40, 30), (48, 30), (44, 38), (44, 33)], (255, 255, 255), 5)
    np.testing.assert_array_equal(canvas.image[..., 0] == 255, canvas.labels == 5)
    canvas.polygon([(0, 0), (9, 0), (9, 9)], (9, 9, 9), None)
    assert (canvas.labels[:4, 5:9] == 0).all()


def test_camera_puts_the_same_point_in_the_same_pixel() -> None:
    camera = Camera(focal=100, height=1.5, center=(60, 40), bend=0.001, roll=0.01)
    points = np.array([[1.0, 0.0, 5.0], [-2.0, 3.0, 8.0], [0.5, 1.5, 0.01]])
    expected = [camera(*point) for point in points.tolist()]
    assert [tuple(pixel) for pixel in camera.many(points).tolist()] == expected
    assert camera(0, 0, 2)[1] > camera(0, 0, 20)[1] > 40, "the ground rises to the horizon"


def test_splits_share_no_scene_and_seeds_differ() -> None:
    size = (32, 40)
    seen = set()
    for split in ("train", "val", "test"):
        for seed in (0, 1):
            dataset = ScenesDataset(split, 3, size, seed)
            assert dataset.labels == get_label_table("scenes")
            assert [dataset[i].name for i in range(3)] == [dataset.sample_name(i) for i in range(3)]
            seen |= {dataset[index].image.tobytes() for index in range(3)}
    assert len(seen) == 18
    with pytest.raises(IndexError):
        dataset[3]


def test_impossible_settings() -> None:
    with pytest.raises(BinsegError, match="32"):
        ScenesDataset("train", 5, (16, 40))
    with pytest.raises(BinsegError, match="0 scenes"):
        ScenesDataset("train", 0, (64, 64))
