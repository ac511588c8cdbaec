"""PASCAL VOC 2012 and SBD made ready: downloaded where they are missing, counted, checked."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from binseg.data.fetch import Archive, OnProgress, alone, by_hand, fetch, find_archive
from binseg.data.files import Pair, absent
from binseg.data.sbd import sbd_pairs
from binseg.data.setup_report import Preparation
from binseg.data.unpack import unpack
from binseg.data.voc import FULL_SIZES, VOCDataset
from binseg.errors import BinsegError

SBD_SIZES = {"train": 8498, "val": 2857}
"""Images in SBD's own lists, which share none."""

VOC_IMAGES = 17125
"""Images in VOC's archive; those that are in no list for segmentation serve other tasks."""


class _Part(NamedTuple):
    """A tree that one archive unpacks to.

    Attributes:
        title: what a person calls it.
        archive: the published file.
        inside: the tree's folder in it.
        folder: where the tree belongs.
        images: folder of its images, and how many there are in the archive.
        lists: its lists of names, and how many names each has.
        pairs: all that the lists name.
    """

    title: str
    archive: Archive
    inside: str
    folder: Path
    images: tuple[str, int]
    lists: Mapping[Path, int]
    pairs: Callable[[], Sequence[Pair]]


def prepare_voc(root: Path, *, download: bool, sbd: bool, on_progress: OnProgress) -> Preparation:
    """Bring PASCAL VOC 2012 and SBD into `root`, as far as they are not there.

    Archives come from `root`, if somebody put them there, or from the addresses that torchvision
    knows; their MD5 must be the one that it knows, and they are kept. What interrupts a call, at
    any moment, the next one makes up for.

    Args:
        root: the folder that holds, or is to hold, VOCdevkit/ and sbd/; also VOCdevkit/ itself or
            VOC2012/ in it.
        download: False: use what is there.
        sbd: also bring SBD, which trainaug needs.
        on_progress: called at every step.

    Raises:
        BinsegError: there is a tree that is not the archive's, which is left alone.
    """
    home = root.expanduser()
    while home.absolute().name in ("VOC2012", "VOCdevkit"):
        home = home.absolute().parent
    parts = [_voc(home / "VOCdevkit" / "VOC2012")]
    # SegmentationClassAug/ is trainaug as other toolkits write it
    if sbd and not (parts[0].folder / "SegmentationClassAug").is_dir():
        parts.append(_sbd(home / "sbd"))
    for part in parts:  # before the first download
        _check_lists(part)
    result = Preparation([], [])
    for part in parts:
        try:
            _settle(part, home, download, on_progress)
            result.found.append(_summary(part))
        except BinsegError as error:
            result.missing.append(str(error))
    if sbd and not result.missing:
        _check_trainaug(home, result)
    return result


def _voc(folder: Path) -> _Part:
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    known = DATASET_YEAR_DICT["2012"]
    splits = ("train", "val", "trainval")
    lists = folder / "ImageSets" / "Segmentation"
    return _Part(
        "PASCAL VOC 2012",
        Archive(known["filename"], known["url"], known["md5"]),
        known["base_dir"],
        folder,
        ("JPEGImages", VOC_IMAGES),
        {lists / f"{split}.txt": FULL_SIZES[split] for split in splits},
        lambda: [pair for s in splits for pair in VOCDataset(folder, s, strict=False).pairs],
    )


def _sbd(folder: Path) -> _Part:
    from torchvision.datasets import SBDataset

    inside = "benchmark_RELEASE/dataset"
    if (folder / inside).is_dir():  # unpacked by hand
        folder /= inside
    return _Part(
        "SBD",
        Archive(SBDataset.filename, SBDataset.url, SBDataset.md5),
        inside,
        folder,
        ("img", sum(SBD_SIZES.values())),
        {folder / f"{name}.txt": size for name, size in SBD_SIZES.items()},
        lambda: sbd_pairs(folder),
    )


def _check_lists(part: _Part) -> None:
    """Recognize a tree that the archive must not be mixed with.

    Raises:
        BinsegError: a list has another number of names than the archive's.
    """
    for path, expected in part.lists.items():
        names = len(path.read_text("utf-8", "replace").split()) if path.is_file() else expected
        if names != expected:
            raise BinsegError(
                f"{path}: {names:,} names where {part.title} has {expected:,}: a selection, or "
                "another year; it is left alone, choose another --root for the whole set"
            )


def _settle(part: _Part, home: Path, download: bool, on_progress: OnProgress) -> None:
    """Make `part` complete.

    Raises:
        BinsegError: it cannot be.
    """
    lacking = _lacking(part)
    if lacking is None:
        return
    with alone(home):
        archive = find_archive(part.archive, (home, part.folder), on_progress)
        if archive is None and not download:
            raise BinsegError(f"{lacking}; {by_hand(part.archive, home, '--no_download')}")
        unpack(
            archive or fetch(part.archive, home, on_progress), part.inside, part.folder, on_progress
        )
    if lacking := _lacking(part):
        raise BinsegError(f"{lacking}, also after unpacking {part.archive.name}")


def _lacking(part: _Part) -> str | None:
    """What the tree lacks to be complete; None if it does not."""
    missing = [path for path in part.lists if not path.is_file()]
    if not part.folder.is_dir():
        missing = [part.folder]
    elif not missing:
        missing = absent([path for pair in part.pairs() for path in pair if path is not None])
    if not missing:
        return None
    return f"{missing[0]}: missing" + f", like {len(missing) - 1:,} more" * (len(missing) > 1)


def _summary(part: _Part) -> str:
    name, expected = part.images
    there = sum(1 for _ in (part.folder / name).glob("*.jpg"))
    lists = ", ".join(f"{path.stem} {count:,}" for path, count in part.lists.items())
    return f"{part.title}: {there:,} of {expected:,} images in {part.folder}; {lists} with masks"


def _check_trainaug(home: Path, result: Preparation) -> None:
    """Count what training would be given."""
    try:
        trainaug = VOCDataset(home, "trainaug")
    except BinsegError as error:
        result.missing.append(str(error))
        return
    if len(trainaug) == trainaug.expected:
        result.found.append(f"trainaug: {len(trainaug):,} images (train + SBD without val)")
    else:
        result.missing.append(
            f"trainaug: {len(trainaug):,} images and not {trainaug.expected:,}; if VOC2012 holds "
            "SegmentationClassAug/, remove that, else extract both archives again"
        )
