"""Data sets made of others: the same samples with other classes, wider images, …; base of all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from binseg.data.image_files import LeftOut
from binseg.data.labels import IGNORE, LabelTable, class_subset
from binseg.data.samples import Sample, SegmentationDataset

_Item = TypeVar("_Item")


class DatasetView:
    """Samples of other data sets as they are; subclasses say what differs.

    Args:
        parts: data sets of one label table, at least one.
        indices: which samples of the only part, in what order; None: all of all parts.
        arrangement: in words, how the samples came together; None: as in the first part.
    """

    def __init__(
        self,
        *parts: SegmentationDataset,
        indices: Sequence[int] | None = None,
        arrangement: str | None = None,
    ) -> None:
        first = parts[0]
        self.labels: LabelTable = first.labels
        self.faults: Sequence[str] = _unique(fault for part in parts for fault in part.faults)
        self.left_out: Sequence[LeftOut] = _unique(one for part in parts for one in part.left_out)
        self.labelled = all(part.labelled for part in parts)
        self.arrangement = first.arrangement if arrangement is None else arrangement
        whole = len(parts) == 1 and indices is None
        self.expected: int | None = first.expected if whole else None
        self._places = (
            [(part, index) for part in parts for index in range(len(part))]
            if indices is None
            else [(first, index) for index in indices]
        )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        part, place = self._places[index]
        return part[place]

    def read_labels(self, index: int) -> np.ndarray:
        part, place = self._places[index]
        return part.read_labels(place)

    def sample_name(self, index: int) -> str:
        part, place = self._places[index]
        return part.sample_name(place)

    def sample_key(self, index: int) -> str:
        part, place = self._places[index]
        return part.sample_key(place)

    def sample_size(self, index: int) -> tuple[int, int]:
        part, place = self._places[index]
        return part.sample_size(place)

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        part, place = self._places[index]
        return part.sample_paths(place)

    def read_instances(self, index: int) -> np.ndarray | None:
        part, place = self._places[index]
        return part.read_instances(place)


class RelabelledDataset(DatasetView):
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
        super().__init__(dataset)
        self.labels = labels
        self._lookup = lookup

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return sample._replace(labels=self._lookup[sample.labels])

    def read_labels(self, index: int) -> np.ndarray:
        return self._lookup[super().read_labels(index)]

    def read_instances(self, index: int) -> np.ndarray | None:
        return None  # instances of classes that are left out would count as such


class StretchedDataset(DatasetView):
    """A data set whose images are stored squeezed: their width is multiplied when they are read.

    Labels keep their own size; whoever trains resizes them to the image, and scores are counted at
    the label's own resolution anyway.

    Args:
        dataset: the data set.
        stretch: factor on the width.
    """

    def __init__(self, dataset: SegmentationDataset, stretch: float) -> None:
        super().__init__(dataset)
        self.stretch = stretch

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        height, width = sample.image.shape[:2]
        size = self._width(width), height
        shrinks = size[0] < width
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return sample._replace(image=cv2.resize(sample.image, size, interpolation=method))

    def _width(self, width: int) -> int:
        return max(1, round(width * self.stretch))

    def sample_size(self, index: int) -> tuple[int, int]:
        height, width = super().sample_size(index)
        return height, self._width(width)


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


def _unique(items: Iterable[_Item]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys(items))
