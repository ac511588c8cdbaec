"""Read a whole data set and list everything that is wrong with it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from binseg.data.config import DataConfig
from binseg.data.datasets import (
    SPLITS,
    MissingSplitError,
    SegmentationDataset,
    dataset_labels,
)
from binseg.data.labels import IGNORE, LabelTable
from binseg.errors import BinsegError


@dataclass
class SplitReport:
    """What was found in one split.

    Args:
        samples: pictures that were read without a fault.
        pixels: int64 (C + 1,): pixels of each class, ignored ones last.
        present: int64 (C,): pictures in which the class occurs.
        sizes: pictures by (height, width).
    """

    samples: int
    pixels: np.ndarray
    present: np.ndarray
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass
class DatasetReport:
    """What `check_dataset` found: one line a fault, and the counts of each split that opened."""

    labels: LabelTable
    faults: list[str]
    splits: dict[str, SplitReport]


class DatasetCheck:
    """A check in steps, so that a caller can show progress: iterate, then take `report`.

    Every picture and mask is read once. Faults found: unknown class ids, missing files,
    masks of another size, unreadable files, empty splits, masks without one counting pixel, and
    pictures that are, byte for byte, in two splits or twice in one.

    Args:
        config: says which data set.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """

    def __init__(self, config: DataConfig) -> None:
        self.labels = dataset_labels(config.name, config.root)
        self.report = DatasetReport(self.labels, [], {})
        self._datasets: dict[str, SegmentationDataset] = {}
        self._copies: dict[bytes, list[str]] = defaultdict(list)
        for split in SPLITS:
            try:
                self._datasets[split] = config.open(split, strict=False)
            except BinsegError as error:
                optional = split == "test" and isinstance(error, MissingSplitError)
                if not optional and str(error) not in self.report.faults:
                    self.report.faults.append(str(error))

    def __len__(self) -> int:
        """Samples to read."""
        return sum(len(dataset) for dataset in self._datasets.values())

    def __iter__(self) -> Iterator[str]:
        """Check sample after sample, yielding the name of each; the report is ready at the end."""
        for split, dataset in self._datasets.items():
            faults = self.report.faults
            faults.extend(dataset.faults)
            classes = self.labels.num_classes
            result = SplitReport(0, np.zeros(classes + 1, np.int64), np.zeros(classes, np.int64))
            self.report.splits[split] = result
            for index in range(len(dataset)):
                faults.extend(self._check_sample(split, dataset, index, result))
                yield f"{split}/{dataset.sample_name(index)}"
        for places in self._copies.values():
            if len(places) > 1:
                self.report.faults.append(
                    f"{places[0]}: the same picture as {', '.join(places[1:])}; keep one, or the "
                    "score is of pictures that were trained on"
                )

    def _check_sample(
        self, split: str, dataset: SegmentationDataset, index: int, result: SplitReport
    ) -> Iterator[str]:
        paths = dataset.sample_paths(index)
        try:
            sample = dataset[index]
        except BinsegError as error:
            yield str(error)
            # a broken picture must not hide a broken mask
            if paths and not str(error).startswith(str(paths[1])):
                try:
                    dataset.read_labels(index)
                except BinsegError as mask_error:
                    yield str(mask_error)
            return
        counts = np.bincount(sample.labels.ravel(), minlength=IGNORE + 1)
        if counts[IGNORE] == sample.labels.size:
            where = paths[1] if paths else sample.name
            yield f"{where}: every pixel is ignored; label it or remove the pair"
        known = counts[: len(result.present)]
        result.samples += 1
        result.pixels += np.append(known, counts[IGNORE])
        result.present += known > 0
        size = (sample.labels.shape[0], sample.labels.shape[1])
        result.sizes[size] = result.sizes.get(size, 0) + 1
        if paths:
            self._copies[_digest(paths[0])].append(str(paths[0]))


def check_dataset(config: DataConfig) -> DatasetReport:
    """Read all splits of a data set; see `DatasetCheck`.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """
    check = DatasetCheck(config)
    for _ in check:
        pass
    return check.report


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
