"""Where the images and masks of people's own data are, and how they are split.

    images/ masks/                      the split comes from lists, or from the names
    images/train/ images/val/ masks/…   the split comes from folders
    train/images/ train/masks/ val/…    the same, the other way round
    train/ val/                         each with a.jpg and a_mask.png side by side

Folders may be nested further. Names in other spellings (`Images`, `labels`, `valid`, …) are read
where there is one such folder only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from binseg.data.image_files import LeftOut, images_in
from binseg.data.pairing import KeyedFile, image_core, key_below, mask_core
from binseg.errors import BinsegError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Splits and what their folders and lists may be called."""

_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "photos", "inputs")
_MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "ann_dir", "gt"),
    *("segmentationclass", "segmentations", "groundtruth", "ground_truth", "targets"),
)


_Together = tuple[list[KeyedFile], list[KeyedFile], list[LeftOut]]
"""Images, masks and what is left out of one folder."""


@dataclass
class Layout:
    """The files of a data set.

    Attributes:
        images: all of them, by `SPLIT/` and the name if `by_folders`.
        masks: the same.
        images_at: the folder of the images, for messages.
        masks_at: the folder of the masks, for messages.
        by_folders: whether folders say what split an image is in.
        left_out: files that are not read.
        words: what is not as `images/` and `masks/`, if anything.
    """

    images_at: Path
    masks_at: Path
    by_folders: bool = False
    images: list[KeyedFile] = field(default_factory=list)
    masks: list[KeyedFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    words: str = ""


def find_layout(root: Path) -> Layout:
    """Find the images and masks below `root`.

    Raises:
        BinsegError: no layout that can be read, or one that can be read in two ways.
    """
    images, masks = (_folder(root, names) for names in (_IMAGE_FOLDERS, _MASK_FOLDERS))
    if images is not None and masks is not None:
        return _images_and_masks(images, masks)
    splits = split_entries(root, folders=True)
    if images is None and masks is None and splits:
        return _split_folders(root, splits)
    if images is not None and (together := _side_by_side(images, "")) is not None:
        layout = Layout(images, images, words=f"masks beside the images in {images.name}/")
        _take(layout, *together)
        return layout
    missing = "images" if images is None else "masks"
    there = sorted(f"{entry.name}/" for entry in root.iterdir() if entry.is_dir())
    found = f" (there are {', '.join(there[:8])})" if there else ""
    raise BinsegError(
        f"{root / missing}: missing{found}; put images into images/, masks of the same names into "
        "masks/ and a labels.yaml beside them"
    )


def split_entries(folder: Path, *, folders: bool) -> dict[str, Path]:
    """Splits for which `folder` has a folder, or a list of names (`train.txt`).

    Raises:
        BinsegError: two for one split, such as val and valid.
    """
    found: dict[str, Path] = {}
    entries = sorted(folder.iterdir())
    for split, names in SPLIT_NAMES.items():
        wanted = names if folders else tuple(f"{name}.txt" for name in names)
        fitting = [
            entry
            for entry in entries
            if entry.name.lower() in wanted and (entry.is_dir() if folders else entry.is_file())
        ]
        if len(fitting) > 1 and (exact := folder / wanted[0]) in fitting:
            others = ", ".join(entry.name for entry in fitting if entry != exact)
            raise BinsegError(
                f"{exact}: {others} could be the split '{split}', too; rename or remove one"
            )
        if len(fitting) > 1:
            names_found = " and ".join(entry.name for entry in fitting)
            raise BinsegError(f"{folder}: {names_found} could both be '{split}'; remove one")
        if fitting:
            found[split] = fitting[0]
    return found


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of these names; the first name wins, others must be alone.

    Raises:
        BinsegError: several other names.
    """
    exact = root / names[0]
    if exact.is_dir():
        return exact
    found = [
        entry for entry in sorted(root.iterdir()) if entry.name.lower() in names and entry.is_dir()
    ]
    if len(found) > 1:
        listed = ", ".join(f"{entry.name}/" for entry in found)
        raise BinsegError(f"{root}: {listed} could all be {names[0]}/; rename the right one to it")
    return found[0] if found else None


def _images_and_masks(images: Path, masks: Path) -> Layout:
    layout = Layout(images, masks)
    if (images.name, masks.name) != ("images", "masks"):
        layout.words = f"images in {images.name}/, masks in {masks.name}/"
    splits = split_entries(images, folders=True)
    layout.by_folders = bool(splits)
    for folder, target in ((images, layout.images), (masks, layout.masks)):
        found = images_in(folder, recursive=True)
        layout.left_out += found.left_out
        target += _keyed(found.images, folder, split_entries(folder, folders=True))
    if splits:
        folders = ", ".join(f"{images.name}/{path.name}" for path in splits.values())
        layout.left_out += [
            (image.path, f"an image in none of the splits' folders ({folders})")
            for image in layout.images
            if image.key.partition("/")[0] not in splits or "/" not in image.key
        ]
    return layout


def _split_folders(root: Path, splits: dict[str, Path]) -> Layout:
    layout = Layout(root, root, by_folders=True)
    for split, folder in splits.items():
        images, masks = (_folder(folder, names) for names in (_IMAGE_FOLDERS, _MASK_FOLDERS))
        if images is not None and masks is not None:
            for place, target in ((images, layout.images), (masks, layout.masks)):
                found = images_in(place, recursive=True)
                layout.left_out += found.left_out
                target += [
                    KeyedFile(path, f"{split}/{key_below(path, place)}") for path in found.images
                ]
        elif (together := _side_by_side(folder, f"{split}/")) is not None:
            _take(layout, *together)
        else:
            raise BinsegError(
                f"{folder}: neither images/ and masks/ in it nor pairs such as a.jpg and "
                "a_mask.png; put masks of the same names into masks/ and the images into images/"
            )
    layout.words = f"splits in {', '.join(f'{path.name}/' for path in splits.values())}"
    return layout


def _side_by_side(folder: Path, prefix: str) -> _Together | None:
    """Images and masks of one folder, told by their names (`a.jpg`, `a_mask.png`); None if no file
    has such a name."""
    found = images_in(folder, recursive=True)
    files = [KeyedFile(path, prefix + key_below(path, folder)) for path in found.images]
    cores = {image_core(file) for file in files if mask_core(file) == file.key.casefold()}
    masks = [
        file
        for file in files
        if mask_core(file) != file.key.casefold() and mask_core(file) in cores
    ]
    if not masks:
        return None
    chosen = {mask.path for mask in masks}
    return [file for file in files if file.path not in chosen], masks, found.left_out


def _take(
    layout: Layout, images: list[KeyedFile], masks: list[KeyedFile], left_out: list[LeftOut]
) -> None:
    layout.images += images
    layout.masks += masks
    layout.left_out += left_out


def _keyed(paths: Iterable[Path], folder: Path, splits: dict[str, Path]) -> list[KeyedFile]:
    """Files by name below `folder`; a split's folder by the split's own name."""
    own = {path.name: split for split, path in splits.items()}
    found = []
    for path in paths:
        first, slash, rest = key_below(path, folder).partition("/")
        found.append(KeyedFile(path, f"{own.get(first, first)}{slash}{rest}" if slash else first))
    return found
