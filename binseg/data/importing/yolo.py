"""YOLO segmentation: labels/…/NAME.txt with `class x y x y …`, and a data.yaml with the names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from binseg.data.imageio import image_size
from binseg.data.importing.coco import split_of
from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap, Region
from binseg.data.label_table import Color
from binseg.errors import BinsegError

_BOX = 5
"""Numbers on the line of a box."""


class Yolo:
    """See `Source`. Of overlapping objects the smaller one is on top."""

    title = "YOLO polygons"
    overlap: Overlap = "smaller"
    covers = False
    colors: tuple[Color, ...] | None = None

    def __init__(self, root: Path, images: ImageIndex) -> None:
        table = data_file(root)
        assert table is not None
        self.classes = _names(table)
        self._root, self._table = root, table
        self.notes = Notes()
        images.remove(
            path
            for path in images.paths
            if root not in path.parents or "images" not in path.relative_to(root).parts
        )
        self._images = images

    def __len__(self) -> int:
        return len(self._images.paths)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for image in self._images.paths:
            parts = list(image.relative_to(self._root).parts)
            place = len(parts) - 1 - parts[::-1].index("images")
            parts[place] = "labels"
            labels = self._root.joinpath(*parts).with_suffix(".txt")
            name = image.stem
            if not labels.is_file():
                self.notes.add("images without a label file: left out", name)
                continue
            folder = image.relative_to(self._root).parent
            splits = [found for part in folder.parts if (found := split_of(Path(part)))]
            size = image_size(image)
            regions = list(self._regions(labels, size, name))
            if not regions:
                self.notes.add("images without an object: all background", name)
            yield AnnotatedImage(name, image, regions, split=splits[-1] if splits else None)

    def _regions(self, path: Path, size: tuple[int, int], name: str) -> Iterator[Region]:
        height, width = size
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BinsegError(f"{path}: cannot be read; export it again") from error
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            try:
                index, values = int(fields[0]), np.array(fields[1:], np.float64)
            except ValueError as error:
                raise BinsegError(f"{path}: line {number}: not numbers; export it again") from error
            if len(fields) == _BOX:
                self.notes.add("boxes without an outline: left out", name)
                continue
            if len(values) < 6 or len(values) % 2 or not np.isfinite(values).all():
                raise BinsegError(f"{path}: line {number}: not a polygon; export it again")
            if not 0 <= index < len(self.classes):
                self.notes.add(f"objects of unknown class {index}: left out", name)
                continue
            ring = values.reshape(-1, 2) * (width, height)
            yield Region(self.classes[index], (ring,))


def data_file(root: Path) -> Path | None:
    """The YAML file with the classes' names, in a folder that has labels/."""
    if not any(path.is_dir() for path in root.rglob("labels")):
        return None
    for path in sorted(root.glob("*.y*ml")):
        data = _yaml(path)
        if isinstance(data, dict) and "names" in data:
            return path
    return None


def _names(path: Path) -> tuple[str, ...]:
    names = _yaml(path)["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise BinsegError(f"{path}: the numbers of `names` are not 0, 1, 2 …; correct them")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise BinsegError(f"{path}: `names` is not a list of names; correct it")
    return tuple(str(name) for name in names)


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
