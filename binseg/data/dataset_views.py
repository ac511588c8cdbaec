"""A data set seen in another way: with other classes, or with wider images."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from binseg.data.labels import IGNORE, LabelTable, class_subset
from binseg.data.samples import Sample, SegmentationDataset


class RelabelledDataset:
    """A data set with other classes: those of `labels`, found by a table of train ids.

    All images stay, also those that now have no counting pixel: the score of a set must not depend
    on which images happen to hold a class.

    Args:
        dataset: the data set.
        labels: the classes that it gets.
        lookup: uint8 (256,), new train id by old one.
    """

    def __init__(
        self, dataset: SegmentationDataset, labels: LabelTable, lookup: np.ndarray
    ) -> None:
        self.dataset = dataset
        self.labels = labels
        self.faults, self.expected = dataset.faults, dataset.expected
        self.left_out, self.arrangement = dataset.left_out, dataset.arrangement
        self.labelled = dataset.labelled
        self._lookup = lookup

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return sample._replace(labels=self._lookup[sample.labels])

    def read_labels(self, index: int) -> np.ndarray:
        return self._lookup[self.dataset.read_labels(index)]

    def sample_name(self, index: int) -> str:
        return self.dataset.sample_name(index)

    def sample_key(self, index: int) -> str:
        return self.dataset.sample_key(index)

    def sample_size(self, index: int) -> tuple[int, int]:
        return self.dataset.sample_size(index)

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        return self.dataset.sample_paths(index)

    def read_instances(self, index: int) -> np.ndarray | None:
        return None  # instances of classes that are left out would count as such


class StretchedDataset:
    """A data set whose images are stored squeezed: their width is multiplied when they are read.

    Labels keep their own size; whoever trains resizes them to the image, and scores are counted at
    the label's own resolution anyway.

    Args:
        dataset: the data set.
        stretch: factor on the width.
    """

    def __init__(self, dataset: SegmentationDataset, stretch: float) -> None:
        self.dataset = dataset
        self.labels = dataset.labels
        self.faults, self.expected = dataset.faults, dataset.expected
        self.left_out, self.arrangement = dataset.left_out, dataset.arrangement
        self.labelled = dataset.labelled
        self.stretch = stretch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        height, width = sample.image.shape[:2]
        size = self._width(width), height
        shrinks = size[0] < width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return sample._replace(image=cv2.resize(sample.image, size, interpolation=method))

    def _width(self, width: int) -> int:
        return max(1, round(width * self.stretch))

    def read_labels(self, index: int) -> np.ndarray:
        return self.dataset.read_labels(index)

    def sample_name(self, index: int) -> str:
        return self.dataset.sample_name(index)

    def sample_key(self, index: int) -> str:
        return self.dataset.sample_key(index)

    def sample_size(self, index: int) -> tuple[int, int]:
        height, width = self.dataset.sample_size(index)
        return height, self._width(width)

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        return self.dataset.sample_paths(index)

    def read_instances(self, index: int) -> np.ndarray | None:
        return self.dataset.read_instances(index)


def stretched(dataset: SegmentationDataset, stretch: float) -> SegmentationDataset:
    """The data set with its images' width multiplied by `stretch`; itself for a factor of 1."""
    return dataset if stretch == 1 else StretchedDataset(dataset, stretch)


def subset_of_classes(dataset: SegmentationDataset, names: Sequence[str]) -> RelabelledDataset:
    """A data set with only some of its classes, renumbered in the order given.

    Raises:
        BinsegError: an unknown class (says the nearest), one named twice, or none.
    """
    labels = class_subset(dataset.labels, names)
    lookup = np.full(256, IGNORE, np.uint8)
    for train, name in enumerate(names):
        lookup[dataset.labels.names.index(name)] = train
    return RelabelledDataset(dataset, labels, lookup)
