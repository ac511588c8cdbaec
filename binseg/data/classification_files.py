"""Labelled images on the disk: an ImageFolder tree or CIFAR-10, listed by torchvision."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from binseg.data.classification_config import ClassificationConfig
from binseg.data.fetch import Archive, alone, fetch, find_archive
from binseg.data.files import existing_root
from binseg.data.image_files import FoundImages, LeftOut, take_image
from binseg.data.imageio import image_size, read_image
from binseg.data.unpack import unpack
from binseg.errors import BinsegError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


class LabelledImages(Protocol):
    """One split of a classification data set.

    Attributes:
        classes: names by class id.
        targets: class id of each image.
        left_out: files beside the images that are not read.
    """

    classes: list[str]
    targets: list[int]
    left_out: list[LeftOut]

    def image(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3) RGB; a BinsegError names an unreadable file."""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) from the header."""

    def key(self) -> str:
        """What a cache of the decoded images depends on."""


class FolderSplit:
    """root/SPLIT/CLASS/*.jpg, the layout of ImageNet; class ids follow the sorted folder names."""

    def __init__(self, root: Path, split: str) -> None:
        from torchvision.datasets import ImageFolder

        self.folder = root / split
        if not self.folder.is_dir():
            raise BinsegError(
                f"{self.folder}: no such folder; an ImageFolder tree is train/CLASS/*.jpg and "
                "val/CLASS/*.jpg under data.root"
            )
        looked_at = FoundImages()
        try:
            found = ImageFolder(
                str(self.folder),
                is_valid_file=lambda path: take_image(path, looked_at),
                allow_empty=True,
            )
        except FileNotFoundError as error:
            raise BinsegError(
                f"{self.folder}: no class folders; make one for each class"
            ) from error
        self.classes: list[str] = found.classes
        self.targets: list[int] = found.targets
        self.left_out = looked_at.left_out
        self._paths = [Path(path) for path, _ in found.samples]
        filled = set(self.targets)
        for index, name in enumerate(self.classes):
            if index not in filled:
                raise BinsegError(
                    f"{self.folder / name}: no images in this class; add some or remove it"
                )

    def image(self, index: int) -> np.ndarray:
        return read_image(self._paths[index])

    def size(self, index: int) -> tuple[int, int]:
        return image_size(self._paths[index])

    def key(self) -> str:
        return "\n".join(f"{path} {path.stat().st_size}" for path in self._paths)


class Cifar10:
    """CIFAR-10 in torchvision's layout under root."""

    def __init__(self, root: Path, split: str, *, download: bool) -> None:
        from torchvision.datasets import CIFAR10

        def opened() -> CIFAR10:
            return CIFAR10(str(root), train=split == "train")

        archive = Archive(CIFAR10.filename, CIFAR10.url, CIFAR10.tgz_md5)
        try:
            try:
                found = opened()
            except RuntimeError:  # missing, or of another MD5
                if not download:
                    raise
                found = _downloaded(archive, root, opened)
        except RuntimeError as error:
            raise BinsegError(
                f"{root}: no CIFAR-10 here; set --data.download true to fetch it (170 MB), or "
                "unpack cifar-10-python.tar.gz into this folder"
            ) from error
        except OSError as error:
            raise BinsegError(
                f"{root}: CIFAR-10 cannot be read ({error}); unpack cifar-10-python.tar.gz into "
                "this folder"
            ) from error
        self.classes: list[str] = found.classes
        self.targets: list[int] = found.targets
        self._images: np.ndarray = found.data
        self.left_out: list[LeftOut] = []
        self._key = f"cifar10 {split}"

    def image(self, index: int) -> np.ndarray:
        return self._images[index]

    def size(self, index: int) -> tuple[int, int]:
        return self._images.shape[1], self._images.shape[2]

    def key(self) -> str:
        return self._key


def _downloaded(archive: Archive, root: Path, opened: Callable[[], "CIFAR10"]) -> "CIFAR10":
    """CIFAR-10, brought into `root` unless another process does so just now.

    Not by torchvision, which unpacks whatever paths an archive holds.

    Raises:
        BinsegError: it cannot be fetched or unpacked.
    """
    with alone(root, wait=True):  # processes of one training begin together
        try:
            return opened()
        except RuntimeError:
            found = find_archive(archive, [root], _silent) or fetch(archive, root, _silent)
            inside = "cifar-10-batches-py"
            unpack(found, inside, root / inside, _silent)
        return opened()


def _silent(what: str, done: int, total: int | None) -> None:
    """Report nothing."""


def open_split(config: ClassificationConfig, split: str) -> LabelledImages:
    """Open "train" or "val" of the data set that `config` names.

    Raises:
        BinsegError: a missing root or split, a class without images.
    """
    if config.root is None:
        raise BinsegError("data.root is not set; give the folder of the data set")
    if config.name == "cifar10":
        root = Path(config.root).expanduser()
        return Cifar10(root, split, download=config.download)
    return FolderSplit(existing_root(config.root), split)


def check_same_classes(train: Sequence[str], val: Sequence[str], root: str) -> None:
    """Refuse class folders that only one of the splits has.

    Raises:
        BinsegError: names the first of them.
    """
    for here, there, ours, theirs in (("train", "val", train, val), ("val", "train", val, train)):
        alone = sorted(set(ours) - set(theirs))
        if alone:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            raise BinsegError(
                f"{root}: class '{alone[0]}'{more} is in {here}/ but not in {there}/; the splits "
                "need the same class folders"
            )
