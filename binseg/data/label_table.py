"""Tables of classes.

A mask file holds *raw ids*, whatever the people who drew it used. A network sees *train ids*
0 … C−1, and `IGNORE` where a pixel never counts. A `LabelTable` maps the one to the other.
"""

import colorsys
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from binseg.errors import BinsegError, unknown_name

IGNORE = 255
"""The train id of pixels that count neither in a loss nor in a score."""

Color = tuple[int, int, int]

IGNORE_COLOR: Color = (224, 224, 192)  # PASCAL VOC's cream for its void pixels; no class has it

_RAW_IDS = 1 << 16  # masks are 8- or 16-bit


class UnknownIdsError(BinsegError):
    """A mask holds raw ids, or colours, that its label table does not know."""


@dataclass(frozen=True)
class LabelTable:
    """The classes of one data set.

    Args:
        name: the table's own name, for messages and model files.
        names: class names by train id; 1 to 255 of them, all different.
        palette: one RGB colour (0 … 255 each) for each class.
        raw_to_train: raw id in a mask (0 … 65535) → train id (0 … C−1, or 255 for ignored).
            A raw id that is missing here is an error in the mask, not an ignored pixel.
        colors: colour in masks that hold colours → train id; empty where none are expected.

    Raises:
        BinsegError: the parts do not fit each other.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    raw_to_train: Mapping[int, int]
    colors: Mapping[Color, int] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise BinsegError(f"label table '{self.name}': {fault}")

    def _fault(self) -> str | None:
        if not 1 <= len(self.names) <= IGNORE:
            return f"it needs 1 to {IGNORE} classes, not {len(self.names)}"
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            return f"class names must differ, but {', '.join(repeated)} occur more than once"
        if len(self.palette) != len(self.names):
            return f"{len(self.names)} classes, but {len(self.palette)} colours"
        for color in self.palette:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                return f"colour {color} is not three values from 0 to 255"
        for raw, train in self.raw_to_train.items():
            if not 0 <= raw < _RAW_IDS:
                return f"raw id {raw} is not in 0 … {_RAW_IDS - 1}"
            if not (0 <= train < len(self.names) or train == IGNORE):
                return f"raw id {raw} leads to class {train}, which does not exist"
        return None

    @property
    def num_classes(self) -> int:
        """The number of classes C, ignored pixels not counted."""
        return len(self.names)

    @cached_property
    def _lookup(self) -> np.ndarray:
        """int16 (65536,): train id by raw id, −1 where a raw id is unknown."""
        table = np.full(_RAW_IDS, -1, np.int16)
        for raw, train in self.raw_to_train.items():
            table[raw] = train
        return table

    def encode(self, raw: np.ndarray, source: str | Path) -> np.ndarray:
        """Raw ids of a mask as train ids.

        Args:
            raw: (H, W), any integer dtype.
            source: the file the mask came from, for the error.

        Returns:
            uint8 (H, W): 0 … C−1 and 255.

        Raises:
            UnknownIdsError: an id that the table does not know; names file, ids and remedy.
        """
        if raw.dtype.kind not in "ui" or raw.ndim != 2:
            raise ValueError(f"a mask is an integer HW array, not {raw.dtype} {raw.shape}")
        wide = raw.dtype.itemsize > 2 or raw.dtype.kind == "i"
        if wide and raw.size and (raw.min() < 0 or raw.max() >= _RAW_IDS):
            raise self._unknown_ids(raw[(raw < 0) | (raw >= _RAW_IDS)], source)
        if raw.dtype == np.uint8 and raw.size:
            # bytes know tables several times as fast as numpy's indexing, which makes each id 64
            # bits wide
            known, ids = self._lookup[:256], bytearray(raw.tobytes())
            if 1 not in ids.translate((known < 0).tobytes()):
                train = ids.translate(known.astype(np.uint8).tobytes())
                return np.frombuffer(train, np.uint8).reshape(raw.shape)
        train = self._lookup[raw]
        unknown = train < 0
        if unknown.any():
            raise self._unknown_ids(raw[unknown], source)
        return train.astype(np.uint8)

    def encode_colors(self, mask: np.ndarray, source: str | Path) -> np.ndarray:
        """Colours of a mask as train ids.

        Args:
            mask: uint8 (H, W, 3) RGB.
            source: the file the mask came from, for the error.

        Returns:
            uint8 (H, W): 0 … C−1 and 255.

        Raises:
            UnknownIdsError: a colour that no class has; names file, colours and remedy.
        """
        keys = mask.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        found, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        known = {(r << 16) + (g << 8) + b: train for (r, g, b), train in self.colors.items()}
        foreign = [at for at, key in enumerate(found.tolist()) if key not in known]
        if foreign:
            foreign.sort(key=lambda at: -counts[at])
            shown = ", ".join(f"#{found[at]:06x} ({counts[at]:,} pixels)" for at in foreign[:4])
            more = f" and {len(foreign) - 4:,} more" if len(foreign) > 4 else ""
            raise UnknownIdsError(
                f"{source}: {len(foreign):,} colour{'s' if len(foreign) > 1 else ''} of no class, "
                f"{shown}{more}; correct the mask (no smoothing, no JPEG), or give the colours to "
                "classes, or to `ignore:`, in labels.yaml"
            )
        ids = np.array([known[key] for key in found.tolist()], np.uint8)
        return ids[places].reshape(mask.shape[:2])

    def _unknown_ids(self, pixels: np.ndarray, source: str | Path) -> UnknownIdsError:
        ids, counts = np.unique(pixels, return_counts=True)
        shown = ", ".join(str(value) for value in ids[:8]) + (" …" if len(ids) > 8 else "")
        return UnknownIdsError(
            f"{source}: class id{'s' if len(ids) > 1 else ''} {shown} ({counts.sum()} pixels) "
            f"not in label table '{self.name}' (it knows {_ranges(self.raw_to_train)}); correct "
            "the mask, or give the ids a class or an `ignore:` entry in labels.yaml"
        )

    def decode(self, train: np.ndarray) -> np.ndarray:
        """Train ids as raw ids, for files that other tools read; the inverse of `encode`.

        Args:
            train: uint8 (H, W): 0 … C−1 and 255.

        Returns:
            uint8 (H, W), or uint16 if the table has raw ids above 255: of a class with several raw
            ids the smallest, and 255 where `train` is 255.
        """
        raw = np.full(256, IGNORE, np.uint16)
        for id_, class_ in sorted(self.raw_to_train.items(), reverse=True):
            if class_ != IGNORE:
                raw[class_] = id_
        return raw.astype(np.uint8 if raw.max() <= 255 else np.uint16)[train]

    def subset(self, names: Sequence[str]) -> "LabelTable":
        """The table with only these classes, in this order; all other raw ids are ignored.

        Raises:
            BinsegError: an unknown class (says the nearest), one named twice, or none.
        """
        for name in names:
            if name not in self.names:
                raise unknown_name(f"class of '{self.name}'", name, self.names)
        places = [self.names.index(name) for name in names]
        new = {old: place for place, old in enumerate(places)}
        ids = {raw: new.get(train, IGNORE) for raw, train in self.raw_to_train.items()}
        colors = {color: new.get(train, IGNORE) for color, train in self.colors.items()}
        palette = tuple(self.palette[place] for place in places)
        return LabelTable(self.name, tuple(names), palette, ids, colors)

    def relabelled(self, new: "LabelTable", lookup: np.ndarray) -> "LabelTable":
        """The classes of `new` for this table's masks: raw ids and their colours stay.

        Args:
            new: gives name, class names and palette.
            lookup: uint8 (256,), train id of `new` by train id of this table.
        """
        ids = {raw: int(lookup[train]) for raw, train in self.raw_to_train.items()}
        colors = {color: int(lookup[train]) for color, train in self.colors.items()}
        return LabelTable(new.name, new.names, new.palette, ids, colors)

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON values, as it is written into model files."""
        return {
            "name": self.name,
            "names": list(self.names),
            "palette": [list(color) for color in self.palette],
            "raw_to_train": {str(raw): train for raw, train in sorted(self.raw_to_train.items())},
        }

    @classmethod
    def from_dict(cls, data: Any) -> "LabelTable":
        """A table from `to_dict`'s result, which may come from a foreign or damaged file.

        Raises:
            BinsegError: a part is missing, of a wrong type or out of range.
        """
        try:
            names, palette, ids = data["names"], data["palette"], data["raw_to_train"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TypeError("class names must be a list of text")
            if not isinstance(data["name"], str):
                raise TypeError("the table's name must be text")
            return cls(
                data["name"],
                tuple(names),
                tuple(as_color(color) for color in palette),
                {as_int(raw): as_int(train) for raw, train in ids.items()},
            )
        except BinsegError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
            raise BinsegError(
                f"damaged label table: {what}; make the file again with binseg"
            ) from error


def as_int(value: Any) -> int:
    """An integer, also written as text.

    Raises:
        TypeError: of another type.
        ValueError: text that is no integer.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{value!r} is not an integer")
    return int(value)


def as_color(value: Any) -> Color:
    """A colour from [R, G, B] or '#RRGGBB'.

    Raises:
        TypeError: neither of these.
        ValueError: a part is not in 0 … 255.
    """
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise TypeError(f"colour {value!r} is neither [R, G, B] nor '#RRGGBB'")
    red, green, blue = (as_int(part) for part in value)
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError(f"colour {value!r} is not three values from 0 to 255")
    return red, green, blue


def _ranges(ids: Mapping[int, int]) -> str:
    """Ids in short, as in "0-11, 255"."""
    spans: list[list[int]] = []
    for value in sorted(ids):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in spans)


def auto_palette(count: int) -> tuple[Color, ...]:
    """`count` RGB colours that are easy to tell apart: golden-angle hues, light and dark."""
    colors = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb(
            (index * 0.618034) % 1.0, (0.85, 0.6)[index // 2 % 2], (0.95, 0.65)[index % 2]
        )
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colors)
