"""Labelme: one JSON file beside each image, with polygons, rectangles, circles and masks."""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from binseg.data.imageio import read_mask
from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.json_files import peek_json, read_json
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap, Region
from binseg.data.label_table import Color
from binseg.errors import BinsegError

_CIRCLE_POINTS = 72


class Labelme:
    """See `Source`."""

    title = "Labelme JSON"
    overlap: Overlap = "later"
    covers = False
    colors: tuple[Color, ...] | None = None
    classes: tuple[str, ...] = ()

    def __init__(self, root: Path, images: ImageIndex) -> None:
        self._files = annotation_files(root)
        self._root, self._images = root, images
        self.notes = Notes()

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for path in self._files:
            name = path.relative_to(self._root).with_suffix("").as_posix()
            data = read_json(path)
            try:
                size = (int(data["imageHeight"]), int(data["imageWidth"]))
                image = self._image(path, data)
                regions = [
                    region
                    for shape in data["shapes"]
                    if (region := self._region(shape, size, name, path)) is not None
                ]
            except BinsegError:
                raise
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise BinsegError(
                    f"{path}: not a Labelme file ({type(error).__name__}: {str(error)[:80]}); "
                    "save it again in Labelme"
                ) from error
            if image is None:
                self.notes.add("annotation files without their image: left out", name)
                continue
            yield AnnotatedImage(name, image, regions, size)
        self._images.note_unused(self.notes)

    def _image(self, path: Path, data: dict[str, Any]) -> Path | bytes | None:
        found = self._images.find(str(data.get("imagePath") or path.stem), near=path.parent)
        if found is not None:
            return found
        if not data.get("imageData"):
            return None
        try:
            return base64.b64decode(data["imageData"], validate=True)
        except binascii.Error as error:
            raise BinsegError(f"{path}: its imageData is damaged; save it again") from error

    def _region(
        self, shape: dict[str, Any], size: tuple[int, int], name: str, path: Path
    ) -> Region | None:
        label = str(shape["label"])
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
        kind = shape.get("shape_type") or "polygon"
        if kind == "polygon":
            return Region(label, (points,))
        if kind == "rectangle":
            (x0, y0), (x1, y1) = points[:2]
            return Region(label, (np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),))
        if kind == "circle":
            centre, edge = points[:2]
            angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
            circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            return Region(label, (centre + np.hypot(*(edge - centre)) * circle,))
        if kind == "mask":
            return Region(label, bitmap=_bitmap(shape["mask"], points, size, path))
        self.notes.add(f"shapes of kind '{kind}' have no area: left out", name)
        return None


def annotation_files(root: Path) -> list[Path]:
    """The Labelme files below a folder."""
    return sorted(
        path
        for path in root.rglob("*.json")
        if '"shapes"' in (head := peek_json(path)) or '"imagePath"' in head
    )


def _bitmap(encoded: str, points: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    """A part of the image as a PNG in base64, at the rectangle of two corners."""
    part = read_mask(path, content=base64.b64decode(encoded)) > 0
    x, y = (max(0, int(value)) for value in points[0])
    whole = np.zeros(size, np.bool_)
    place = whole[y : y + part.shape[0], x : x + part.shape[1]]
    place[...] = part[: place.shape[0], : place.shape[1]]
    return whole
