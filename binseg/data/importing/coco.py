"""COCO: one JSON file a split, with polygons and run lengths."""

import importlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.json_files import peek_json, read_json
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap, Region
from binseg.data.label_table import Color
from binseg.errors import BinsegError

_LARGEST_SIDE = 65535
_LARGE = 16 << 20
_KEYS = {"images", "annotations", "categories"}


class Coco:
    """See `Source`. Crowds are ignored; of overlapping objects the smaller one is on top."""

    title = "COCO JSON"
    overlap: Overlap = "smaller"
    covers = False
    colors: tuple[Color, ...] | None = None

    def __init__(self, files: Sequence[Path], images: ImageIndex) -> None:
        self._files = [(path, _loaded(path)) for path in files]
        self._images = images
        self.notes = Notes()
        self._names: dict[tuple[int, Any], str] = {}
        names: dict[str, None] = {}
        for number, (path, data) in enumerate(self._files):
            for category in data["categories"]:
                try:
                    name = str(category["name"])
                    self._names[number, category["id"]] = name
                except (KeyError, TypeError) as error:
                    raise _damaged(path, "a category without name or id") from error
                names[name] = None
        self.classes = tuple(names)

    def __len__(self) -> int:
        return sum(len(data["images"]) for _, data in self._files)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for number, (path, data) in enumerate(self._files):
            objects = defaultdict(list)
            for annotation in data["annotations"]:
                try:
                    objects[annotation["image_id"]].append(annotation)
                except (KeyError, TypeError) as error:
                    raise _damaged(path, "an annotation without image_id") from error
            split = split_of(path) if len(self._files) > 1 else None
            for entry in data["images"]:
                try:
                    name, size = (
                        str(entry["file_name"]),
                        (int(entry["height"]), int(entry["width"])),
                    )
                    own = objects[entry["id"]]
                    if not all(0 < side <= _LARGEST_SIDE for side in size):
                        raise ValueError(f"an image of {size[1]} × {size[0]} pixels")
                    regions = [
                        region
                        for annotation in own
                        if (region := self._region(number, annotation, size, name)) is not None
                    ]
                except (KeyError, TypeError, ValueError) as error:
                    raise _damaged(path, str(error)) from error
                image = self._images.find(name)
                if image is None:
                    self.notes.add("annotated images are missing: left out", name)
                    continue
                if not regions:
                    self.notes.add("images without an object: all background", name)
                yield AnnotatedImage(Path(name).stem, image, regions, size, split=split)
        self._images.note_unused(self.notes)

    def _region(
        self, number: int, annotation: dict[str, Any], size: tuple[int, int], name: str
    ) -> Region | None:
        label = self._names.get((number, annotation["category_id"]))
        if label is None:
            self.notes.add(
                f"objects of unknown category {annotation['category_id']}: left out", name
            )
            return None
        outline = annotation.get("segmentation")
        if not outline:
            self.notes.add("objects with a box but no outline: left out", name)
            return None
        crowd = bool(annotation.get("iscrowd"))
        if crowd:
            self.notes.add("crowds: ignored (255)", name)
        return Region(label, bitmap=_decode(outline, size), ignored=crowd)


def annotation_files(root: Path) -> list[Path]:
    """The COCO files at or below a path."""
    paths = [root] if root.is_file() else sorted(root.rglob("*.json"))
    found = []
    for path in paths:
        head = peek_json(path, 1 << 16)
        if head.lstrip().startswith("{") and any(
            key in head for key in ('"annotations"', '"categories"', '"images"')
        ):
            # large files are only read once, when their turn comes
            large = path.stat().st_size > _LARGE
            data = {} if large else read_json(path)
            if large or (isinstance(data, dict) and data.keys() >= _KEYS):
                found.append(path)
    return found


def split_of(path: Path) -> str | None:
    """The split that a file's or a folder's name speaks of."""
    name = path.stem.lower()
    for word, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        if word in name:
            return split
    return None


def _loaded(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise _damaged(path, "no object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise _damaged(path, f"no list '{key}'")
    return data


def _decode(outline: Any, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W) of polygons or run lengths, by COCO's own library."""
    try:
        masks = importlib.import_module("pycocotools.mask")
    except ImportError as error:
        raise BinsegError("COCO files need pycocotools: pip install 'binseg[import]'") from error
    height, width = size
    if isinstance(outline, list):
        rings = [[float(value) for value in ring] for ring in outline if len(ring) >= 6]
        if not rings:
            return np.zeros(size, np.bool_)
        runs = masks.merge(masks.frPyObjects(rings, height, width))
    elif isinstance(outline["counts"], list):
        runs = masks.frPyObjects(dict(outline), height, width)
    else:
        counts = outline["counts"]
        runs = {**outline, "counts": counts.encode() if isinstance(counts, str) else counts}
    if tuple(runs["size"]) != size:
        raise ValueError(f"run lengths of {runs['size']}, not {list(size)}")
    return np.asarray(masks.decode(runs), np.bool_)


def _damaged(path: Path, why: str) -> BinsegError:
    return BinsegError(f"{path}: not a sound COCO file ({why[:100]}); export it again")
