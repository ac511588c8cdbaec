"""The result of scoring a data set."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from binseg.data.labels import LabelTable
from binseg.evaluation.scores import Scores, without_nan


class ImageScore(NamedTuple):
    """The scores of one image by itself; a class absent from it has no part in its mean."""

    name: str
    mean_iou: float
    pixel_accuracy: float
    iou: tuple[float, ...]

    def to_dict(self, labels: LabelTable) -> dict[str, Any]:
        """Plain values; `iou` by name, without the classes that the image does not have."""
        iou = zip(labels.names, self.iou, strict=True)
        return {**self._asdict(), "iou": {name: v for name, v in iou if not math.isnan(v)}}


class WorstImage(NamedTuple):
    """One of the images with the lowest mean IoU."""

    place: int
    """Its index in the data set."""
    score: ImageScore
    prediction: np.ndarray
    """HW uint8 train ids."""


@dataclass(frozen=True)
class Evaluation:
    """The result of scoring a data set.

    Attributes:
        labels: the classes.
        scores: the figures over the whole set.
        boundary_iou: Boundary IoU of each class, nan where absent; None if it was left out.
        boundary_distance: width of its boundary as a share of the diagonal.
        instance_iou: Cityscapes' iIoU of each class, nan for classes without instances; None
            without instance maps.
        images: the scores of each image, in the data set's order.
        counts: int64 (N, 3, C): of each image and class, the pixels that are right, in the truth,
            and in the prediction; what intervals are computed from.
        worst: the images with the lowest mean IoU, the lowest first.
        seconds: wall-clock time from the first image to the last.
        about: what was scored and how: model, protocol, data; goes into the report as it is.
    """

    labels: LabelTable
    scores: Scores
    boundary_iou: tuple[float, ...] | None
    boundary_distance: float | None
    instance_iou: tuple[float, ...] | None
    images: tuple[ImageScore, ...]
    counts: np.ndarray
    worst: tuple[WorstImage, ...]
    seconds: float
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean_boundary_iou(self) -> float | None:
        """Mean of `boundary_iou` over the classes that have one; None if it was left out."""
        return _mean(self.boundary_iou)

    @property
    def mean_instance_iou(self) -> float | None:
        """Mean of `instance_iou` over the classes that have one; None without instance maps."""
        return _mean(self.instance_iou)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; nan becomes None."""
        scores = self.scores.to_dict()
        if self.boundary_iou is not None:
            scores["boundary_distance"] = self.boundary_distance
        for key, mean, values in (
            ("boundary_iou", self.mean_boundary_iou, self.boundary_iou),
            ("instance_iou", self.mean_instance_iou, self.instance_iou),
        ):
            if values is not None:
                scores[f"mean_{key}"] = mean
                for name, value in zip(self.labels.names, values, strict=True):
                    scores["classes"][name][key] = value
        found = {
            **self.about,
            "scores": scores,
            "pictures": [image.to_dict(self.labels) for image in self.images],
            "seconds": round(self.seconds, 3),
        }
        plain: dict[str, Any] = without_nan(found)
        return plain


def _mean(values: tuple[float, ...] | None) -> float | None:
    if values is None:
        return None
    return torch.tensor(values, dtype=torch.float64).nanmean().item()
