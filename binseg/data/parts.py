"""Data sets made of others: several one after the other, or some samples of one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from binseg.data.image_files import LeftOut
from binseg.data.samples import Sample, SegmentationDataset

_Item = TypeVar("_Item")


class JoinedDatasets:
    """Several data sets of one label table as one, in their order.

    Sample names stay unique: a second `0001` is called `0001_2`.

    Args:
        datasets: at least one.
        arrangement: in words, how they came together.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset], arrangement: str = "") -> None:
        self.datasets = tuple(datasets)
        self.labels = datasets[0].labels
        self.faults: Sequence[str] = _unique(fault for part in datasets for fault in part.faults)
        self.left_out: Sequence[LeftOut] = _unique(
            one for part in datasets for one in part.left_out
        )
        self.expected: int | None = None
        self.labelled = all(part.labelled for part in datasets)
        self.arrangement = arrangement
        self._places = [(part, index) for part in datasets for index in range(len(part))]
        self._names = distinct_names([part.sample_name(index) for part, index in self._places])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        part, place = self._places[index]
        return part[place]._replace(name=self._names[index])

    def read_labels(self, index: int) -> np.ndarray:
        part, place = self._places[index]
        return part.read_labels(place)

    def sample_name(self, index: int) -> str:
        return self._names[index]

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


class SelectedSamples:
    """Some samples of a data set, in the order given.

    Args:
        dataset: where they come from.
        indices: their places in it.
        arrangement: in words, how they were selected.
    """

    def __init__(
        self, dataset: SegmentationDataset, indices: Sequence[int], arrangement: str = ""
    ) -> None:
        self.dataset = dataset
        self.indices = tuple(indices)
        self.labels = dataset.labels
        self.faults, self.left_out = dataset.faults, dataset.left_out
        self.expected: int | None = None
        self.labelled = dataset.labelled
        self.arrangement = arrangement

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def read_labels(self, index: int) -> np.ndarray:
        return self.dataset.read_labels(self.indices[index])

    def sample_name(self, index: int) -> str:
        return self.dataset.sample_name(self.indices[index])

    def sample_key(self, index: int) -> str:
        return self.dataset.sample_key(self.indices[index])

    def sample_size(self, index: int) -> tuple[int, int]:
        return self.dataset.sample_size(self.indices[index])

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        return self.dataset.sample_paths(self.indices[index])

    def read_instances(self, index: int) -> np.ndarray | None:
        return self.dataset.read_instances(self.indices[index])


def _unique(items: Iterable[_Item]) -> list[_Item]:
    return list(dict.fromkeys(items))


def distinct_names(names: list[str]) -> list[str]:
    """The names, all but the first of several equal ones numbered."""
    taken = set(names)
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        own = name
        if seen[name] > 1:
            while (own := f"{name}_{seen[name]}") in taken:
                seen[name] += 1
            taken.add(own)
        found.append(own)
    return found
