"""Masks in colours: CVAT's "Segmentation mask 1.1", and images with colour masks beside them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from binseg.data.image_files import images_in
from binseg.data.image_formats import format_of, read_head
from binseg.data.imageio import read_image
from binseg.data.importing.coco import split_of
from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap
from binseg.data.label_table import Color
from binseg.data.labels import IGNORE
from binseg.data.labels_yaml import read_labels_yaml
from binseg.errors import BinsegError

_SUFFIXES = ("", "_mask", "_L", "_label", "_labels", "_gt", "_seg")
"""What the name of a mask may have after the image's."""
_MASK_FOLDERS = ("masks", "labels", "annotations", "SegmentationClass", "gt")


class ColorMasks:
    """See `Source`.

    Args:
        title: of the format.
        masks: mask file → the split it belongs to, or None.
        colors: colour by class name, in the order of the classes.
        images: where the images are.
    """

    overlap: Overlap = "later"
    covers = True

    def __init__(
        self,
        title: str,
        masks: Mapping[Path, str | None],
        colors: Mapping[str, Color],
        images: ImageIndex,
    ) -> None:
        self.title = title
        self.classes = tuple(colors)
        self.colors: tuple[Color, ...] | None = tuple(colors.values())
        images.remove(masks)
        self._masks, self._images = masks, images
        self.notes = Notes()

    def __len__(self) -> int:
        return len(self._masks)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        assert self.colors is not None
        for path, split in self._masks.items():
            stem = image_stem(path)
            image = self._images.find(stem)
            if image is None:
                self.notes.add("masks without their image: left out (see --images)", path.stem)
                continue
            if is_lossy(path):
                self.notes.add(LOSSY, path.name)
                continue
            mask, strange = ids_of_colors(read_image(path), self.colors)
            if strange:
                self.notes.add("masks with pixels of no class's colour: ignored (255)", path.stem)
            yield AnnotatedImage(stem, image, size=mask.shape, mask=mask, split=split)


LOSSY = "masks as JPEG, which alters ids and colours: left out"


def is_lossy(mask: Path) -> bool:
    """Whether a mask's format has altered its ids."""
    return format_of(read_head(mask)) == "JPEG"


def cvat(root: Path, images: ImageIndex) -> ColorMasks:
    """CVAT's export: labelmap.txt, SegmentationClass/, ImageSets/Segmentation/, JPEGImages/."""
    table = next(iter(sorted(root.rglob("labelmap.txt"))))
    folder = table.parent / "SegmentationClass"
    if not folder.is_dir():
        raise BinsegError(f"{folder}: missing beside labelmap.txt; export from CVAT again")
    splits: dict[str, str] = {}
    for listed in sorted((table.parent / "ImageSets" / "Segmentation").glob("*.txt")):
        split = split_of(listed)
        if split:
            names = listed.read_text(encoding="utf-8-sig").split()
            splits |= dict.fromkeys(names, split)
    found = images_in(folder, recursive=True).images
    masks = {path: splits.get(path.stem) for path in found}
    return ColorMasks('CVAT "Segmentation mask 1.1"', masks, labelmap_colors(table), images)


def color_folders(root: Path, colors: Mapping[str, Color], images: ImageIndex) -> ColorMasks:
    """Folders of colour masks, whose names speak of masks or which lie beside their images'."""
    masks = {path: split_of(path.parent) for path in mask_files(root)}
    if not masks:
        raise BinsegError(f"{root}: no colour masks found; name their folder masks/")
    return ColorMasks("colour masks", masks, colors, images)


def mask_files(root: Path) -> list[Path]:
    """Files in folders that are called masks, labels, annotations, …annot or …_labels."""
    folders = [
        path
        for path in (root, *sorted(root.rglob("*")))
        if path.is_dir() and _speaks_of_masks(path.relative_to(root).parts)
    ]
    return [path for folder in folders for path in images_in(folder).images]


def _speaks_of_masks(parts: Sequence[str]) -> bool:
    return any(
        part in _MASK_FOLDERS or part.endswith(("annot", "_labels", "_masks")) for part in parts
    )


def image_stem(mask: Path) -> str:
    """The stem of the image that a mask belongs to."""
    for suffix in _SUFFIXES[1:]:
        if mask.stem.endswith(suffix):
            return mask.stem.removesuffix(suffix)
    return mask.stem


def ids_of_colors(mask: np.ndarray, colors: Sequence[Color]) -> tuple[np.ndarray, int]:
    """Colours to places in `colors`.

    Args:
        mask: uint8 (H, W, 3).

    Returns:
        uint8 (H, W), 255 where the colour is none of them, and the number of such pixels.
    """
    keys = mask.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    wanted = np.array([(r << 16) + (g << 8) + b for r, g, b in colors], np.uint32)
    order = np.argsort(wanted)
    places = np.minimum(np.searchsorted(wanted[order], keys), len(wanted) - 1)
    found = order[places]
    ids = np.where(wanted[found] == keys, found, IGNORE).astype(np.uint8)
    return ids, int((ids == IGNORE).sum())


def labelmap_colors(path: Path) -> dict[str, Color]:
    """CVAT's labelmap.txt: `name:r,g,b:parts:actions` a line."""
    colors: dict[str, Color] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(":")
        try:
            colors[fields[0].strip()] = _color(fields[1].split(","))
        except (IndexError, ValueError) as error:
            raise BinsegError(
                f"{path}: line {number} is not `name:r,g,b::`; export it again"
            ) from error
    return _distinct(colors, path)


def class_dict_colors(path: Path) -> dict[str, Color]:
    """class_dict.csv: the columns name, r, g, b."""
    rows = list(csv.reader(_lines(path)))
    try:
        colors = {row[0].strip(): _color(row[1:4]) for row in rows[1:] if row}
    except (IndexError, ValueError) as error:
        raise BinsegError(f"{path}: its rows are not name, r, g, b; correct them") from error
    return _distinct(colors, path)


def labels_yaml_colors(path: Path) -> dict[str, Color]:
    """The colours of a labels.yaml."""
    table = read_labels_yaml(path)
    return _distinct(dict(zip(table.names, table.palette, strict=True)), path)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BinsegError(f"{path}: cannot be read as text; export it again") from error


def _color(values: Sequence[str]) -> Color:
    red, green, blue = (int(value) for value in values)
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError("not a colour")
    return red, green, blue


def _distinct(colors: dict[str, Color], path: Path) -> dict[str, Color]:
    if not colors:
        raise BinsegError(f"{path}: names no class; write one a line")
    if len(set(colors.values())) < len(colors):
        raise BinsegError(f"{path}: two classes have one colour; give each its own")
    return colors
