"""The Lightning data module: loaders for training, scoring and BatchNorm calibration."""

import functools
from typing import NamedTuple

import cv2
import numpy as np

from binseg.data.augment import TrainTransform, train_transform
from binseg.data.batch_sampler import CalibrationBatches, Key, OrderedBatches
from binseg.data.class_presence import require_labels
from binseg.data.config import DataConfig
from binseg.data.labels import IGNORE, LabelTable
from binseg.data.loader import Batch, Loader, ResumableLoader
from binseg.data.merge import Part, TrainingSet, prepared_part
from binseg.data.position import ResumableData
from binseg.data.prepared_dataset import PreparedDataset
from binseg.data.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    resize_image,
    resize_labels,
)
from binseg.data.samples import Sample, size_in_words
from binseg.data.window import Window
from binseg.errors import BinsegError, printable

__all__ = ["Batch", "ClassFrequencies", "CropGeometry", "DataConfig", "SegmentationData"]


class ClassFrequencies(NamedTuple):
    """Pixel counts of the training split; ignored pixels count nowhere.

    `pixels`: int64 (C,), pixels of each class. `present_pixels`: int64 (C,), pixels of all classes
    in the images where the class occurs. Median-frequency balancing (Eigen & Fergus, ICCV 2015,
    section 6.3.2) weights class c by median(f) / f_c, f = pixels / present_pixels.
    """

    pixels: np.ndarray
    present_pixels: np.ndarray


class CropGeometry(NamedTuple):
    """Where a training crop comes from: the place of its image in `training`, the image's
    (height, width) in pixels, the part that is shown, and whether it is then mirrored."""

    place: int
    size: tuple[int, int]
    window: Window
    flipped: bool


