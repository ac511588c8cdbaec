"""People's own data: a folder of images, a folder of masks, and labels.yaml."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from binseg.data.files import MissingSplitError, Pair, PairedFiles, existing_root, hashed_val
from binseg.data.folder_layout import Layout, find_layout, split_entries
from binseg.data.image_files import LeftOut
from binseg.data.imageio import ColorMaskError, read_color_mask
from binseg.data.label_table import LabelTable
from binseg.data.labels_yaml import read_labels_yaml
from binseg.data.pairing import KeyedFile, Pairing, pair_up
from binseg.data.parts import distinct_names
from binseg.data.split_lists import ListedImages, NameIndex, read_list

_LABELS = ("labels.yaml", "labels.yml")
_SHOWN = 3


class FolderDataset(PairedFiles):
    """People's own data: images in `images/`, masks of the same names in `masks/`, `labels.yaml`.

    Folders may be nested and have the other layouts and spellings of `folder_layout`; masks may be
    named as `pairing.pair_up` says. The split is found in this order:

    1. subfolders `images/train`, `images/val` (and `masks/train`, `masks/val`);
    2. lists `train.txt`, `val.txt` in the root, see `split_lists`;
    3. neither: an image belongs to val if a hash of its name says so (about one in five), so the
       split is the same on every machine and stays when images are added.

    `labels.yaml` is described at `read_labels_yaml`. Masks are PNG, TIFF or BMP of ids, or of the
    colours that labels.yaml gives the classes; images may have any format that `read_image` reads.

    Args:
        root: the folder that holds images/, masks/ and labels.yaml.
        split: train, val or test (the last only with 1 or 2).
        strict: raise the first fault of the arrangement; else collect them in `faults`.

    Raises:
        BinsegError: missing folders, masks or listed images, two files of one name, an empty
            split, or a faulty labels.yaml.
    """

    def __init__(self, root: str | Path, split: str, *, strict: bool = True) -> None:
        root = existing_root(root)
        layout = find_layout(root)
        labels = folder_labels(root)
        lists = split_entries(root, folders=False)
        faults: list[str] = []
        given: Mapping[Path, Path] = {}
        words = [layout.words]
        if not layout.images:
            chosen = []
            faults = [f"{layout.images_at}: no images in it; add some or check the root"]
        elif layout.by_folders:
            chosen = _of_folder(layout, split)
            words += [f"{path.name} is not used" for path in lists.values()]
        elif lists:
            images, masks = NameIndex(layout.images, root), NameIndex(layout.masks, root)
            listed = {
                name: read_list(path, images, masks, layout.images_at)
                for name, path in lists.items()
            }
            chosen, given, faults = _of_list(listed, lists, layout, split, root)
            words.append(_unlisted(listed, lists, layout))
        else:
            chosen = _hashed(layout, split, root)
        pairing = pair_up(layout.images, layout.masks, layout.images_at, layout.masks_at, given)
        faults += dict.fromkeys(
            pairing.problems[image.path] for image in chosen if image.path in pairing.problems
        )
        if not chosen and not faults:
            faults.append(f"{layout.images_at}: no images for split '{split}'; add some")
        found = [image for image in chosen if image.path in pairing.masks]
        words.append(_naming(pairing, found))
        super().__init__(
            [Pair(image.path, pairing.masks[image.path]) for image in found],
            labels,
            faults,
            strict,
            left_out=_left_out(layout, pairing),
            arrangement="; ".join(word for word in words if word),
        )
        self._keys = [
            image.key.partition("/")[2] if layout.by_folders else image.key for image in found
        ]
        self._names = distinct_names([key.replace("/", "_") for key in self._keys])

    def read_labels(self, index: int) -> np.ndarray:
        """Train ids, uint8 (H, W); of a mask in colours by those of labels.yaml.

        Raises:
            BinsegError: see `read_mask`; a mask in colours where labels.yaml has none for each
                class, or in others.
        """
        try:
            return super().read_labels(index)
        except ColorMaskError as error:
            mask = self.pairs[index].mask
            assert mask is not None
            if not self.labels.colors:
                raise ColorMaskError(
                    f"{mask}: the mask holds colours, not class ids; give each class its `color:` "
                    "in labels.yaml, or turn the masks into ids by `binseg data import`"
                ) from error
            return self.labels.encode_colors(read_color_mask(mask), mask)

    def sample_name(self, index: int) -> str:
        """The name below images/ without ending, folders joined by `_`."""
        return self._names[index]

    def sample_key(self, index: int) -> str:
        return self._keys[index]


def folder_labels(root: Path) -> LabelTable:
    """The label table of a folder data set.

    Raises:
        BinsegError: no labels.yaml, or a faulty one.
    """
    path = root / _LABELS[0]
    if not path.is_file():
        near = [entry for entry in sorted(root.iterdir()) if entry.name.lower() in _LABELS]
        path = near[0] if len(near) == 1 else path
    return read_labels_yaml(path)


def _of_folder(layout: Layout, split: str) -> list[KeyedFile]:
    chosen = [image for image in layout.images if image.key.startswith(f"{split}/")]
    if not chosen and not any(mask.key.startswith(f"{split}/") for mask in layout.masks):
        there = sorted({image.key.partition("/")[0] for image in layout.images if "/" in image.key})
        raise MissingSplitError(
            f"{layout.images_at / split}: missing or empty, though there are folders for splits "
            f"({', '.join(there)}); add it"
        )
    return chosen


def _of_list(
    listed: Mapping[str, ListedImages],
    lists: Mapping[str, Path],
    layout: Layout,
    split: str,
    root: Path,
) -> tuple[list[KeyedFile], dict[Path, Path], list[str]]:
    """The images of a split's list, the masks that all lists name, and the list's faults."""
    if split not in listed:
        raise MissingSplitError(
            f"{root / split}.txt: missing, though there is {next(iter(lists.values())).name}; "
            "write one image's name a line"
        )
    faults = list(listed[split].faults)
    if not listed[split].images and not faults:
        faults.append(f"{lists[split]}: names no images; write one name a line")
    by_path = {image.path: image for image in layout.images}
    given = {image: mask for each in listed.values() for image, mask in each.masks.items()}
    return [by_path[path] for path in listed[split].images], given, faults


def _unlisted(listed: Mapping[str, ListedImages], lists: Mapping[str, Path], layout: Layout) -> str:
    """In words, images that no list names."""
    named = {path for each in listed.values() for path in each.images}
    others = [image.path.name for image in layout.images if image.path not in named]
    if not others:
        return ""
    shown = ", ".join(others[:_SHOWN]) + ", …" * (len(others) > _SHOWN)
    names = " or ".join(path.name for path in lists.values())
    return f"{len(others):,} of {len(layout.images):,} images not in {names} ({shown})"


def _hashed(layout: Layout, split: str, root: Path) -> list[KeyedFile]:
    val = hashed_val(image.key for image in layout.images)
    chosen = [image for image in layout.images if (image.key in val) == (split == "val")]
    if split == "test" or not chosen:
        raise MissingSplitError(
            f"{layout.images_at}: {len(layout.images):,} images without a split '{split}'; write "
            f"{split}.txt and lists of the other splits into {root}, one name a line"
        )
    return chosen


def _left_out(layout: Layout, pairing: Pairing) -> list[LeftOut]:
    """What is left out; masks of images that are, with their names."""
    images = {path.with_suffix("").name: path.name for path, _ in layout.left_out}
    masks = [
        (path, f"the mask of {images[path.stem]}, which is left out")
        if path.stem in images
        else (path, reason)
        for path, reason in pairing.left_out
    ]
    return [*layout.left_out, *masks]


def _naming(pairing: Pairing, found: Sequence[KeyedFile]) -> str:
    """In words, how masks are named, if not like their images."""
    if pairing.example is None or not found:
        return ""
    image, mask = pairing.example
    return f"masks named as {mask.name} for {image.name}"
