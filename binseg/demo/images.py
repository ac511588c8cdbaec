"""Images that strangers upload: bounded before anything is decoded, and told in plain words."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from binseg.data.imageio import image_size, read_image
from binseg.data.preprocess import resize_image, size_within
from binseg.demo.faults import without_folders
from binseg.errors import BinsegError

MAX_PIXELS = 50_000_000
"""Of an upload, width × height: 150 MB as RGB."""

LARGEST_RATIO = 20
"""Of the long side to the short one; a network sees nothing in a strip that is thinner."""

SMALLEST_SIDE = 8
"""Pixels."""


@dataclass(frozen=True)
class OpenedImage:
    """An upload that can be segmented.

    Attributes:
        image: HWC uint8 RGB, contiguous.
        notes: what was done to it, for the person who uploaded it.
    """

    image: np.ndarray
    notes: list[str] = field(default_factory=list)


def open_upload(path: str | os.PathLike[str], *, longest: int = 1280) -> OpenedImage:
    """Read an image of unknown origin, see `read_image`, with its long side at most `longest`.

    Args:
        path: of the upload.
        longest: pixels of the long side.

    Raises:
        BinsegError: no image that binseg reads, damaged, too large, too small or too thin; the
            message has the file's own name and no folder.
    """
    path = Path(path)
    notes: list[str] = []
    with without_folders(path):
        height, width = image_size(path, MAX_PIXELS)
        _refuse_shape(path, height, width)
        size = size_within(height, width, longest)
        image = read_image(path, MAX_PIXELS, longest_side=longest, note=notes.append)
    if size != (height, width):
        notes.append(f"shown at {size[1]} x {size[0]}; the upload has {width} x {height} pixels")
        image = resize_image(image, size)
    return OpenedImage(image, notes)


def _refuse_shape(path: Path, height: int, width: int) -> None:
    size = f"{path}: {width} x {height} pixels"
    if max(height, width) > LARGEST_RATIO * min(height, width):
        raise BinsegError(f"{size} are a strip too thin to segment; cut a wider piece from it")
    if min(height, width) < SMALLEST_SIDE:
        raise BinsegError(
            f"{size} are too small to segment; an image needs at least {SMALLEST_SIDE} a side"
        )
