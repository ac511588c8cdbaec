"""What a person may say about the data: in YAML under `data:` or as `--data.KEY VALUE`."""

from dataclasses import dataclass, field

from binseg.data.augment import AugmentConfig
from binseg.data.datasets import DatasetOptions, SegmentationDataset, create_dataset
from binseg.errors import BinsegError


@dataclass
class DataConfig:
    """The data set, how its pictures are prepared, and how they are loaded.

    Args:
        name: data set: camvid, folder (own pictures: images/, masks/, labels.yaml) or scenes
            (street scenes drawn on the fly, no files needed).
        root: folder of the data set; not needed for scenes.
        short_side: pixels of the shorter side that pictures are resized to before anything else,
            also when scoring and predicting; null: native size.
        crop: height and width of training crops, in pixels, after resizing.
        batch_size: training pictures a step, in each process.
        val_batch_size: pictures a step when scoring; above 1 only if all pictures have one size.
        workers: loader processes, in each process; 0 loads in the main one.
        seed: fixes the order, the augmentation and the scenes; 0 or more.
        augment: random changes of training pictures.
        cache: keep decoded and resized pictures in memory, shared by the workers; null: if that
            takes less than 1 GiB.
        calibration_images: unaugmented training pictures for re-estimating BatchNorm.
        scenes_train: number of training scenes (scenes only).
        scenes_val: number of validation and of test scenes (scenes only).
        scenes_size: height and width of a scene, in pixels (scenes only).
    """

    name: str = "camvid"
    root: str | None = None
    short_side: int | None = None
    crop: tuple[int, int] = (352, 480)
    batch_size: int = 8
    val_batch_size: int = 1
    workers: int = 0
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    cache: bool | None = None
    calibration_images: int = 200
    scenes_train: int = 1000
    scenes_val: int = 100
    scenes_size: tuple[int, int] = (144, 192)

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("val_batch_size", 1),
            ("workers", 0),
            ("seed", 0),
            ("calibration_images", 1),
        ):
            if getattr(self, name) < least:
                raise BinsegError(f"data.{name}: {getattr(self, name)} must be at least {least}")

    def open(self, split: str, *, strict: bool = True) -> SegmentationDataset:
        """Open one split (train, val or test) of the data set.

        Raises:
            BinsegError: what the data set's reader finds wrong.
        """
        length = self.scenes_train if split == "train" else self.scenes_val
        options = DatasetOptions(self.root, length, self.scenes_size, self.seed, strict)
        return create_dataset(self.name, split, options)
