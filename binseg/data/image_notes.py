"""Notes on images that are read, though not as their maker meant: dark values, pages and frames
that are left out."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from binseg.errors import BinsegWarning

_SUBFILE_TYPE = 254
_REDUCED_OR_MASK = 0b101
_MOST_PAGES = 12
_DEPTHS = (8, 10, 12, 14)
"""Bits of cameras and scanners whose values are stored in 16."""

Note = Callable[[str], None]
"""Called with a note, in words that follow "PATH: "."""

_noted: set[tuple[str, Path]] = set()


def warn_once(path: Path) -> Note:
    """Warns with a `BinsegWarning` that names the file; for all files of a folder once."""

    def note(text: str) -> None:
        kind = (text.split(":")[0], path.parent)
        if kind not in _noted:
            _noted.add(kind)
            more = "its folder may hold more such files"
            warnings.warn(BinsegWarning(f"{path}: {text} ({more})"), stacklevel=4)

    return note


def left_out_frames(image: ImageFile.ImageFile, kind: str) -> str | None:
    """What of a file is not read, if there is more in it than one image.

    Args:
        image: with its header read, at its first page or frame.
        kind: its format.
    """
    if kind == "TIFF":
        if not _has_second_page(image):
            return None
        return "several pages: only the first is read; save the others as files of their own"
    if getattr(image, "is_animated", False):
        return "an animation: only its first frame is read; save the others as files of their own"
    return None


def _has_second_page(image: ImageFile.ImageFile) -> bool:
    """Whether there is one that is neither the first in another size nor its mask."""
    tags: TiffImagePlugin.ImageFileDirectory_v2 = image.tag_v2  # type: ignore[attr-defined]
    file = image.fp
    if file is None:
        return False
    try:
        file.seek(0)
        head = file.read(8)
        if 43 in head[2:4]:  # BigTIFF
            head += file.read(8)
        for _ in range(_MOST_PAGES):
            if not tags.next:
                return False
            file.seek(tags.next)
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            tags.load(file)
            if not tags.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK:
                return True
    except Exception:  # readers of headers raise nearly anything on damaged files
        return False
    return False


def unused_bits(values: np.ndarray) -> str | None:
    """What to say of 16-bit values that a camera of fewer bits wrote.

    Args:
        values: integers, 0 to 65535.
    """
    largest = int(values.max())
    depth = next((each for each in _DEPTHS if largest < 1 << each), None)
    if depth is None or not largest:
        return None
    return (
        f"16-bit values of {depth} bits: the largest is {largest:,} of 65,535, so the image is "
        f"dark; multiply all images' values by {1 << (16 - depth)} if their camera has {depth} bits"
    )
