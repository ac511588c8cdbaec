"""The configuration of images for classification: under `data:`, or as `--data.KEY VALUE`."""

from dataclasses import dataclass
from typing import Literal

from binseg.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from binseg.errors import BinsegError


@dataclass
class ClassificationConfig:
    """The labelled images, how they are cut and changed, and how they are loaded.

    Args:
        name: data set: imagefolder (train/CLASS/*.jpg and val/CLASS/*.jpg) or cifar10.
        root: folder of the data set.
        download: fetch CIFAR-10 into root if it is not there.
        size: pixels: height and width of what the network sees.
        stored_size: pixels: side of the squares that images are kept as in memory, resized and
            cut to their middle, at most about twice `size`; null: as they are, which must then be
            of one size.
        crop: crops of training images: shift (a random window over a border of `padding` pixels) or
            resized (a random window of random area, enlarged to `size`).
        padding: pixels of border on each side for `shift`.
        area: smallest and largest share of the image for `resized`.
        flip: mirror every second training image.
        batch_size: training images a step, in each process.
        val_batch_size: images a step when scoring.
        in_memory: decode everything once and keep it, on the GPU if there is one; auto: if that
            takes less than memory_limit. Else loader processes read the files again each epoch.
        memory_limit: GiB for auto.
        workers: loader processes, and threads of the first decoding; 0: this one alone.
        cache: folder for the decoded images, so that the next run need not decode; null: none.
        calibration_images: unaugmented training images for re-estimating BatchNorm.
        mean: mean of R, G, B on a scale from 0 to 1; as the segmentation network will have it.
        std: standard deviation of R, G, B on that scale.
        seed: fixes the order and the augmentation, with trainer.seed; 0 or more.
    """

    name: Literal["imagefolder", "cifar10"] = "imagefolder"
    root: str | None = None
    download: bool = False
    size: int = 224
    stored_size: int | None = None
    crop: Literal["shift", "resized"] = "resized"
    padding: int = 4
    area: tuple[float, float] = (0.25, 1.0)
    flip: bool = True
    batch_size: int = 128
    val_batch_size: int = 250
    in_memory: Literal["auto"] | bool = "auto"
    memory_limit: float = 4.0
    workers: int = 0
    cache: str | None = None
    calibration_images: int = 2000
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, minimum, maximum in (
            ("size", self.size, 8, 4096),
            ("stored_size", self.size if self.stored_size is None else self.stored_size, 8, 8192),
            ("padding", self.padding, 0, 4096),
            ("batch_size", self.batch_size, 1, 2**20),
            ("val_batch_size", self.val_batch_size, 1, 2**20),
            ("memory_limit", self.memory_limit, 0, 2**20),
            ("workers", self.workers, 0, 1024),
            ("calibration_images", self.calibration_images, 1, 2**40),
            ("seed", self.seed, 0, 2**63),
        ):
            if not minimum <= value <= maximum:
                wanted = f"at least {minimum}" if value < minimum else f"at most {maximum}"
                raise BinsegError(f"data.{name}: {value} must be {wanted}")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise BinsegError(f"data.area: {self.area} must be two shares of 1, smaller one first")
