"""Read one picture and its mask, and say all that is wrong with them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from binseg.data.files import require_one_size
from binseg.data.imageio import ColorMaskError, read_image
from binseg.data.label_table import UnknownIdsError
from binseg.data.labels import IGNORE
from binseg.data.samples import SegmentationDataset
from binseg.errors import BinsegError

KINDS = {
    "arrangement": "the files are not arranged as they should be",
    "missing": "files are missing",
    "picture": "pictures cannot be read",
    "mask": "masks cannot be read",
    "colors": "masks hold colours and not class ids",
    "ids": "masks hold ids that are not in the label table",
    "size": "masks and pictures differ in size",
    "empty": "masks have no pixel that counts",
    "shared": "splits share files",
    "copy": "pictures are there more than once",
}
"""What can be wrong with a data set, in the order of a report."""


class Fault(NamedTuple):
    """One fault: one of `KINDS`, and a line that names the file and the remedy."""

    kind: str
    text: str


@dataclass
class Finding:
    """What was found in one sample.

    Attributes:
        faults: what is wrong with it.
        counts: int64 (256,): pixels by train id, ignored ones at 255; None if there is a fault
            that leaves nothing to count.
        size: (height, width) of the picture; None if it cannot be read.
        digest: of the picture's pixels; None if it cannot be read or was not read from a file.
    """

    faults: list[Fault] = field(default_factory=list)
    counts: np.ndarray | None = None
    size: tuple[int, int] | None = None
    digest: bytes | None = None


def check_sample(dataset: SegmentationDataset, index: int, *, need_labels: bool) -> Finding:
    """Read sample `index`; a faulty picture does not hide a faulty mask.

    Args:
        dataset: where it comes from.
        index: its place there.
        need_labels: whether a mask without one counting pixel is a fault.
    """
    paths = dataset.sample_paths(index)
    finding = Finding()
    if paths is None:
        image, labels, _ = dataset[index]
        return _counted(finding, image, labels)
    picture_path, mask_path = paths
    picture = _read(finding, picture_path, "picture", lambda: read_image(picture_path))
    if picture is not None:
        finding.digest = hashlib.sha256(picture.data).digest() + repr(picture.shape).encode()
    if mask_path is None:
        # labels that are not public: all is ignored
        found = None if picture is None else np.full(picture.shape[:2], IGNORE, np.uint8)
    else:
        found = _read(finding, mask_path, "mask", lambda: dataset.read_labels(index))
    if picture is None or found is None:
        return finding
    try:
        require_one_size(paths, picture, found)
    except BinsegError as error:
        finding.faults.append(Fault("size", str(error)))
        return finding
    _counted(finding, picture, found)
    if need_labels and mask_path is not None and (found == IGNORE).all():
        text = f"{mask_path}: every pixel is ignored; label it or remove the pair"
        finding.faults.append(Fault("empty", text))
    return finding


def _counted(finding: Finding, image: np.ndarray, labels: np.ndarray) -> Finding:
    finding.size = image.shape[0], image.shape[1]
    finding.counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)
    return finding


def _read(
    finding: Finding, path: Path, kind: str, read: Callable[[], np.ndarray]
) -> np.ndarray | None:
    """What `read` gives; None and a fault if it fails."""
    try:
        return read()
    except BinsegError as error:
        if not path.exists():
            kind = "missing"
        elif isinstance(error, ColorMaskError):
            kind = "colors"
        elif isinstance(error, UnknownIdsError):
            kind = "ids"
        finding.faults.append(Fault(kind, str(error)))
        return None
