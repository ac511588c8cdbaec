"""Read one image and its mask, and say all that is wrong with them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from binseg.data.check_report import Finding
from binseg.data.files import require_one_size
from binseg.data.imageio import ColorMaskError, read_image
from binseg.data.label_table import UnknownIdsError
from binseg.data.labels import IGNORE
from binseg.data.near_duplicates import thumbnail
from binseg.data.samples import SegmentationDataset
from binseg.errors import BinsegError


@dataclass
class CheckedSample:
    """What was found in one sample.

    Attributes:
        faults: what is wrong with it.
        notes: what of the image is not read, or comes out dark.
        counts: int64 (256,): pixels by train id, ignored ones at 255; None if there is a fault
            that leaves nothing to count.
        size: (height, width) of the image; None if it cannot be read.
        digest: of the image's pixels; None if it cannot be read or was not read from a file.
        thumbnail: float32 (13, 13), to find near-duplicates by; None where there is no digest.
    """

    faults: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    counts: np.ndarray | None = None
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    thumbnail: np.ndarray | None = None


def check_sample(dataset: SegmentationDataset, index: int, *, need_labels: bool) -> CheckedSample:
    """Read sample `index`; a faulty image does not hide a faulty mask.

    Args:
        dataset: where it comes from.
        index: its place there.
        need_labels: whether a mask without one counting pixel is a fault.
    """
    paths = dataset.sample_paths(index)
    checked = CheckedSample()
    if paths is None:
        image, labels, _ = dataset[index]
        return _counted(checked, image, labels)
    image_path, mask_path = paths

    def note(text: str) -> None:
        checked.notes.append(Finding("partly", f"{image_path}: {text}"))

    pixels = _read(checked, image_path, "image", lambda: read_image(image_path, note=note))
    if pixels is not None:
        checked.digest = hashlib.sha256(pixels.data).digest() + repr(pixels.shape).encode()
        checked.thumbnail = thumbnail(pixels)
    if mask_path is None:
        # labels that are not public: all is ignored
        found = None if pixels is None else np.full(pixels.shape[:2], IGNORE, np.uint8)
    else:
        found = _read(checked, mask_path, "mask", lambda: dataset.read_labels(index))
    if pixels is None or found is None:
        return checked
    try:
        require_one_size(paths, pixels, found)
    except BinsegError as error:
        checked.faults.append(Finding("size", str(error)))
        return checked
    _counted(checked, pixels, found)
    if need_labels and mask_path is not None and (found == IGNORE).all():
        text = f"{mask_path}: every pixel is ignored; label it or remove the pair"
        checked.faults.append(Finding("empty", text))
    return checked


def _counted(checked: CheckedSample, image: np.ndarray, labels: np.ndarray) -> CheckedSample:
    checked.size = image.shape[0], image.shape[1]
    checked.counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)
    return checked


def _read(
    checked: CheckedSample, path: Path, kind: str, read: Callable[[], np.ndarray]
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
        checked.faults.append(Finding(kind, str(error)))
        return None
