"""Cityscapes, whose archives need an account, looked through after a person unpacked them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from binseg.data.cityscapes import (
    FULL_SIZES,
    LABEL_ARCHIVES,
    Annotations,
    image_archive,
)
from binseg.data.setup_report import Preparation
from binseg.errors import BinsegError

_NEEDED = {
    "fine": (("train", "gtFine"), ("val", "gtFine")),
    # coarse labels are trained on, never scored on
    "coarse": (("train", "gtCoarse"), ("train_extra", "gtCoarse"), ("val", "gtFine")),
}


def check_cityscapes(root: Path, annotations: Annotations) -> Preparation:
    """Look for the images and masks that training and scoring need.

    Train ids are made when a mask is read, so nothing is written.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/.
        annotations: labels to train on.

    Raises:
        BinsegError: there is no such folder.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise BinsegError(
            f"{root}: no such folder; unpack the archives of www.cityscapes-dataset.com into one "
            "folder and set --root to it"
        )
    result = Preparation([], [])
    absent: dict[str, list[str]] = defaultdict(list)
    for split, kind in _NEEDED[annotations]:
        folders = [f"leftImg8bit/{split}", f"{kind}/{split}"]
        for folder in folders:
            if not (root / folder).is_dir():
                absent[_archive(folder)].append(folder)
        if all((root / folder).is_dir() for folder in folders):
            _count(root, split, kind, result)
    tests = len(_stems(root / "leftImg8bit" / "test", "_leftImg8bit.png"))
    result.found.append(
        f"test: {tests:,} of the full set's {FULL_SIZES['test']:,} images, whose labels are not "
        "public (for exports alone)"
    )
    result.missing.extend(_remedy(root, *entry) for entry in absent.items())
    return result


def _archive(folder: str) -> str:
    """The archive that holds a folder such as gtFine/val."""
    kind, split = folder.split("/")
    return image_archive(split) if kind == "leftImg8bit" else LABEL_ARCHIVES[kind]


def _stems(folder: Path, suffix: str) -> set[str]:
    """CITY/CITY_SEQUENCE_FRAME of the files with `suffix` in a split's folder."""
    return {
        f"{path.parent.name}/{path.name.removesuffix(suffix)}"
        for path in folder.glob(f"*/*{suffix}")
    }


def _count(root: Path, split: str, kind: str, result: Preparation) -> None:
    """What of a split is there, and what is without its other half."""
    image_folder, label_folder = f"leftImg8bit/{split}", f"{kind}/{split}"
    images = _stems(root / image_folder, "_leftImg8bit.png")
    masks = _stems(root / label_folder, f"_{kind}_labelIds.png")
    for folder, lacking, what in (
        (label_folder, images - masks, "images have no *_labelIds.png"),
        (image_folder, masks - images, "masks have no image"),
    ):
        if lacking:
            result.missing.append(
                f"{root / folder}: {len(lacking):,} {what}: {_by_city(lacking)}; unpack "
                f"{_archive(folder)} again"
            )
    expected = FULL_SIZES[split]
    if len(images | masks) < expected:
        result.missing.append(
            f"{root / image_folder}: {len(images | masks):,} of {expected:,} images of the full "
            f"set, in {len(_cities(images | masks))} cities; unpack {_archive(image_folder)} and "
            f"{_archive(label_folder)} again"
        )
    result.found.append(
        f"{split}: {len(images & masks):,} of the full set's {expected:,} images with masks of "
        f"{kind}"
    )


def _cities(stems: Iterable[str]) -> dict[str, list[str]]:
    """City → its images, both by name."""
    cities = defaultdict(list)
    for city, stem in (stem.split("/") for stem in sorted(stems)):
        cities[city].append(stem)
    return cities


def _by_city(stems: Iterable[str]) -> str:
    """Each city with its count and its first image."""
    return ", ".join(f"{city} {len(all_):,} ({all_[0]})" for city, all_ in _cities(stems).items())


def _remedy(root: Path, archive: str, folders: Sequence[str]) -> str:
    """Why folders may be missing, and what to do."""
    fault = f"{', '.join(str(root / folder) for folder in folders)}: missing"
    if (root.parent / folders[0]).is_dir():
        return f"{fault}, one folder too deep; set --root {root.parent}"
    kind = folders[0].split("/")[0]
    for deeper in sorted([*root.glob(f"*/{folders[0]}"), *root.glob(f"*/*/{folders[0]}")]):
        base = deeper.parents[1]
        if (base / "leftImg8bit").is_dir() and (base / "gtFine").is_dir():
            return f"{fault}, one folder too high; set --root {base}"
        return f"{fault}, {archive} is unpacked too deep; move {base / kind}/* to {root / kind}/"
    if (root / archive).is_file():
        return f"{fault}, {archive} is not unpacked; unzip it in {root}"
    return (
        f"{fault}; download {archive} from www.cityscapes-dataset.com (it needs an account) and "
        f"unpack it into {root}"
    )
