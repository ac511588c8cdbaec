"""The configuration of the data: in YAML under `data:` or as `--data.KEY VALUE`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from binseg.data.augment_config import AugmentConfig
from binseg.data.labels import LabelTable
from binseg.data.merge_config import MergeConfig, check_repeat, check_stretch
from binseg.errors import BinsegError

if TYPE_CHECKING:
    from binseg.data.samples import SegmentationDataset


@dataclass
class DataConfig:
    """The data set, how its images are prepared, and how they are loaded.

    Args:
        name: data set: camvid, voc (PASCAL VOC 2012), cityscapes, folder (own images: images/,
            masks/, labels.yaml) or scenes (street scenes drawn on the fly, no files needed).
        root: folder of the data set; not needed for scenes.
        merge: other data sets whose training images are trained on, too, with what their classes
            become; scored is this data set alone.
        repeat: how often each training image is seen in an epoch.
        stretch: factor on the width of images that are stored squeezed, when they are read.
        relabel: data set whose classes these become, by the table that merging uses (cityscapes as
            camvid) or by equal names: to score a network of CamVid's classes on Cityscapes.
        classes: only these classes, in this order, like [background,cat,dog] or
            background,cat,dog; all other pixels are ignored. null: all.
        train_split: what is trained on: train, trainval (camvid, folder, voc), trainaug (voc:
            train + SBD without val) or train_extra (cityscapes: coarse labels).
        group_by: split anew, all images of train and val, by whole groups (camvid and folder): a
            regular expression that finds the group in an image's name (its first parenthesis, or
            all that it matches), `folder` (the folder below images/ that an image lies in) or
            `sequence` (CamVid's: 0001TP, 0006R0 and 0016E5). null: the data set's own split.
        val_groups: the groups that are val, like "0016E5" or "0001TP,0006R0"; all others are train.
            null: about one group in five, by a hash of its name.
        annotations: fine or coarse labels of the training images (cityscapes only).
        sbd_root: folder with SBD's img/ and cls/ (voc's trainaug only); null: sbd/ beside
            VOCdevkit/.
        short_side: pixels of the shorter side that images are resized to before anything else,
            also when scoring and predicting; null: native size, or that of model.start.
        mean: mean of R, G, B on a scale from 0 to 1, which images are normalised with. null:
            ImageNet's, or those of model.start.
        std: standard deviation of R, G, B on that scale; null as for mean.
        crop: height and width of training crops, in pixels, after resizing.
        batch_size: training images a step, in each process.
        val_batch_size: images a step when scoring; above 1 only if all images have one size.
        workers: loader processes, in each process; 0 loads in the main one.
        seed: fixes the scenes and, with trainer.seed, order and augmentation; 0 or more.
        augment: random changes of training images.
        cache: keep decoded and resized images in memory, shared by the workers; null: if that
            takes less than 1 GiB.
        allow_missing_classes: train although a class has no pixel in the training masks.
        calibration_images: unaugmented training images for re-estimating BatchNorm.
        scenes_train: number of training scenes (scenes only).
        scenes_val: number of validation and of test scenes (scenes only).
        scenes_size: height and width of a scene, in pixels (scenes only).
    """

    name: str = "camvid"
    root: str | None = None
    merge: list[MergeConfig] = field(default_factory=list)
    repeat: int = 1
    stretch: float = 1.0
    relabel: str | None = None
    classes: list[str] | str | None = None
    train_split: str = "train"
    group_by: str | None = None
    val_groups: str | float | list[str | float] | None = None
    annotations: Literal["fine", "coarse"] = "fine"
    sbd_root: str | None = None
    short_side: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    crop: tuple[int, int] = (352, 480)
    batch_size: int = 8
    val_batch_size: int = 1
    workers: int = 0
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    cache: bool | None = None
    allow_missing_classes: bool = False
    calibration_images: int = 200
    scenes_train: int = 1000
    scenes_val: int = 100
    scenes_size: tuple[int, int] = (144, 192)

    def __post_init__(self) -> None:
        if _names(self.classes) == []:
            raise BinsegError("data.classes: names no class; leave it out for all of them")
        check_repeat("data.repeat", self.repeat)
        check_stretch("data.stretch", self.stretch)
        if self._held_out == []:
            raise BinsegError("data.val_groups: names no group; leave it out for a hashed split")
        short_side = 16 if self.short_side is None else self.short_side
        for name, values, minimum, maximum in (
            ("batch_size", [self.batch_size], 1, 2**20),
            ("val_batch_size", [self.val_batch_size], 1, 2**20),
            ("workers", [self.workers], 0, 1024),
            ("seed", [self.seed], 0, 2**63),
            ("calibration_images", [self.calibration_images], 1, 2**40),
            ("short_side", [short_side], 8, 16384),
            ("crop", self.crop, 8, 16384),
            ("scenes_train", [self.scenes_train], 1, 2**40),
            ("scenes_val", [self.scenes_val], 1, 2**40),
            ("scenes_size", self.scenes_size, 16, 4096),
        ):
            for value in values:
                if not minimum <= value <= maximum:
                    wanted = f"at least {minimum}" if value < minimum else f"at most {maximum}"
                    raise BinsegError(f"data.{name}: {value} must be {wanted}")

    @property
    def chosen_classes(self) -> list[str] | None:
        """`classes` as a list; None for all."""
        return _names(self.classes)

    @property
    def _held_out(self) -> list[str] | None:
        """`val_groups` as a list.

        Raises:
            BinsegError: YAML read a name such as 0016E5 as a number.
        """
        names = [self.val_groups] if isinstance(self.val_groups, float) else self.val_groups
        if names is None or isinstance(names, str):
            return _names(names)
        for name in names:
            if not isinstance(name, str):
                raise BinsegError(
                    f"data.val_groups: YAML reads a name as the number {name}; write it in quotes"
                )
        return [str(name) for name in names]

    def label_table(self) -> LabelTable:
        """The data set's classes, without looking at its images.

        Raises:
            BinsegError: an unknown data set or class, or a faulty labels.yaml.
        """
        # readers load OpenCV, which a configuration does without
        from binseg.data.datasets import dataset_labels

        return dataset_labels(self.name, self.root, self.chosen_classes, self.relabel)

    def open(self, split: str, *, strict: bool = True) -> "SegmentationDataset":
        """Open one split (train, val or test) of the data set.

        Raises:
            BinsegError: what the data set's reader finds wrong.
        """
        from binseg.data.dataset_views import stretched
        from binseg.data.datasets import DatasetOptions, create_dataset

        options = DatasetOptions(
            root=self.root,
            length=self.scenes_train if split == "train" else self.scenes_val,
            size=self.scenes_size,
            seed=self.seed,
            strict=strict,
            relabel=self.relabel,
            classes=self.chosen_classes,
            train_split=self.train_split,
            annotations=self.annotations,
            sbd_root=self.sbd_root,
            group_by=self.group_by,
            val_groups=self._held_out,
        )
        return stretched(create_dataset(self.name, split, options), self.stretch)


def _names(value: list[str] | str | None) -> list[str] | None:
    """A list that may be written as text with commas, with or without YAML's brackets."""
    if not isinstance(value, str):
        return value
    parts = [part.strip().strip("'\"") for part in value.strip().strip("[]").split(",")]
    return [part for part in parts if part]
