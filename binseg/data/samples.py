"""The interface of data sets: labelled images in a fixed order."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from binseg.data.image_files import LeftOut
from binseg.data.label_table import LabelTable


class Sample(NamedTuple):
    """An image and its train ids, at their own resolution, with no augmentation.

    `image` is uint8 (H, W, 3) RGB in [0, 255]; `labels` is uint8 (H, W): 0 … C−1, 255 ignored;
    `name` is unique in its split and short enough for a message or a file name.
    """

    image: np.ndarray
    labels: np.ndarray
    name: str


class SegmentationDataset(Protocol):
    """Labelled images of one split, in a fixed order; reading one has no side effects."""

    labels: LabelTable
    faults: Sequence[str]
    """What is wrong with the files' arrangement; empty unless opened with strict=False."""
    left_out: Sequence[LeftOut]
    """Files beside those of the set that are not read, such as images of a format that is not
    supported and masks without an image."""
    arrangement: str
    """In words, how the files were read and split; empty where it goes without saying."""
    expected: int | None
    """The number of images that the full set has in this split; None where nobody says."""
    labelled: bool
    """False for a benchmark's test split, whose labels are all 255."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def read_labels(self, index: int) -> np.ndarray:
        """Only the uint8 (H, W) train ids: faster than a whole sample."""

    def sample_name(self, index: int) -> str:
        """The sample's name without reading it."""

    def sample_key(self, index: int) -> str:
        """What data.group_by is matched against: the name, with the folders that it lies in below
        the folder of all images, like `city/frame_001`."""

    def sample_size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image without decoding it."""

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        """The files (image, mask or None if it has no labels); None if drawn, not read."""

    def read_instances(self, index: int) -> np.ndarray | None:
        """int32 (H, W) Cityscapes instance ids (class id · 1000 + number, or the class id for a
        pixel of no single instance); None where the data set has none."""


def size_in_words(dataset: SegmentationDataset) -> str:
    """The number of a set's images in words, beside that of the full set where it is known."""
    words = f"{len(dataset):,} image{'s' if len(dataset) != 1 else ''}"
    if dataset.expected is None:
        return words
    if dataset.expected == len(dataset):
        return f"{words} (as the full set has)"
    return f"{words} (the full set has {dataset.expected:,})"
