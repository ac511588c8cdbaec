"""Colours, overlays, legends and strips, at odd shapes too."""

import numpy as np
import pytest

from binseg.data.labels import LabelTable, get_label_table
from binseg.visualize import (
    ERROR_COLOR,
    IGNORE_COLOR,
    colorize,
    comparison,
    legend,
    overlay,
    overlay_with_legend,
    shortened,
)

CAMVID = get_label_table("camvid")
SHAPES = [(1, 1), (3, 400), (400, 3), (37, 53), (360, 480)]


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 11, (height, width), dtype=np.uint8)


def has_color(image: np.ndarray, color: tuple[int, ...]) -> bool:
    return bool((image == color).all(axis=-1).any())


def test_colorize():
    found = colorize(np.array([[0, 3, 255, 11]], np.uint8), CAMVID.palette)
    assert found.dtype == np.uint8
    assert found[0].tolist() == [[128, 128, 128], [128, 64, 128], *[list(IGNORE_COLOR)] * 2]


def test_colorize_takes_a_full_palette():
    palette = [(index, 0, 0) for index in range(256)]
    found = colorize(np.array([[254, 255]], np.uint8), palette)
    assert found[0].tolist() == [[254, 0, 0], list(IGNORE_COLOR)]


def test_no_built_in_class_looks_like_no_label():
    for name in ("camvid", "voc", "cityscapes", "scenes"):
        assert IGNORE_COLOR not in get_label_table(name).palette


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_overlay_is_the_formula(alpha):
    image, ids = picture(9, 7)
    mixed = (1 - alpha) * image + alpha * colorize(ids, CAMVID.palette)
    assert np.abs(overlay(image, ids, CAMVID, alpha) - mixed).max() <= 0.5


def test_overlay_refuses_another_size_and_alpha():
    image, ids = picture(9, 7)
    with pytest.raises(ValueError, match="7 x 9 but the class map is 9 x 7"):
        overlay(image, ids.T, CAMVID)
    with pytest.raises(ValueError, match="alpha"):
        overlay(image, ids, CAMVID, 1.5)


def test_legend_of_the_classes_present():
    ids = np.array([[3, 255], [8, 3]], np.uint8)
    panel = legend(CAMVID, ids)
    for index, color in enumerate(CAMVID.palette):
        area = (panel == color).all(axis=-1).sum()  # a few grey pixels are the letters' edges
        assert (area > 100) == (index in (3, 8)), CAMVID.names[index]
    assert has_color(panel, IGNORE_COLOR)
    assert all(has_color(legend(CAMVID), color) for color in CAMVID.palette)


def test_legend_wraps_into_the_width():
    narrow, wide = legend(CAMVID, width=150), legend(CAMVID, width=1000)
    assert narrow.shape[1] == 150
    assert wide.shape[1] == 1000
    assert wide.shape[0] < narrow.shape[0]
    assert legend(CAMVID, width=5).shape == legend(CAMVID).shape  # never narrower than a name


def test_legend_of_nothing():
    assert legend(CAMVID, np.zeros((0, 3), np.uint8)).ndim == 3


@pytest.mark.parametrize("shape", SHAPES)
def test_overlay_with_legend_holds_the_overlay(shape):
    image, ids = picture(*shape)
    found = overlay_with_legend(image, ids, CAMVID)
    plain = overlay(image, ids, CAMVID)
    factor = max(1, 240 // max(shape))
    height, width = shape[0] * factor, shape[1] * factor
    assert np.array_equal(found[:height:factor, :width:factor], plain)
    assert found.size > plain.size
    for index in np.unique(ids):
        assert has_color(found, CAMVID.palette[index])


def test_overlay_with_legend_shrinks_what_is_too_large():
    image, ids = picture(60, 300)
    assert overlay_with_legend(image, ids, CAMVID, longest_side=100).shape[1] <= 200


@pytest.mark.parametrize("shape", SHAPES)
def test_comparison(shape):
    image, ids = picture(*shape)
    truth = ids.copy()
    truth[:, : shape[1] // 2] = 255
    right = comparison(image, truth, ids, CAMVID)
    wrong = comparison(image, truth, (ids + 1) % 11, CAMVID)
    assert right.dtype == np.uint8
    assert not has_color(right, ERROR_COLOR)
    assert has_color(wrong, ERROR_COLOR)
    assert max(right.shape) < 4 * 480 + 500


def test_comparison_of_labels_finer_than_the_picture():
    image, _ = picture(20, 30)
    ids = picture(40, 60)[1]
    comparison(image, ids, ids, CAMVID)
    with pytest.raises(ValueError, match="truth is 60 x 40"):
        comparison(image, ids, ids[:20], CAMVID)


def test_comparison_without_any_label():
    image, ids = picture(20, 30)
    assert not has_color(comparison(image, np.full_like(ids, 255), ids, CAMVID), ERROR_COLOR)


def test_a_single_wrong_pixel_of_a_row_survives_shrinking():
    image, _ = picture(400, 600)
    truth = np.zeros((400, 600), np.uint8)
    prediction = truth.copy()
    prediction[:, 301] = 1
    assert has_color(comparison(image, truth, prediction, CAMVID, panel=200), ERROR_COLOR)


def test_long_names_keep_their_end():
    assert shortened("short", 32) == "short"
    name = shortened("a class with a rather long\nname number 7", 20)
    assert len(name) == 20
    assert name.endswith("number 7")
    names = tuple(f"a class with a rather long name number {index}" for index in range(3))
    table = LabelTable("long", names, ((1, 0, 0), (2, 0, 0), (3, 0, 0)), {0: 0, 1: 1, 2: 2})
    assert legend(table).shape[1] < 600
