"""Boundary IoU against explicit loops over classes, pixels and neighbours."""

import math

import numpy as np
import pytest

from binseg.errors import BinsegError
from binseg.evaluation.boundary import BoundaryIoU, inner_boundary


def brute_boundary(ids: np.ndarray, distance: int) -> np.ndarray:
    """Pixels with another class, or the outside of the image, at most `distance` away."""
    height, width = ids.shape
    found = np.zeros(ids.shape, dtype=bool)
    for y in range(height):
        for x in range(width):
            if ids[y, x] == 255:
                continue
            for v in range(y - distance, y + distance + 1):
                for u in range(x - distance, x + distance + 1):
                    outside = not (0 <= v < height and 0 <= u < width)
                    if outside or ids[v, u] not in (255, ids[y, x]):
                        found[y, x] = True
    return found


def brute_iou(pairs: list, num_classes: int, ratio: float) -> list[float]:
    inter, union = [0] * num_classes, [0] * num_classes
    for prediction, truth in pairs:
        distance = max(1, round(ratio * math.hypot(*truth.shape)))
        prediction = np.where(truth == 255, 255, prediction)
        true, predicted = brute_boundary(truth, distance), brute_boundary(prediction, distance)
        for c in range(num_classes):
            g, p = true & (truth == c), predicted & (prediction == c)
            inter[c] += int((g & p).sum())
            union[c] += int((g | p).sum())
    return [i / u if u else math.nan for i, u in zip(inter, union, strict=True)]


def blobs(rng: np.random.Generator, shape: tuple[int, int], classes: int) -> np.ndarray:
    coarse = rng.integers(0, classes, (-(-shape[0] // 5), -(-shape[1] // 5)))
    return np.kron(coarse, np.ones((5, 5), int))[: shape[0], : shape[1]].astype(np.uint8)


@pytest.mark.parametrize("ratio", [0.02, 0.08, 0.15])
@pytest.mark.parametrize("ignored", [0.0, 0.15])
def test_equals_brute_force(ratio, ignored):
    rng = np.random.default_rng(round(100 * (ratio + ignored)))
    metric, pairs = BoundaryIoU(5, ratio), []
    for shape in ((17, 22), (25, 9), (3, 4)):
        truth, prediction = blobs(rng, shape, 4), blobs(rng, shape, 4)
        prediction = np.where(rng.random(shape) < 0.5, truth, prediction)
        truth[rng.random(shape) < ignored] = 255
        pairs.append((prediction, truth))
        metric.update(prediction, truth)
    assert metric.compute() == pytest.approx(brute_iou(pairs, 5, ratio), nan_ok=True)
    assert math.isnan(metric.compute()[4])


@pytest.mark.parametrize("distance", [1, 2, 40])
def test_inner_boundary_equals_brute_force(distance):
    ids = blobs(np.random.default_rng(1), (13, 31), 3)
    ids[4:7, 3:20] = 255
    assert np.array_equal(inner_boundary(ids, distance), brute_boundary(ids, distance))


def test_ignored_pixels_make_no_contour():
    truth = np.zeros((40, 60), dtype=np.uint8)
    truth[10:20, 10:30] = 255
    assert not inner_boundary(truth, 2)[2:-2, 2:-2].any()
    prediction = np.where(truth == 255, 1, truth).astype(np.uint8)
    metric = BoundaryIoU(2)
    metric.update(prediction, truth)
    assert metric.compute()[0] == 1.0
    assert math.isnan(metric.compute()[1])


def test_is_stricter_than_iou_on_a_large_shifted_mask():
    truth = np.zeros((200, 200), dtype=np.uint8)
    truth[40:160, 40:160] = 1
    metric = BoundaryIoU(2)
    metric.update(np.roll(truth, 4, axis=1), truth)
    assert metric.compute()[1] < 0.7 < 116 / 124  # the plain IoU


def test_distance_out_of_range():
    with pytest.raises(BinsegError, match="share of the diagonal"):
        BoundaryIoU(2, 1.5)
