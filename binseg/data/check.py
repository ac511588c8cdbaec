"""Read a whole data set and list everything that is wrong with it."""

import functools
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from binseg.data.check_sample import KINDS, Fault, Finding, check_sample
from binseg.data.config import DataConfig
from binseg.data.datasets import SPLITS, MissingSplitError
from binseg.data.labels import IGNORE, LabelTable
from binseg.data.processes import in_processes
from binseg.data.samples import SegmentationDataset, told_size
from binseg.errors import BinsegError

_SHOWN_COPIES = 3


@dataclass
class SplitReport:
    """What was found in one split.

    Args:
        told: the number of its pictures in words, beside that of the full set.
        listed: its pictures, faulty ones included.
        expected: pictures of the full set; None where nobody says.
        samples: pictures that were read without a fault in their files.
        pixels: int64 (C + 1,): pixels of each class, ignored ones last.
        present: int64 (C,): pictures in which the class occurs.
        sizes: pictures by (height, width).
    """

    told: str
    listed: int
    expected: int | None
    samples: int
    pixels: np.ndarray
    present: np.ndarray
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a sample, unless it is faulty."""
        if finding.counts is None or finding.size is None:
            return
        known = finding.counts[: len(self.present)]
        self.samples += 1
        self.pixels += np.append(known, finding.counts[IGNORE])
        self.present += known > 0
        self.sizes[finding.size] += 1


@dataclass
class DatasetReport:
    """What `check_dataset` found.

    Args:
        labels: the data set's classes.
        faults: in the order of the splits and of the pictures in them, copies last.
        splits: counts of each split that opened.
        seconds: that reading took.
    """

    labels: LabelTable
    faults: list[Fault] = field(default_factory=list)
    splits: dict[str, SplitReport] = field(default_factory=dict)
    seconds: float = 0.0

    def by_kind(self) -> dict[str, list[str]]:
        """The faults' lines by kind, in the order of `KINDS`."""
        found = {
            kind: [fault.text for fault in self.faults if fault.kind == kind] for kind in KINDS
        }
        return {kind: lines for kind, lines in found.items() if lines}

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "labels": self.labels.name,
            "seconds": self.seconds,
            "faults": self.by_kind(),
            "splits": {split: self._split(result) for split, result in self.splits.items()},
        }

    def _split(self, result: SplitReport) -> dict[str, Any]:
        shares = result.pixels / max(1, result.pixels.sum())
        columns = zip(self.labels.names, result.pixels, shares, result.present, strict=False)
        return {
            "pictures": result.listed,
            "expected": result.expected,
            "read": result.samples,
            "classes": {
                name: {"pixels": int(pixels), "share": float(share), "pictures": int(pictures)}
                for name, pixels, share, pictures in columns
            },
            "ignored": {"pixels": int(result.pixels[-1]), "share": float(shares[-1])},
            "sizes": {
                f"{width}x{height}": count for (height, width), count in result.sizes.most_common()
            },
        }


class _Place(NamedTuple):
    split: str
    path: Path


