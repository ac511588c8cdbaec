"""The configuration of data sets that are trained on, too: YAML under `data.merge:`."""

from dataclasses import dataclass
from typing import Literal

from binseg.errors import BinsegError


@dataclass
class MergeConfig:
    """Another data set whose training images are trained on, too.

    Args:
        name: data set, as in `data.name`.
        root: folder of the data set.
        labels: what each of its classes becomes: the name of a class of `data.name`, or null for
            ignored pixels, like {sidewalk: pavement, terrain: null}. A class that is not named
            becomes the class of the same name. null: the built-in table for the two data sets
            (cityscapes merged into camvid), or classes of the same names.
        repeat: how often each of its images is seen in an epoch.
        train_split: as in `data.train_split`.
        annotations: as in `data.annotations`.
        sbd_root: as in `data.sbd_root`.
        short_side: as in `data.short_side`, for these images; null: the same.
        stretch: as in `data.stretch`, for these images.
    """

    name: str
    root: str | None = None
    labels: dict[str, str | None] | None = None
    repeat: int = 1
    train_split: str = "train"
    annotations: Literal["fine", "coarse"] = "fine"
    sbd_root: str | None = None
    short_side: int | None = None
    stretch: float = 1.0

    def __post_init__(self) -> None:
        side = 16 if self.short_side is None else self.short_side
        check_repeat("data.merge: repeat", self.repeat)
        check_stretch("data.merge: stretch", self.stretch)
        if not 8 <= side <= 16384:
            raise BinsegError(f"data.merge: short_side {side} must be from 8 to 16384")


def check_repeat(key: str, value: int) -> None:
    """Refuse a number of repetitions below 1 or above 1000.

    Raises:
        BinsegError: with the key and what it takes.
    """
    if not 1 <= value <= 1000:
        raise BinsegError(f"{key}: {value} must be from 1 to 1000")


def check_stretch(key: str, value: float) -> None:
    """Refuse a factor that no image is squeezed by.

    Raises:
        BinsegError: with the key and what it takes.
    """
    if not 0.1 <= value <= 10:
        raise BinsegError(f"{key}: {value} must be from 0.1 to 10")
