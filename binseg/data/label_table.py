"""What a table of classes is, and how one is read from a file.

A mask file holds *raw ids*, whatever the people who drew it used. A network sees *train ids*
0 … C−1, and `IGNORE` where a pixel never counts. A `LabelTable` maps the one to the other.
"""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from binseg.errors import BinsegError, unknown_name

IGNORE = 255
"""The train id of pixels that count neither in a loss nor in a score."""

Color = tuple[int, int, int]

IGNORE_COLOR: Color = (224, 224, 192)  # PASCAL VOC's cream for its void pixels; no class has it

_RAW_IDS = 1 << 16  # masks are 8- or 16-bit


class UnknownIdsError(BinsegError):
    """A mask holds raw ids that its label table does not know."""


@dataclass(frozen=True)
class LabelTable:
    """The classes of one data set.

    Args:
        name: the table's own name, for messages and model files.
        names: class names by train id; 1 to 255 of them, all different.
        palette: one RGB colour (0 … 255 each) for each class.
        raw_to_train: raw id in a mask (0 … 65535) → train id (0 … C−1, or 255 for ignored).
            A raw id that is missing here is an error in the mask, not an ignored pixel.

    Raises:
        BinsegError: the parts do not fit each other.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    raw_to_train: Mapping[int, int]

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
        return LabelTable(self.name, tuple(names), tuple(self.palette[p] for p in places), ids)

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
                tuple(_as_color(color) for color in palette),
                {_as_int(raw): _as_int(train) for raw, train in ids.items()},
            )
        except BinsegError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
            raise BinsegError(
                f"damaged label table: {what}; make the file again with binseg"
            ) from error

    @classmethod
    def from_yaml(cls, path: str | Path) -> "LabelTable":
        """A table for people's own data, written by hand as `labels.yaml`.

        ```yaml
        name: my streets              # optional; the folder's name when missing
        classes:                      # train ids in this order
          - name: road
            color: [128, 64, 128]     # optional: R, G, B from 0 to 255, or "#804080"
            id: 7                     # raw id or list of raw ids; the place in the list if missing
          - {name: car, id: [26, 27]}
          - person                    # short for {name: person}
        ignore: [0, 255]              # raw ids that never count; [255] when missing
        ```

        Missing colours are spread over the colour circle, light and dark in turns.

        Raises:
            BinsegError: the file cannot be read or says something that makes no sense; one line
                with the file, the entry and the remedy.
        """
        path = Path(path)
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BinsegError(
                f"{path}: cannot be read ({error.strerror or error}); write one with the classes "
                "of your masks, for example `classes: [road, car]`"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" near line {mark.line + 1}" if mark else ""
            raise BinsegError(f"{path}: not valid YAML{where}; correct the file") from error
        try:
            return _parse(data, path)
        except (TypeError, ValueError) as error:
            raise BinsegError(f"{path}: {error}") from error
        except BinsegError as error:
            raise BinsegError(f"{path}: {error}") from error


def _parse(data: Any, path: Path) -> LabelTable:
    """`from_yaml` after reading; raises TypeError or ValueError with a message for people."""
    if not isinstance(data, dict) or not isinstance(data.get("classes"), list):
        raise TypeError("needs a list `classes:`, for example `classes: [road, car]`")
    if unknown := [str(key) for key in data if key not in ("name", "classes", "ignore")]:
        raise ValueError(f"unknown key '{unknown[0]}' (known: name, classes, ignore)")
    names: list[str] = []
    palette: list[Color] = []
    mapping: dict[int, int] = {}
    automatic = auto_palette(len(data["classes"]))
    for train, entry in enumerate(data["classes"]):
        entry = {"name": entry} if not isinstance(entry, dict) else entry
        if unknown := [str(key) for key in entry if key not in ("name", "color", "id")]:
            raise ValueError(
                f"class {train + 1}: unknown key '{unknown[0]}' (known: name, color, id)"
            )
        if not isinstance(entry.get("name"), str):
            raise TypeError(f"class {train + 1} needs a `name:` that is text (quote it if need be)")
        names.append(entry["name"])
        color = entry.get("color")
        palette.append(automatic[train] if color is None else _as_color(color))
        for raw in _id_list(entry.get("id", train), f"class '{entry['name']}'"):
            if raw in mapping:
                raise ValueError(
                    f"id {raw} belongs to both '{names[mapping[raw]]}' and '{names[-1]}'"
                )
            mapping[raw] = train
    for raw in _id_list(data.get("ignore", [IGNORE]), "ignore"):
        if raw in mapping:
            # only a default 255 may give way to a class that wants the id for itself
            if "ignore" not in data:
                continue
            raise ValueError(f"id {raw} is both ignored and class '{names[mapping[raw]]}'")
        mapping[raw] = IGNORE
    name = data.get("name", path.resolve().parent.name)
    return LabelTable(str(name), tuple(names), tuple(palette), mapping)


def _id_list(value: Any, where: str) -> list[int]:
    ids = value if isinstance(value, list) else [value]
    try:
        return [_as_int(raw) for raw in ids]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: ids are whole numbers, not {value!r}") from error


def _as_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{value!r} is not a whole number")
    return int(value)


def _as_color(value: Any) -> Color:
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise TypeError(f"colour {value!r} is neither [R, G, B] nor '#RRGGBB'")
    red, green, blue = (_as_int(part) for part in value)
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
