"""iIoU against loops over instances and pixels (tests against cityscapesScripts: test_official)."""

import math

import numpy as np
import pytest
import torch

from binseg.data.labels import IGNORE, get_label_table
from binseg.errors import BinsegError
from binseg.evaluation.instance_iou import AVERAGE_SIZES, instance_iou, weighted_pixels
from binseg.evaluation.scores import Scores, confusion

LABELS = get_label_table("cityscapes")
CAR, PERSON, ROAD = (LABELS.names.index(name) for name in ("car", "person", "road"))


def image(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, truth and instances of 13 × 17 pixels: cars, groups of cars, people, roads and
    a caravan, which is an instance of no evaluated class."""
    rng = np.random.default_rng(seed)
    ids = [26000, 26001, 26, 24007, 24, 7, 29003, 0]
    instances = np.asarray(ids, np.int32)[rng.integers(0, len(ids), (13, 17))]
    raw = np.where(instances >= 1000, instances // 1000, instances)
    truth = LABELS.encode(raw, "here")
    prediction = rng.choice([CAR, PERSON, ROAD], truth.shape).astype(np.uint8)
    return prediction, truth, instances


def by_loops(images: list, class_: int, raw: int, name: str) -> float:
    right = missed = false = 0.0
    for prediction, truth, instances in images:
        for id_ in np.unique(instances):
            if id_ > 1000 and id_ // 1000 == raw:
                own = [value == class_ for value in prediction[instances == id_]]
                right += sum(own) * AVERAGE_SIZES[name] / len(own)
                missed += (len(own) - sum(own)) * AVERAGE_SIZES[name] / len(own)
        for predicted, true in zip(prediction.flat, truth.flat, strict=True):
            false += predicted == class_ and true not in (class_, IGNORE)
    return right / (right + missed + false)


def test_follows_the_definition():
    images = [image(seed) for seed in range(3)]
    matrix = sum(
        confusion(torch.from_numpy(prediction), torch.from_numpy(truth), 19)
        for prediction, truth, _ in images
    )
    scores = Scores.of(matrix, LABELS.names)
    found = instance_iou(
        [weighted_pixels(prediction, ids, LABELS) for prediction, _, ids in images], scores
    )
    assert found[CAR] == pytest.approx(by_loops(images, CAR, 26, "car"), rel=1e-12)
    assert found[PERSON] == pytest.approx(by_loops(images, PERSON, 24, "person"), rel=1e-12)
    assert math.isnan(found[ROAD])  # no class of instances
    assert math.isnan(found[LABELS.names.index("train")])  # nowhere


def test_a_small_instance_weighs_as_much_as_a_large_one():
    """Of a car of 100 pixels all are right, of one of 4 none: IoU 100 / 104, iIoU a half."""
    instances = np.full((8, 13), 26000, np.int32)
    instances[:2, :2] = 26001
    prediction = np.where(instances == 26000, CAR, ROAD).astype(np.uint8)
    found = weighted_pixels(prediction, instances, LABELS)
    assert found.right[CAR] == pytest.approx(AVERAGE_SIZES["car"])
    assert found.missed[CAR] == pytest.approx(AVERAGE_SIZES["car"])


def test_a_image_without_instances():
    found = weighted_pixels(np.zeros((3, 4), np.uint8), np.full((3, 4), 7, np.int32), LABELS)
    assert not found.right.any()
    assert not found.missed.any()


def test_another_size_is_named():
    with pytest.raises(BinsegError, match=r"instance map's shape \(3, 4\)"):
        weighted_pixels(np.zeros((3, 5), np.uint8), np.zeros((3, 4), np.int32), LABELS)
