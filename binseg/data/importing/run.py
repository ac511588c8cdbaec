"""From annotations of another tool to images/, masks/ and labels.yaml."""

import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from binseg.atomic import atomic_path
from binseg.data.image_files import IMAGE_SUFFIXES
from binseg.data.image_formats import HEAD_BYTES, format_of
from binseg.data.imageio import image_size, mask_image
from binseg.data.importing.paint import paint
from binseg.data.importing.source import AnnotatedImage, Source
from binseg.data.label_table import Color, auto_palette
from binseg.data.labels import IGNORE
from binseg.errors import BinsegError, unknown_name

_BACKGROUND = "background"
_BACKGROUNDS = ("background", "_background_", "__background__", "bg")
_MANIFEST = ".import.json"
_SUFFIX_OF = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WebP": ".webp"}

Uncovered = Literal["background", "ignore"]


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        title: the format that was read.
        classes: names in the order of their ids.
        splits: images by split; "" where the source names none.
        written, unchanged: files.
        pixels, uncovered, overlapping: pixels in all masks, without a region, under regions of
            two classes.
        notes: lines about what was left out or changed.
    """

    title: str
    classes: tuple[str, ...] = ()
    splits: Counter[str] = field(default_factory=Counter)
    written: int = 0
    unchanged: int = 0
    pixels: int = 0
    uncovered: int = 0
    overlapping: int = 0
    notes: list[str] = field(default_factory=list)


def import_annotations(
    source: Source,
    out: Path,
    *,
    uncovered: Uncovered = "background",
    classes: Sequence[str] = (),
) -> Iterator[str | ImportReport]:
    """Write a source as a folder data set, image after image.

    A second run writes nothing. A file that the first run wrote and somebody changed since is
    left as it is, and the run stops there.

    Args:
        source: see `detect.open_source`.
        out: the folder to write: images/, masks/, labels.yaml, and lists of the splits.
        uncovered: what pixels without a region become: the class "background", or ignored.
        classes: only these, in this order; regions of others are left out. Default: all.

    Yields:
        The name of each image, and the report at the end.

    Raises:
        BinsegError: a faulty annotation or image, more than 255 classes, a changed file.
    """
    report = ImportReport(source.title)
    writer = _Writer(out)
    table = _Classes(source, uncovered, classes)
    names: dict[str, None] = {}
    lists: dict[str, list[str]] = {}
    for each in source:
        name = each.name.replace("/", "_").replace("\\", "_").lstrip(".") or "image"
        if name in names:
            raise BinsegError(
                f"{source.title}: two images would be called '{name}'; rename one, or import the "
                "folders one by one"
            )
        names[name] = None
        size = _size(each, source)
        if each.mask is not None:
            mask, strange = table.of_mask(each.mask)
            report.uncovered += strange
        else:
            painted = paint(
                each.regions,
                table.ids([region.label for region in each.regions]),
                size,
                fill=table.fill,
                overlap=source.overlap,
            )
            mask = painted.mask
            report.uncovered += painted.uncovered
            report.overlapping += painted.overlapping
        report.pixels += mask.size
        writer.image(name, each.image)
        writer.mask(name, mask)
        report.splits[each.split or ""] += 1
        lists.setdefault(each.split or "", []).append(name)
        yield name
    if not names:
        raise BinsegError(
            f"{source.title}: no image could be imported; "
            + ("; ".join(source.notes) or "none found")
        )
    writer.finish_masks(table)
    writer.text(out / "labels.yaml", table.yaml(out.absolute().name))
    if {"train", "val"} <= lists.keys():
        for split in ("train", "val", "test"):
            if lists.get(split):
                writer.text(out / f"{split}.txt", "\n".join(lists[split]) + "\n")
    writer.finish()
    report.classes = table.names
    report.written, report.unchanged = writer.written, writer.unchanged
    report.notes = [*table.notes(), *source.notes]
    yield report


class _Classes:
    """Names and ids of the classes, found while regions are read."""

    def __init__(self, source: Source, uncovered: Uncovered, chosen: Sequence[str]) -> None:
        self._source = source
        self._chosen = tuple(chosen)
        known = self._chosen or source.classes
        for name in self._chosen:
            if source.classes and name not in (*source.classes, _BACKGROUND):
                raise unknown_name("class", name, source.classes)
        self._left_out: Counter[str] = Counter()
        self._ids: dict[str, int] = {}
        background = next((name for name in known if name.lower() in _BACKGROUNDS), None)
        if uncovered == "background" and not source.covers:
            self.fill = self._new(background or _BACKGROUND)
        else:
            self.fill = IGNORE
        for name in known:
            if name not in self._ids:
                self._new(name)
        self._fixed = bool(known)
        self._largest = -1  # of masks whose classes have no names

    def _new(self, name: str) -> int:
        if len(self._ids) == IGNORE:
            raise BinsegError(
                f"{self._source.title}: more than {IGNORE} classes; choose some with --classes"
            )
        return self._ids.setdefault(name, len(self._ids))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._ids)

    def ids(self, labels: Sequence[str]) -> dict[str, int]:
        """The ids of the labels that have one; new labels get one unless the classes are fixed."""
        for label in labels:
            if label in self._ids:
                continue
            if self._fixed:
                self._left_out[label] += 1
            else:
                self._new(label)
        return self._ids

    def of_mask(self, mask: np.ndarray) -> tuple[np.ndarray, int]:
        """A mask of places in the source's classes as ids, and how many pixels were ignored."""
        ids = mask.astype(np.int64)
        classes = self._source.classes
        lookup = np.full(1 << 16, IGNORE, np.uint8)
        if classes:
            for place, name in enumerate(classes):
                lookup[place] = self._ids.get(name, IGNORE)
        else:
            used = [int(value) for value in np.unique(ids) if value != IGNORE]
            if used and used[-1] >= IGNORE:
                raise BinsegError(
                    f"{self._source.title}: class id {used[-1]} in a mask, and no names; give a "
                    "labels.yaml with --labels"
                )
            self._largest = max([self._largest, *used])
            while len(self._ids) <= self._largest:
                self._new(f"class_{len(self._ids)}")
            lookup[: len(self._ids)] = np.arange(len(self._ids))
        ids[(ids < 0) | (ids >= len(lookup))] = len(lookup) - 1
        found = lookup[ids]
        return found, int((found == IGNORE).sum())

    def palette(self) -> tuple[Color, ...]:
        own = dict(zip(self._source.classes, self._source.colors or (), strict=False))
        automatic = auto_palette(len(self._ids))
        return tuple(own.get(name, automatic[place]) for place, name in enumerate(self._ids))

    def yaml(self, name: str) -> str:
        classes = [
            {"name": class_, "color": list(color)}
            for class_, color in zip(self._ids, self.palette(), strict=True)
        ]
        return yaml.safe_dump(
            {"name": name, "classes": classes, "ignore": [IGNORE]},
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
        )

    def notes(self) -> Iterator[str]:
        for label, count in self._left_out.most_common():
            yield f"{count:,} regions of '{label}', which is no class here: left out"