class DatasetCheck:
    """A check in steps, so that a caller can show progress: iterate, then take `report`.

    Every picture and mask is read once; the faults that are looked for are `KINDS`. The report
    does not depend on the number of processes.

    Args:
        config: says which data set.
        workers: processes that read; below 2: this one.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """

    def __init__(self, config: DataConfig, workers: int = 1) -> None:
        self.report = DatasetReport(config.label_table())
        self._workers = workers
        # of a few classes only, a picture may well have none
        self._need_labels = config.chosen_classes is None
        self._datasets: dict[str, SegmentationDataset] = {}
        self._places: dict[bytes, list[_Place]] = defaultdict(list)
        said = set()
        for split in SPLITS:
            try:
                self._datasets[split] = config.open(split, strict=False)
            except BinsegError as error:
                optional = split == "test" and isinstance(error, MissingSplitError)
                if not optional and str(error) not in said:
                    self.report.faults.append(Fault("arrangement", str(error)))
                    said.add(str(error))
        for number, other in enumerate(config.merge, start=1):
            try:
                opened = other.open(self.report.labels, strict=False)
            except BinsegError as error:
                self.report.faults.append(Fault("arrangement", str(error)))
            else:
                self._datasets[f"merge {number}, {other.name}"] = opened

    def __len__(self) -> int:
        """Samples to read."""
        return sum(len(dataset) for dataset in self._datasets.values())

    def __iter__(self) -> Iterator[str]:
        """Check sample after sample, yielding the name of each; the report is ready at the end.

        Raises:
            BinsegError: a process that read was killed.
        """
        began = time.monotonic()
        items = [
            (split, index)
            for split, dataset in self._datasets.items()
            for index in range(len(dataset))
        ]
        check = functools.partial(_check_item, self._datasets, items, self._need_labels)
        findings = in_processes(check, len(items), self._workers)
        faults = self.report.faults
        for split, dataset in self._datasets.items():
            faults.extend(Fault("arrangement", line) for line in dataset.faults)
            result = self._begin(split, dataset)
            for index in range(len(dataset)):
                finding = next(findings)
                faults.extend(finding.faults)
                result.add(finding)
                paths = dataset.sample_paths(index)
                if paths is not None and finding.digest is not None:
                    self._places[finding.digest].append(_Place(split, paths[0]))
                yield f"{split}/{dataset.sample_name(index)}"
        faults.extend(_repeated(list(self._places.values())))
        self.report.seconds = time.monotonic() - began

    def _begin(self, split: str, dataset: SegmentationDataset) -> SplitReport:
        classes = self.report.labels.num_classes
        zeros = np.zeros(classes + 1, np.int64), np.zeros(classes, np.int64)
        result = SplitReport(told_size(dataset), len(dataset), dataset.expected, 0, *zeros)
        self.report.splits[split] = result
        return result


def check_dataset(config: DataConfig, workers: int = 1) -> DatasetReport:
    """Read all splits of a data set; see `DatasetCheck`.

    Raises:
        BinsegError: an unknown data set, or its label table cannot be read at all.
    """
    check = DatasetCheck(config, workers)
    for _ in check:
        pass
    return check.report


def _check_item(
    datasets: dict[str, SegmentationDataset],
    items: Sequence[tuple[str, int]],
    need_labels: bool,
    number: int,
) -> Finding:
    split, index = items[number]
    # what is merged may have images of ignored classes alone
    return check_sample(datasets[split], index, need_labels=need_labels and split in SPLITS)


def _repeated(groups: Sequence[Sequence[_Place]]) -> Iterator[Fault]:
    """Faults of pictures with equal pixels: one file in several lists, or several files."""
    shared: dict[tuple[str, str], list[Path]] = defaultdict(list)
    copies = []
    for group in groups:
        listed = Counter(group)
        for place, times in listed.items():
            if times > 1:
                shared[place.split, place.split].append(place.path)
        for first, second in combinations(listed, 2):
            if first.path == second.path:
                shared[first.split, second.split].append(first.path)
        paths = list(dict.fromkeys(place.path for place in group))
        if len(paths) > 1:
            copies.append(_copy(paths))
    for (one, other), paths in shared.items():
        count = f"{len(paths):,} picture{'s' if len(paths) > 1 else ''}"
        if one == other:
            yield Fault("shared", f"{one}: lists {count} twice, such as {paths[0]}; delete one")
        else:
            yield Fault(
                "shared",
                f"{one} and {other}: both list {count}, such as {paths[0]}; keep each in one, "
                "or the score is of pictures that were trained on",
            )
    yield from copies


def _copy(paths: Sequence[Path]) -> Fault:
    """The fault of different files that hold one picture."""
    exact = len({_digest(path) for path in paths}) == 1
    others = ", ".join(str(path) for path in paths[1 : 1 + _SHOWN_COPIES])
    more = f" and {len(paths) - 1 - _SHOWN_COPIES} more" if len(paths) > 1 + _SHOWN_COPIES else ""
    how = "" if exact else " in another encoding"
    return Fault(
        "copy",
        f"{paths[0]}: the same picture as {others}{more}{how}; keep one, or the score may be of "
        "pictures that were trained on",
    )


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
