"""Some of a data set's classes; every other pixel is ignored."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from binseg.data.labels import IGNORE, class_subset
from binseg.data.samples import Sample, SegmentationDataset


class ClassSubset:
    """A data set with only some of its classes, renumbered in the order given.

    All pictures stay, also those that now have no counting pixel: the score of a set must not
    depend on which pictures happen to hold a class.

    Args:
        dataset: the whole set.
        names: classes to keep.

    Raises:
        BinsegError: an unknown class (says the nearest), one named twice, or none.
    """

    def __init__(self, dataset: SegmentationDataset, names: Sequence[str]) -> None:
        self.dataset = dataset
        self.labels = class_subset(dataset.labels, names)
        self.faults, self.expected = dataset.faults, dataset.expected
        self.left_out, self.arrangement = dataset.left_out, dataset.arrangement
        self.labelled = dataset.labelled
        self._lookup = np.full(256, IGNORE, np.uint8)
        for train, name in enumerate(names):
            self._lookup[dataset.labels.names.index(name)] = train

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