class _Writer:
    """Writes what is new, leaves what is the same, refuses what somebody else changed."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out / _MANIFEST
        self.written = self.unchanged = 0
        self._sums: dict[str, int] = {}
        self._masks: list[tuple[str, np.ndarray]] = []
        if self._path.is_file():
            try:
                self._sums = dict(json.loads(self._path.read_text(encoding="utf-8"))["crc32"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BinsegError(f"{self._path}: damaged; delete it to import anew") from error
        elif any((out / name).exists() for name in ("images", "masks", "labels.yaml")):
            raise BinsegError(f"{out}: holds a data set that no import wrote; choose another --out")

    def image(self, name: str, image: Path | bytes) -> None:
        content = image if isinstance(image, bytes) else image.read_bytes()
        suffix = "" if isinstance(image, bytes) else image.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            suffix = _suffix(content, name)
        self._put(self._out / "images" / f"{name}{suffix}", content)

    def mask(self, name: str, mask: np.ndarray) -> None:
        """Masks are written when all colours are known; until then they are kept small."""
        self._masks.append((name, np.frombuffer(_packed(mask), np.uint8)))

    def finish_masks(self, table: _Classes) -> None:
        palette = table.palette()
        for name, packed in self._masks:
            mask = _unpacked(packed.tobytes())
            self._put(self._out / "masks" / f"{name}.png", _png(mask, palette))
        self._masks.clear()

    def text(self, path: Path, content: str) -> None:
        self._put(path, content.encode("utf-8"))

    def finish(self) -> None:
        with atomic_path(self._path) as temporary:
            temporary.write_text(json.dumps({"crc32": self._sums}), encoding="utf-8")

    def _put(self, path: Path, content: bytes) -> None:
        key = path.relative_to(self._out).as_posix()
        new = zlib.crc32(content)
        old = zlib.crc32(path.read_bytes()) if path.is_file() else None
        if old == new:
            self.unchanged += 1
        else:
            if old is not None and old != self._sums.get(key):
                self.finish()
                raise BinsegError(
                    f"{path}: changed since it was imported; move it away, or choose another --out"
                )
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            self.written += 1
        self._sums[key] = new


def _packed(mask: np.ndarray) -> bytes:
    return b"%d %d " % mask.shape + zlib.compress(mask.astype(np.uint8).tobytes(), 1)


def _unpacked(content: bytes) -> np.ndarray:
    height, width, rest = content.split(b" ", 2)
    return np.frombuffer(zlib.decompress(rest), np.uint8).reshape(int(height), int(width))


def _png(mask: np.ndarray, palette: Sequence[Color]) -> bytes:
    buffer = io.BytesIO()
    mask_image(mask, palette).save(buffer, format="PNG")
    return buffer.getvalue()


def _suffix(content: bytes, name: str) -> str:
    kind = format_of(content[:HEAD_BYTES])
    if kind not in _SUFFIX_OF:
        raise BinsegError(f"{name}: its image is not {', '.join(_SUFFIX_OF)}")
    return _SUFFIX_OF[kind]


def _size(each: AnnotatedImage, source: Source) -> tuple[int, int]:
    """The image's size as displayed, which the annotations must be made for."""
    if isinstance(each.image, bytes):
        size = image_size(each.name, content=each.image)
    else:
        size = image_size(each.image)
    stated: Any = each.mask.shape if each.mask is not None else each.size
    if stated is not None and tuple(stated) != size:
        what = each.image if isinstance(each.image, Path) else each.name
        raise BinsegError(
            f"{what}: {size[1]} × {size[0]} pixels, but its {source.title} annotations are for "
            f"{stated[1]} × {stated[0]}; use the images that were annotated"
        )
    return size
