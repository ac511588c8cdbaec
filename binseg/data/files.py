"""Image files and mask files that belong together, and which split they are in."""

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from binseg.data.image_files import LeftOut
from binseg.data.imageio import image_size, read_image, read_mask
from binseg.data.labels import IGNORE, LabelTable
from binseg.data.samples import Sample
from binseg.errors import BinsegError


class MissingSplitError(BinsegError):
    """A data set has no such split at all, as opposed to a faulty one."""


class Pair(NamedTuple):
    """An image and the mask that belongs to it; None where nobody gives labels out."""

    image: Path
    mask: Path | None


def require_one_size(pair: tuple[Path, Path | None], image: np.ndarray, labels: np.ndarray) -> None:
    """Compare an image, (H, W, 3), and its labels, (H', W'), read from `pair`.

    Raises:
        BinsegError: they differ in size; names both files.
    """
    if image.shape[:2] != labels.shape:
        raise BinsegError(
            f"{pair[1]}: the mask has {labels.shape[1]} × {labels.shape[0]} pixels, its image "
            f"{pair[0].name} {image.shape[1]} × {image.shape[0]}; make them equal"
        )


class PairedFiles:
    """A data set of image files and mask files; base of the readers.

    Args:
        pairs: the files, in the order of the set.
        labels: the classes.
        faults: what is wrong with the arrangement of the files.
        strict: raise the first of them.
        expected: images of the full set, if it is known.
        labelled: False: a test split whose labels are not public.
        left_out: files beside them that are not read.
        arrangement: how the files were read, in words.
    """

    faults: Sequence[str]

    def __init__(
        self,
        pairs: Sequence[Pair],
        labels: LabelTable,
        faults: Sequence[str],
        strict: bool,
        *,
        expected: int | None = None,
        labelled: bool = True,
        left_out: Sequence[LeftOut] = (),
        arrangement: str = "",
    ) -> None:
        if strict and faults:
            more = f" (and {len(faults) - 1} more: see `binseg data check`)" * (len(faults) > 1)
            raise BinsegError(faults[0] + more)
        self.pairs = tuple(pairs)
        self.labels = labels
        self.faults = tuple(faults)
        self.expected = expected
        self.labelled = labelled
        self.left_out: Sequence[LeftOut] = tuple(left_out)
        self.arrangement = arrangement

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read image and mask.

        Raises:
            BinsegError: an unreadable file, unknown ids, or a mask of another size.
        """
        pair = self.pairs[index]
        image, labels = read_image(pair.image), self.read_labels(index)
        require_one_size(pair, image, labels)
        return Sample(image, labels, self.sample_name(index))

    def read_labels(self, index: int) -> np.ndarray:
        mask = self.pairs[index].mask
        if mask is None:
            return np.full(self.sample_size(index), IGNORE, np.uint8)
        return self.labels.encode(self._read_mask(mask), mask)

    def _read_mask(self, path: Path) -> np.ndarray:
        """Raw ids, integer (H, W)."""
        return read_mask(path)

    def sample_name(self, index: int) -> str:
        return self.pairs[index].image.stem

    def sample_key(self, index: int) -> str:
        return self.sample_name(index)

    def sample_size(self, index: int) -> tuple[int, int]:
        return image_size(self.pairs[index].image)

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        return self.pairs[index]

    def read_instances(self, index: int) -> np.ndarray | None:
        return None


def existing_root(root: str | Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise BinsegError(
            f"{root}: no such folder; set --data.root to the data set's folder (unpack it first)"
        )
    return root


def hashed_val(names: Iterable[str]) -> set[str]:
    """About one name in five, by a hash of it: those of images, or groups, that are val.

    The choice is the same on every machine, and a new name moves no other one; except that of two
    names and more at least one is val, and one is not.

    Args:
        names: their bytes count as they are, also if they are no UTF-8.
    """
    numbers = {name: _hash(name) for name in names}
    val = {name for name, number in numbers.items() if number % 5 == 0}
    if len(numbers) > 1 and not val:
        return {min(numbers, key=lambda name: numbers[name])}
    if len(numbers) > 1 and len(val) == len(numbers):
        return val - {max(numbers, key=lambda name: numbers[name])}
    return val


def _hash(name: str) -> int:
    # Apple's file systems give "ö" as "o" and a mark
    composed = unicodedata.normalize("NFC", name)
    return int.from_bytes(hashlib.sha256(os.fsencode(composed)).digest()[:4], "big")


def absent(paths: Sequence[Path]) -> list[Path]:
    """Those of `paths` that do not exist; each folder is listed once, not asked for each file."""
    there: dict[Path, set[str]] = {}
    for folder in {path.parent for path in paths}:
        there[folder] = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [path for path in paths if path.name not in there[path.parent]]
