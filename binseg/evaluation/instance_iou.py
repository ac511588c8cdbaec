"""Instance-level IoU of Cityscapes: large objects do not outweigh small ones.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, section
4.1: iIoU = iTP / (iTP + FP + iFN). Each pixel of an instance counts by the class's average
instance size over this instance's size; false positives belong to no instance and count plainly.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from binseg.data.label_table import LabelTable
from binseg.errors import BinsegError
from binseg.evaluation.scores import Scores

AVERAGE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Pixels of an average instance; from evalPixelLevelSemanticLabeling.py of cityscapesScripts."""

_GROUP = 1000  # instance ids are class id · 1000 + number; up to here a pixel is of no single one


class WeightedPixels(NamedTuple):
    """The instances' pixels of one image by class, float64 (num_classes,)."""

    right: np.ndarray
    """iTP: Σ over instances of (pixels predicted right) · average size / own size."""
    missed: np.ndarray
    """iFN: the same of the other pixels."""


def weighted_pixels(
    prediction: np.ndarray, instances: np.ndarray, labels: LabelTable
) -> WeightedPixels:
    """Weigh the pixels of one image's instances.

    Args:
        prediction: HW uint8 train ids.
        instances: HW int32 of the same size, see `SegmentationDataset.read_instances`.
        labels: which class an instance's id belongs to.

    Raises:
        BinsegError: the sizes differ.
    """
    if prediction.shape != instances.shape:
        raise BinsegError(
            f"the instance map's shape {instances.shape} is not the label's {prediction.shape}; "
            "unpack gtFine again"
        )
    own = instances > _GROUP
    ids, predicted = instances[own], prediction[own]
    sizes = np.bincount(ids)
    classes = np.full(len(sizes), -1)
    for raw, train in labels.raw_to_train.items():
        if train < labels.num_classes and labels.names[train] in AVERAGE_SIZES:
            classes[raw * _GROUP : (raw + 1) * _GROUP] = train
    hits = np.bincount(ids[predicted == classes[ids]], minlength=len(sizes))
    found = WeightedPixels(np.zeros(labels.num_classes), np.zeros(labels.num_classes))
    for instance in np.flatnonzero(sizes):
        train = classes[instance]
        if train >= 0:
            weight = AVERAGE_SIZES[labels.names[train]] / sizes[instance]
            found.right[train] += hits[instance] * weight
            found.missed[train] += (sizes[instance] - hits[instance]) * weight
    return found


def instance_iou(images: Iterable[WeightedPixels], scores: Scores) -> tuple[float, ...]:
    """iIoU of each class over a set; nan for a class without instances or in neither.

    Args:
        images: of all images, in the data set's order (sums of floats depend on it).
        scores: hold the false positives.
    """
    right, missed = np.zeros(len(scores.names)), np.zeros(len(scores.names))
    for image in images:
        right += image.right
        missed += image.missed
    matrix = np.asarray(scores.matrix)
    false = matrix.sum(axis=0) - matrix.diagonal()
    with np.errstate(invalid="ignore"):
        iou = right / (right + missed + false)
    countable = np.isin(scores.names, list(AVERAGE_SIZES))
    return tuple(np.where(countable, iou, np.nan).tolist())