class SegmentationData(ResumableData):
    """Everything a run needs to know about its data.

    Give the Trainer `use_distributed_sampler=False`: the loaders share samples out by themselves,
    without repeating any when scoring. Batches are `Batch` dicts of uint8; normalise them on the
    device with `preprocessing.normalize`.

    A run resumed from a checkpoint sees the batches that it would have seen, also from the middle
    of an epoch and with any number of workers.

    Args:
        config: what the user said.
        run_seed: see `ResumableData`.

    Attributes:
        labels: the data set's classes.
        preprocessing: resizing and normalisation; belongs into the model file.

    Raises:
        BinsegError: an unknown data set, or its folder or labels.yaml is faulty.
    """

    def __init__(self, config: DataConfig, run_seed: int = 0) -> None:
        super().__init__(config, run_seed)
        self.config = config
        self.labels: LabelTable = config.label_table()
        self.preprocessing = Preprocessing(
            config.mean or IMAGENET_MEAN, config.std or IMAGENET_STD, config.short_side
        )
        cv2.setNumThreads(0)  # images are small, torch wants the cores, and workers fork

    # --- data sets ----------------------------------------------------------------------------

    def _train_length(self) -> int:
        return self.training.draws

    @functools.cached_property
    def train_set(self) -> PreparedDataset:
        """Unaugmented training samples, labels at the image's size."""
        return self._prepared("train", resize_labels=True)

    @functools.cached_property
    def training(self) -> TrainingSet:
        """Unaugmented training samples of this data set and of those merged with it."""
        config = self.config
        first = Part(config.name, self.train_set, config.repeat)
        others = [
            prepared_part(other, self.labels, self.preprocessing, cache=config.cache)
            for other in config.merge
        ]
        return TrainingSet([first, *others])

    @functools.cached_property
    def val_set(self) -> PreparedDataset:
        """Validation samples, labels at their own resolution."""
        return self._prepared("val", resize_labels=False)

    @functools.cached_property
    def test_set(self) -> PreparedDataset:
        """Test samples, labels at their own resolution."""
        return self._prepared("test", resize_labels=False)

    def _prepared(self, split: str, *, resize_labels: bool) -> PreparedDataset:
        return PreparedDataset(
            self.config.open(split),
            self.preprocessing,
            resize_labels=resize_labels,
            cache=self.config.cache,
        )

    def require_labels(self) -> None:
        """Refuse data that nothing can be learnt from or scored on; call before the first step.

        Raises:
            BinsegError: see `class_presence.require_labels`.
        """
        require_labels(
            [part.samples.dataset for part in self.training.parts],
            self.val_set.dataset,
            allow_missing=self.config.allow_missing_classes,
        )

    def in_words(self) -> str:
        """How many images are trained on, beside the number of the full set, how they were found
        and split, and what is left out."""
        train, val = self.train_set.dataset, self.val_set.dataset
        split = "" if self.config.train_split == "train" else f" ({self.config.train_split})"
        line = (
            f"{self.labels.name}: {self.training} for training{split}, "
            f"{size_in_words(val)} for scoring"
        )
        if train.arrangement == val.arrangement:
            line += f"; {train.arrangement}" if train.arrangement else ""
        else:
            found = {"training": train.arrangement, "scoring": val.arrangement}
            line += "".join(f"; {what}: {words}" for what, words in found.items() if words)
        left_out = dict([*train.left_out, *val.left_out])
        if left_out:
            first, reason = next(iter(left_out.items()))
            line += (
                f"; {len(left_out):,} left out, such as {first} ({reason}): binseg data check "
                "lists all"
            )
        return printable(line)

    # --- loaders ------------------------------------------------------------------------------

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented crops of `config.crop`.

        Raises:
            BinsegError: fewer images than one batch, or a faulty arrangement of files; faulty
                images when they are read.
        """
        config = self.config
        batches = self._train_batches()
        read = functools.partial(_augmented, self.training, self._transform, self.seed)
        return ResumableLoader(read, batches, workers=config.workers, persistent=True)

    @functools.cached_property
    def _transform(self) -> TrainTransform:
        config = self.config
        pixels = self.class_frequencies().pixels if config.augment.rare_every else None
        return train_transform(config.augment, config.crop, self.preprocessing.mean, pixels)

    def check_augmentation(self, *, plain: bool = False) -> None:
        """Refuse changes of training images that cannot be made; call before the first step.

        Args:
            plain: whether `crop_geometry` has to know where each crop comes from.

        Raises:
            BinsegError: a faulty pipeline, or, if `plain`, one that turns or moves the crops.
        """
        beyond = self._transform.beyond_geometry
        if plain and beyond:
            raise BinsegError(
                f"distillation.sees images cannot follow data.augment.{beyond[0]}; set "
                "distillation.sees to crops"
            )

    @functools.cached_property
    def _draws(self) -> dict[str, int]:
        training = self.training
        return {training.draw_name(draw): draw for draw in range(training.draws)}

    def crop_geometry(self, name: str, epoch: int) -> CropGeometry:
        """Where the crop of `epoch` (from 0) lies in the training image of the draw `name`."""
        draw = self._draws[name]
        place = self.training.place(draw)
        size = self.training.size(place)
        window, flipped = self._transform.geometry(size, (self.seed, epoch, draw))
        return CropGeometry(place, size, window, flipped)

    def val_dataloader(self) -> Loader:
        """Whole validation images in a fixed order, each in exactly one process."""
        return self._scoring_loader(self.val_set)

    def test_dataloader(self) -> Loader:
        """Whole test images in a fixed order, each in exactly one process."""
        return self._scoring_loader(self.test_set)

    def _scoring_loader(self, dataset: PreparedDataset) -> Loader:
        batches = OrderedBatches(len(dataset), self.config.val_batch_size, *self._shard)
        workers = self._reading_workers(dataset.cache is not None)
        return Loader(dataset.__getitem__, batches, workers=workers)

    @functools.cached_property
    def calibration_places(self) -> list[int]:
        """Places in `training` of about `config.calibration_images` images, of this data set and of
        those merged with it as many as their shares of an epoch."""
        return self.training.spread(self.config.calibration_images)

    def calibration_batches(self) -> Loader:
        """Unaugmented training images for re-estimating BatchNorm's statistics.

        Those of `calibration_places`, in batches of `config.batch_size` or a little fewer; process
        r takes batches r, r + W, … Whole images if all of them have one size; else each is resized
        to cover `config.crop` and cut to its centre.
        """
        training, chosen = self.training, self.calibration_places
        batches = CalibrationBatches(chosen, self.config.batch_size, *self._shard)
        sizes = {training.size(place) for place in chosen}
        read = training.__getitem__
        if len(sizes) > 1:
            read = functools.partial(_center_crop, training, self.config.crop)
        return Loader(read, batches, workers=self._reading_workers(training.cached))

    def calibration_images(self) -> Loader:
        """The images of `calibration_batches`, each whole and in a batch of its own."""
        batches = CalibrationBatches(self.calibration_places, 1, *self._shard)
        workers = self._reading_workers(self.training.cached)
        return Loader(self.training.__getitem__, batches, workers=workers)

    def _reading_workers(self, cached: bool) -> int:
        # copying from memory is quicker than starting a process
        return 0 if cached else self.config.workers

    # --- figures ------------------------------------------------------------------------------

    def class_frequencies(self) -> ClassFrequencies:
        """Pixel counts of the training split at the size trained on; counted once, then kept.

        Raises:
            BinsegError: a faulty mask.
        """
        return self._class_frequencies

    @functools.cached_property
    def _class_frequencies(self) -> ClassFrequencies:
        pixels = np.zeros(self.labels.num_classes, np.int64)
        present = np.zeros_like(pixels)
        training = self.training
        for place in range(len(training)):
            counts = class_counts(training.labels(place), self.labels.num_classes)
            counts *= training.repeat(place)
            pixels += counts
            present[counts > 0] += counts.sum()
        return ClassFrequencies(pixels, present)


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 (C,): pixels of each train id in a uint8 label map, 255 left out."""
    return np.bincount(labels.ravel(), minlength=IGNORE + 1)[:num_classes].astype(np.int64)


def _augmented(training: TrainingSet, transform: TrainTransform, seed: int, key: Key) -> Sample:
    sample = training[training.place(key[1])]
    image, labels = transform(sample.image, sample.labels, (seed, *key))
    return Sample(image, labels, training.draw_name(key[1]))


def _center_crop(training: TrainingSet, crop: tuple[int, int], place: int) -> Sample:
    """The sample at `place` resized so that it just covers `crop`, cut to its centre."""
    image, labels, name = training[place]
    height, width = image.shape[:2]
    scale = max(crop[0] / height, crop[1] / width)
    size = max(crop[0], round(height * scale)), max(crop[1], round(width * scale))
    image, labels = resize_image(image, size), resize_labels(labels, size)
    top, left = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    window = np.s_[top : top + crop[0], left : left + crop[1]]
    return Sample(image[window], labels[window], name)
