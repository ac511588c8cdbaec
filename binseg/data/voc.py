"""PASCAL VOC 2012 as its archives unpack it, and SBD's masks beside it.

torchvision's readers list the files; binseg's own bounded reader opens them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from binseg.data.files import MissingSplitError, Pair, PairedFiles, absent, existing_root
from binseg.data.imageio import read_mask
from binseg.data.labels import get_label_table
from binseg.data.sbd import find_sbd, read_sbd_mask, sbd_pairs
from binseg.errors import BinsegError

FULL_SIZES = {"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582, "test": 1456}
"""Images of the full sets; trainaug is train + SBD (train and val) without VOC's own val."""


class VOCDataset(PairedFiles):
    """PASCAL VOC 2012, 21 classes; 255 (void, the borders of objects) is ignored.

    `trainaug` is VOC's train, with VOC's masks, and every image of SBD (Hariharan et al., ICCV
    2011) that is in neither VOC's train nor its val. If VOC2012/ holds SegmentationClassAug/ and
    ImageSets/Segmentation/trainaug.txt, as other toolkits write them, these are read in its place.
    `test` has no labels; its list and images come with the challenge's own archive.

    Args:
        root: the folder that holds VOCdevkit/, VOCdevkit/ itself or VOC2012/.
        split: train, val, trainval, trainaug or test.
        sbd_root: the folder with SBD's img/ and cls/; None: sbd/ beside VOCdevkit/.
        strict: raise the first fault of the arrangement; else collect them in `faults`.

    Raises:
        BinsegError: another layout, another year, a missing list, or listed files that are not
            there.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        sbd_root: str | Path | None = None,
        strict: bool = True,
    ) -> None:
        voc = find_voc(root)
        if split == "trainaug":
            found = _trainaug(voc, sbd_root)
        elif split == "test":
            images = _listed(voc, "test", "JPEGImages", ".jpg")
            found = [Pair(image, None) for image in images]
        else:
            found = _split(voc, split)
        super().__init__(
            found,
            get_label_table("voc"),
            _faults(found),
            strict,
            expected=FULL_SIZES[split],
            labelled=split != "test",
        )

    def _read_mask(self, path: Path) -> np.ndarray:
        return read_sbd_mask(path) if path.suffix == ".mat" else read_mask(path)


def find_voc(root: str | Path) -> Path:
    """The folder VOC2012, from it or one of the two above it.

    Raises:
        BinsegError: there is none; says what is there in its place.
    """
    root = existing_root(root)
    for folder in (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
        if (folder / "ImageSets").is_dir():
            full = folder.absolute()  # not resolved: a link may well have another name behind it
            if (full.parent.name, full.name) != ("VOCdevkit", "VOC2012"):
                raise BinsegError(
                    f"{folder}: VOC's images must lie in folders VOCdevkit/VOC2012, as its "
                    "archive unpacks them; rename the folders"
                )
            return folder if len(folder.parts) > 2 else full
    years = sorted((*root.glob("VOCdevkit/VOC20*"), *root.glob("VOC20*")))
    if any(path.name == "VOC2012" for path in years):
        raise BinsegError(
            f"{root}: VOC2012 has no ImageSets folder, its archive is half extracted; extract it "
            "again (binseg data prepare voc)"
        )
    if years:
        raise BinsegError(
            f"{root}: holds {', '.join(path.name for path in years)} and not VOC2012; binseg reads "
            "the year 2012 (binseg data prepare voc)"
        )
    raise BinsegError(
        f"{root}: no VOCdevkit/VOC2012 in it; set --data.root to the folder that holds VOCdevkit, "
        "or run binseg data prepare voc"
    )


def _split(voc: Path, split: str) -> list[Pair]:
    from torchvision.datasets import VOCSegmentation

    try:
        files = VOCSegmentation(str(voc.parents[1]), "2012", split)
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_list(voc, split) from error
    return _pairs(voc, split, files.images, files.masks)


def _trainaug(voc: Path, sbd_root: str | Path | None) -> list[Pair]:
    if (voc / "SegmentationClassAug").is_dir() and _list_path(voc, "trainaug").is_file():
        images = _listed(voc, "trainaug", "JPEGImages", ".jpg")
        masks = _listed(voc, "trainaug", "SegmentationClassAug", ".png")
        return [Pair(image, mask) for image, mask in zip(images, masks, strict=True)]
    own = _split(voc, "train")
    taken = {pair.image.stem for pair in (*own, *_split(voc, "val"))}
    beside = voc.parents[1] / "sbd" if sbd_root is None else Path(sbd_root).expanduser()
    more = [pair for pair in sbd_pairs(find_sbd(beside)) if pair.image.stem not in taken]
    return own + more


def _list_path(voc: Path, split: str) -> Path:
    return voc / "ImageSets" / "Segmentation" / f"{split}.txt"


def _bad_list(voc: Path, split: str) -> BinsegError:
    kind = MissingSplitError if split == "test" else BinsegError
    remedy = (
        "it comes with the challenge's test archive"
        if split == "test"
        else "the archive is half extracted; extract it again (binseg data prepare voc)"
    )
    return kind(f"{_list_path(voc, split)}: missing or unreadable; {remedy}")


def _listed(voc: Path, split: str, folder: str, suffix: str) -> list[Path]:
    """The files of the lists that torchvision does not read."""
    try:
        names = _list_path(voc, split).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_list(voc, split) from error
    return [voc / folder / f"{name}{suffix}" for name in names]


def _pairs(voc: Path, split: str, images: Sequence[str], masks: Sequence[str]) -> list[Pair]:
    pairs = [
        Pair(Path(image), Path(mask))
        for image, mask in zip(images, masks, strict=True)
        if Path(image).name != ".jpg"  # an empty line
    ]
    where = _list_path(voc, split)
    if not pairs:
        raise BinsegError(f"{where}: names no images; extract the archive again")
    if alien := [pair.image.stem for pair in pairs if pair.image.stem.isdigit()]:
        raise BinsegError(
            f"{where}: lists images of VOC 2007 ({alien[0]}, …) in the folder of 2012; keep the "
            "years apart and extract VOC2012 again"
        )
    return pairs


def _faults(pairs: Sequence[Pair]) -> list[str]:
    """One line for the missing images and one for the missing masks."""
    faults = []
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    for kind, paths in (("images", [pair.image for pair in pairs]), ("masks", masks)):
        if missing := absent(paths):
            faults.append(
                f"{missing[0]}: missing, like {len(missing) - 1:,} more of {len(paths):,} listed "
                f"{kind}; the archive is half extracted or of another year: extract it again"
                if len(missing) > 1
                else f"{missing[0]}: missing, though it is listed; extract the archive again"
            )
    return faults
