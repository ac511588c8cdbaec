"""The counts of many images, which add up over processes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from binseg.data.labels import LabelTable
from binseg.data.samples import Sample
from binseg.errors import BinsegError
from binseg.evaluation.boundary import BoundaryIoU
from binseg.evaluation.instance_iou import WeightedPixels, instance_iou, weighted_pixels
from binseg.evaluation.result import Evaluation, ImageScore, WorstImage
from binseg.evaluation.scores import Scores, confusion


class Tally:
    """What is counted of a set's images, some of them or all.

    Args:
        labels: the classes.
        boundary_distance: see `BoundaryIoU`; None leaves it out.
        worst: number of images whose predictions are kept.
    """

    def __init__(self, labels: LabelTable, boundary_distance: float | None, worst: int) -> None:
        self.labels = labels
        self._matrix = torch.zeros(labels.num_classes, labels.num_classes, dtype=torch.int64)
        self._boundary = None
        if boundary_distance is not None:
            self._boundary = BoundaryIoU(labels.num_classes, boundary_distance)
        self._images: dict[int, ImageScore] = {}
        self._counts: dict[int, np.ndarray] = {}
        self._instances: dict[int, WeightedPixels | None] = {}
        self._most = worst
        self._worst: list[WorstImage] = []

    def add(
        self, place: int, sample: Sample, prediction: np.ndarray, instances: np.ndarray | None
    ) -> None:
        """Count one image.

        Args:
            place: its index in the data set.
            sample: its labels and name are used.
            prediction: HW uint8 train ids, of the labels' size.
            instances: HW int32 instance ids, see `SegmentationDataset.read_instances`, or None.

        Raises:
            BinsegError: another size or unknown ids; the message names the image.
        """
        predicted, truth = _tensor(prediction), _tensor(sample.labels)
        try:
            matrix = confusion(predicted, truth, self.labels.num_classes)
            self._instances[place] = None
            if instances is not None:
                self._instances[place] = weighted_pixels(prediction, instances, self.labels)
        except BinsegError as error:
            raise BinsegError(f"{sample.name}: {error}") from error
        self._matrix += matrix
        if self._boundary is not None:
            self._boundary.update(prediction, sample.labels)
        alone = Scores.of(matrix, self.labels.names)
        image = ImageScore(sample.name, alone.mean_iou, alone.pixel_accuracy, alone.iou)
        self._images[place] = image
        self._counts[place] = torch.stack([matrix.diag(), matrix.sum(1), matrix.sum(0)]).numpy()
        if self._most and not math.isnan(image.mean_iou):
            self._keep_worst([WorstImage(place, image, prediction)])

    def merge(self, other: "Tally") -> None:
        """Add the images that another process has counted."""
        self._matrix += other._matrix
        if self._boundary is not None and other._boundary is not None:
            self._boundary.add(other._boundary)
        self._images.update(other._images)
        self._counts.update(other._counts)
        self._instances.update(other._instances)
        self._keep_worst(other._worst)

    def evaluation(self, seconds: float, about: Mapping[str, Any]) -> Evaluation:
        """The figures of everything counted."""
        scores = Scores.of(self._matrix, self.labels.names)
        instances = [self._instances[place] for place in sorted(self._instances)]
        weighted = [image for image in instances if image is not None]
        complete = bool(weighted) and len(weighted) == len(instances)
        return Evaluation(
            labels=self.labels,
            scores=scores,
            boundary_iou=None if self._boundary is None else self._boundary.compute(),
            boundary_distance=None if self._boundary is None else self._boundary.distance,
            instance_iou=instance_iou(weighted, scores) if complete else None,
            images=tuple(self._images[place] for place in sorted(self._images)),
            counts=self._stacked_counts(),
            worst=tuple(self._worst),
            seconds=seconds,
            about=dict(about),
        )

    def _stacked_counts(self) -> np.ndarray:
        if not self._counts:
            return np.zeros((0, 3, self.labels.num_classes), np.int64)
        return np.stack([self._counts[place] for place in sorted(self._counts)])

    def _keep_worst(self, more: Sequence[WorstImage]) -> None:
        self._worst += more
        self._worst.sort(key=lambda kept: (kept.score.mean_iou, kept.place))
        del self._worst[self._most :]


def _tensor(ids: np.ndarray) -> torch.Tensor:
    """The ids as a tensor; a copy only of arrays that torch would warn of or refuse."""
    return torch.from_numpy(np.require(ids, requirements=["C", "W"]))
