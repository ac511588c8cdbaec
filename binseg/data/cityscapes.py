"""Cityscapes in its own layout, listed by torchvision; train ids are made when a mask is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from binseg.data.files import MissingSplitError, Pair, PairedFiles, absent, existing_root
from binseg.data.image_files import LeftOut, images_in
from binseg.data.imageio import read_mask
from binseg.data.labels import get_label_table
from binseg.errors import BinsegError

Annotations = Literal["fine", "coarse"]

FULL_SIZES = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
"""Images of the full sets."""

LABEL_ARCHIVES = {"gtFine": "gtFine_trainvaltest.zip", "gtCoarse": "gtCoarse.zip"}
"""Folder of labels → the archive that it comes in."""


def image_archive(split: str) -> str:
    """The archive that leftImg8bit/SPLIT comes in."""
    return f"leftImg8bit_{'trainextra' if split == 'train_extra' else 'trainvaltest'}.zip"


class CityscapesDataset(PairedFiles):
    """Cityscapes, 19 classes: leftImg8bit/SPLIT/CITY/*.png and gtFine/ or gtCoarse/ beside it.

    Masks are the `*_labelIds.png` of the archives; no file of train ids is needed. The labels of
    `test` are not public: there all pixels are 255.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/.
        split: train, val, test or train_extra (the last with coarse labels alone).
        annotations: fine or coarse; train_extra has coarse ones whatever is said.
        strict: raise the first fault of the arrangement; else collect them in `faults`.

    Raises:
        BinsegError: missing folders (says which archive holds them), or images without masks.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        annotations: Annotations = "fine",
        strict: bool = True,
    ) -> None:
        root = existing_root(root)
        if split == "train_extra":
            annotations = "coarse"
        labelled = split != "test"
        kind = "gtFine" if annotations == "fine" else "gtCoarse"
        pairs = _listed(root, split, kind) if labelled else _unlabelled(root)
        super().__init__(
            pairs,
            get_label_table("cityscapes"),
            _faults(pairs, kind),
            strict,
            expected=FULL_SIZES[split],
            labelled=labelled,
            left_out=_left_out(root, split, kind, pairs),
        )

    def sample_name(self, index: int) -> str:
        """CITY_SEQUENCE_FRAME, by which the benchmark knows the image."""
        return super().sample_name(index).removesuffix("_leftImg8bit")

    def read_instances(self, index: int) -> np.ndarray | None:
        mask = self.pairs[index].mask
        if mask is None:
            return None
        instances = mask.with_name(mask.name.replace("_labelIds", "_instanceIds"))
        return read_mask(instances).astype(np.int32) if instances.is_file() else None


def _listed(root: Path, split: str, kind: str) -> list[Pair]:
    from torchvision.datasets import Cityscapes

    images = _folder(root, split)
    if not (root / kind / split).is_dir():
        raise BinsegError(
            f"{root / kind / split}: missing, there are only images; unpack "
            f"{LABEL_ARCHIVES[kind]} into {root}"
        )
    try:
        files = Cityscapes(str(root), split, "fine" if kind == "gtFine" else "coarse", "semantic")
    except OSError as error:  # a file where a city's folder should be
        raise BinsegError(
            f"{error.filename or images}: not a city's folder; remove it from {images}"
        ) from error
    pairs = [
        Pair(Path(image), Path(masks[0]))
        for image, masks in zip(files.images, files.targets, strict=True)
        if image.endswith("_leftImg8bit.png")
    ]
    return _not_none(sorted(pairs), images)


def _unlabelled(root: Path) -> list[Pair]:
    images = _folder(root, "test")
    return _not_none(
        [Pair(path, None) for path in sorted(images.glob("*/*_leftImg8bit.png"))], images
    )


def _folder(root: Path, split: str) -> Path:
    images = root / "leftImg8bit" / split
    if images.is_dir():
        return images
    if deeper := [path for path in root.glob("*/leftImg8bit") if path.is_dir()]:
        raise BinsegError(
            f"{root}: leftImg8bit lies one folder deeper, in {deeper[0].parent.name}/; set "
            "--data.root to that folder, or unpack all archives into one"
        )
    kind = MissingSplitError if split == "test" else BinsegError
    raise kind(
        f"{images}: missing; set --data.root to the folder with leftImg8bit/, or unpack "
        f"{image_archive(split)} into it"
    )


def _not_none(pairs: list[Pair], images: Path) -> list[Pair]:
    if not pairs:
        raise BinsegError(
            f"{images}: no CITY/*_leftImg8bit.png in it; unpack the archive of images again"
        )
    return pairs


def _left_out(root: Path, split: str, kind: str, pairs: Sequence[Pair]) -> list[LeftOut]:
    """Images of other names or formats, and masks without an image."""
    images = {pair.image for pair in pairs}
    masks = {pair.mask for pair in pairs}
    found: list[LeftOut] = []
    for city in sorted(path for path in (root / "leftImg8bit" / split).iterdir() if path.is_dir()):
        there = images_in(city)
        found += there.left_out
        found += [
            (path, "not named as Cityscapes names images, …_leftImg8bit.png")
            for path in there.images
            if path not in images
        ]
    if split != "test":
        found += [
            (path, "a mask without an image")
            for path in sorted((root / kind / split).glob("*/*_labelIds.png"))
            if path not in masks
        ]
    return found


def _faults(pairs: Sequence[Pair], kind: str) -> list[str]:
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    missing = absent(masks)
    if not missing:
        return []
    return [
        f"{missing[0]}: missing; {len(missing):,} of {len(pairs):,} images have no mask: unpack "
        f"{LABEL_ARCHIVES[kind]} again"
    ]
