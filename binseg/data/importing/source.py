"""What a format's reader gives: images with regions or with finished masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from binseg.data.label_table import Color

Overlap = Literal["later", "smaller"]
"""Which of two overlapping regions has the pixel: the later one in the file, or the smaller."""


@dataclass(frozen=True)
class Region:
    """A part of an image that has one label.

    Attributes:
        label: name of the class.
        rings: polygons, float64 (n, 2) each, x and y in pixels from the image's top left corner.
        bitmap: bool (H, W) in their place.
        ignored: its pixels never count (crowds).
    """

    label: str
    rings: tuple[np.ndarray, ...] = ()
    bitmap: np.ndarray | None = None
    ignored: bool = False


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and what is known of its pixels.

    Attributes:
        name: of the files to write, without a suffix; may hold "/", which becomes "_".
        image: its file, or the bytes of one.
        regions: in the order of the file.
        size: (height, width) in pixels that the annotations are made for; None if not said.
        mask: uint8 or uint16 (H, W) ids, places in `Source.classes`, 255 ignored; in place of
            regions.
        split: train, val or test, where the source says so.
    """

    name: str
    image: Path | bytes
    regions: Sequence[Region] = ()
    size: tuple[int, int] | None = None
    mask: np.ndarray | None = None
    split: str | None = None


@dataclass
class Notes:
    """What a reader has to say about what it left out or changed: line → names of the images."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, line: str, name: str) -> None:
        """Count `name` under `line`."""
        self.lines.setdefault(line, []).append(name)

    def __iter__(self) -> Iterator[str]:
        for line, names in self.lines.items():
            shown = ", ".join(dict.fromkeys(names[:3])) + (" …" if len(names) > 3 else "")
            yield f"{len(names):,} {line} ({shown})"


class Source(Protocol):
    """Annotations of one format.

    Attributes:
        title: the format's name.
        classes: the names of the classes, in order; () where they follow from the regions.
        colors: of the classes, where the source has them.
        overlap: which of two overlapping regions wins.
        covers: whether every pixel has a class already, as in masks.
        notes: filled while the images are read.
    """

    title: str
    classes: tuple[str, ...]
    colors: tuple[Color, ...] | None
    overlap: Overlap
    covers: bool
    notes: Notes

    def __iter__(self) -> Iterator[AnnotatedImage]: ...

    def __len__(self) -> int: ...
