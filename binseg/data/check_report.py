"""What a check of a data set found: faults, warnings, and how much there is of each class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from binseg.data.label_table import IGNORE, LabelTable

FAULTS = {
    "arrangement": "the files are not arranged as they should be",
    "left_out": "files are left out",
    "missing": "files are missing",
    "image": "images cannot be read",
    "mask": "masks cannot be read",
    "colors": "masks hold colours and not class ids",
    "ids": "masks hold ids that are not in the label table",
    "size": "masks and images differ in size",
    "empty": "masks have no pixel that counts",
    "classes": "classes cannot be learnt or scored",
    "shared": "splits share files",
    "copy": "images are there more than once",
}
"""What can be wrong with a data set, in the order of a report."""

WARNINGS = {
    "partly": "images are read otherwise than they were made",
    "classes": "classes have no pixel in a split",
    "sequences": "a sequence is in several splits",
    "near": "images of different splits are nearly the same",
    "views": "images of one split are nearly the same",
}
"""What may make scores mean less than they seem to, in the order of a report."""


class Finding(NamedTuple):
    """One fault or warning: one of `FAULTS` or `WARNINGS`, and a line with files and remedy."""

    kind: str
    text: str


@dataclass
class SplitReport:
    """What was found in one split.

    Args:
        size: the number of its images in words, beside that of the full set.
        listed: its images, faulty ones included.
        expected: images of the full set; None where nobody says.
        arrangement: in words, how its files were read.
        samples: images that were read without a fault in their files.
        pixels: int64 (C + 1,): pixels of each class, ignored ones last.
        present: int64 (C,): images in which the class occurs.
        sizes: images by (height, width).
    """

    size: str
    listed: int
    expected: int | None
    arrangement: str
    samples: int
    pixels: np.ndarray
    present: np.ndarray
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, counts: np.ndarray, size: tuple[int, int]) -> None:
        """Count a sample.

        Args:
            counts: int64 (256,): its pixels by train id.
            size: (height, width) of its image.
        """
        known = counts[: len(self.present)]
        self.samples += 1
        self.pixels += np.append(known, counts[IGNORE])
        self.present += known > 0
        self.sizes[size] += 1


@dataclass
class DatasetReport:
    """What `check_dataset` found.

    Args:
        labels: the data set's classes.
        faults: in the order of the splits and of the images in them, copies last.
        warnings: what is no fault, but makes scores mean less.
        splits: counts of each split that opened.
        near_duplicates: pairs of splits → (image of the first, image of the second).
        seconds: that reading took.
    """

    labels: LabelTable
    faults: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    splits: dict[str, SplitReport] = field(default_factory=dict)
    near_duplicates: dict[tuple[str, str], list[tuple[Path, Path]]] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "labels": self.labels.name,
            "seconds": self.seconds,
            "faults": by_kind(self.faults, FAULTS),
            "warnings": by_kind(self.warnings, WARNINGS),
            "near_duplicates": {
                "/".join(splits): [[str(path) for path in pair] for pair in pairs]
                for splits, pairs in self.near_duplicates.items()
            },
            "splits": {split: self._split(result) for split, result in self.splits.items()},
        }

    def _split(self, result: SplitReport) -> dict[str, Any]:
        shares = result.pixels / max(1, result.pixels.sum())
        columns = zip(self.labels.names, result.pixels, shares, result.present, strict=False)
        return {
            "images": result.listed,
            "expected": result.expected,
            "arrangement": result.arrangement,
            "read": result.samples,
            "classes": {
                name: {"pixels": int(pixels), "share": float(share), "images": int(images)}
                for name, pixels, share, images in columns
            },
            "ignored": {"pixels": int(result.pixels[-1]), "share": float(shares[-1])},
            "sizes": {
                f"{width}x{height}": count for (height, width), count in result.sizes.most_common()
            },
        }


def by_kind(findings: Sequence[Finding], kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """Lines by kind, in the order of `kinds`."""
    found = {kind: [one.text for one in findings if one.kind == kind] for kind in kinds}
    return {kind: lines for kind, lines in found.items() if lines}
