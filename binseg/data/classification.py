"""The Lightning data module of classification, for `binseg pretrain`."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor

from binseg.data.batch_sampler import CalibrationBatches, Key, OrderedBatches, TrainBatches
from binseg.data.classification_augment import augment, augment_one, fit_size, square, views
from binseg.data.classification_config import ClassificationConfig
from binseg.data.classification_files import LabelledImages, check_same_classes, open_split
from binseg.data.classification_store import OnProgress, decode, stored_bytes
from binseg.data.image_files import left_out_lines
from binseg.data.loader import Loader, ResumableLoader
from binseg.data.position import ResumableData
from binseg.data.prepared_dataset import evenly_spaced
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample
from binseg.errors import BinsegError, printable


class LabelledBatch(TypedDict):
    """`image`: uint8 (N, 3, size, size), channels_last; `label`: int64 (N,) class ids; `index`, of
    images in memory: N places in the split."""

    image: Tensor
    label: Tensor
    index: NotRequired[list[int]]


class ClassificationData(ResumableData):
    """Labelled images for training and scoring a classifier.

    Small data sets are decoded once and stay in memory, on the GPU if there is one, where whole
    batches are cut and mirrored at once. Large ones go through loader processes.

    A run resumed from a checkpoint sees the batches that it would have seen.

    Args:
        config: what the user said.
        on_progress: called with (decoded, all images) while a split is decoded into memory.
        run_seed: see `ResumableData`.

    Attributes:
        classes: names by class id.
        preprocessing: size and normalisation; belongs into the model file.
        in_memory: whether the images are decoded once.

    Raises:
        BinsegError: a missing root or split, an empty class, splits of different classes.
    """

    def __init__(
        self,
        config: ClassificationConfig,
        on_progress: OnProgress = lambda done, total: None,
        run_seed: int = 0,
    ) -> None:
        super().__init__(config, run_seed)
        self.config = dataclasses.replace(config, seed=self.seed)
        self.preprocessing = Preprocessing(config.mean, config.std, config.size)
        self._splits = {split: open_split(config, split) for split in ("train", "val")}
        self.classes = self._splits["train"].classes
        check_same_classes(self.classes, self._splits["val"].classes, str(config.root))
        self._on_progress = on_progress
        needed = sum(stored_bytes(split, config.stored_size) for split in self._splits.values())
        kept = str(config.in_memory).lower()
        self.in_memory = kept == "true" or (
            kept == "auto" and needed <= config.memory_limit * 2**30
        )
        cv2.setNumThreads(0)  # workers fork

    def left_out(self) -> list[str]:
        """In words, files in the splits' folders that are not read; a line for each reason."""
        found = [one for split in self._splits.values() for one in split.left_out]
        return [printable(line) for line in left_out_lines(found)]

    def _train_length(self) -> int:
        return len(self._splits["train"].targets)

    @functools.cached_property
    def _stores(self) -> dict[str, "_Store"]:
        device = torch.device("cpu")
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
        return {
            split: _Store(found, self.config, self._on_progress, device)
            for split, found in self._splits.items()
        }

    # --- loaders ------------------------------------------------------------------------------

    def train_dataloader(self) -> Iterable[LabelledBatch]:
        """Shuffled, cut and mirrored batches."""
        batches = self._train_batches()
        if self.in_memory:
            return _AugmentedBatches(self._stores["train"], batches, self.config)
        read = functools.partial(_cut, self._splits["train"], self.config)
        return ResumableLoader(read, batches, workers=self.config.workers, persistent=True)

    def val_dataloader(self) -> Iterable[LabelledBatch]:
        """Whole validation images in a fixed order, each in exactly one process."""
        batches = OrderedBatches(
            len(self._splits["val"].targets), self.config.val_batch_size, *self._shard
        )
        return self._plain("val", batches)

    def calibration_batches(self) -> Iterable[LabelledBatch]:
        """Unaugmented training images, evenly spaced, for re-estimating BatchNorm."""
        chosen = evenly_spaced(self._train_length(), self.config.calibration_images)
        return self._plain(
            "train", CalibrationBatches(chosen, self.config.batch_size, *self._shard)
        )

    def plain_images(self, size: int, count: int) -> Iterator[Tensor]:
        """The training images in their order, unaugmented, `count` at a time.

        Args:
            size: sides of the result in pixels.
            count: images at a time; the last may be fewer.

        Returns:
            uint8 (n, 3, size, size) on the training device, channels_last.

        Raises:
            BinsegError: the images are not kept in memory.
        """
        if not self.in_memory:
            raise BinsegError(
                f"{self.config.root}: its images are not kept in memory, as a teacher that sees "
                "each once wants it; raise data.memory_limit or set data.in_memory"
            )
        store = self._stores["train"]
        for start in range(0, len(store.targets), count):
            images = store.images[start : start + count].permute(0, 3, 1, 2)
            yield fit_size(images, size)

    def views(self, indices: list[int], epoch: int) -> Tensor:
        """Where the images of a training batch come from, see `classification_augment.views`.

        Args:
            indices: the batch's, in its order.
            epoch: from 0, that it belongs to.
        """
        size = self._stores["train"].images.shape[1:3]
        key = (self.config.seed, epoch, indices[0])
        return views(self.config, key, len(indices), (size[0], size[1]))

    def _plain(
        self, split: str, batches: OrderedBatches | CalibrationBatches
    ) -> Iterable[LabelledBatch]:
        if self.in_memory:
            return _PlainBatches(self._stores[split], batches, self.config.size)
        read = functools.partial(_middle, self._splits[split], self.config)
        return Loader(read, batches, workers=self.config.workers)


# --- in memory --------------------------------------------------------------------------------


class _Store:
    """A decoded split on a device."""

    def __init__(
        self,
        split: LabelledImages,
        config: ClassificationConfig,
        on_progress: OnProgress,
        device: torch.device,
    ) -> None:
        cache = None if config.cache is None else Path(config.cache).expanduser()
        array = decode(
            split, config.stored_size, workers=config.workers, cache=cache, on_progress=on_progress
        )
        self.images = torch.from_numpy(array).to(device)
        self.targets = torch.tensor(split.targets, device=device)

    def take(self, indices: list[int]) -> LabelledBatch:
        chosen = torch.tensor(indices, device=self.images.device)
        images = self.images.index_select(0, chosen).permute(0, 3, 1, 2)
        return {"image": images, "label": self.targets[chosen], "index": indices}


class _AugmentedBatches:
    """Training batches from memory; Lightning asks for the two methods of resuming, see
    `ResumableLoader`."""

    def __init__(self, store: _Store, batches: TrainBatches, config: ClassificationConfig) -> None:
        self.store, self.batches, self.config = store, batches, config

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for keys in self.batches:
            batch = self.store.take([index for _, index in keys])
            # the first key stands for the whole batch: no other batch of its epoch has it
            image = augment(batch["image"], self.config, (self.config.seed, *keys[0]))
            yield {"image": image, "label": batch["label"], "index": batch["index"]}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class _PlainBatches:
    """Unchanged images from memory."""

    def __init__(
        self, store: _Store, batches: OrderedBatches | CalibrationBatches, size: int
    ) -> None:
        self.store, self.batches, self.size = store, batches, size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[LabelledBatch]:
        for indices in self.batches:
            batch = self.store.take(indices)
            yield {"image": fit_size(batch["image"], self.size), "label": batch["label"]}


# --- through loader processes -----------------------------------------------------------------


def _cut(split: LabelledImages, config: ClassificationConfig, key: Key) -> Sample:
    epoch, index = key
    changed = augment_one(split.image(index), config, (config.seed, epoch, index))
    return _sample(split, index, changed)


def _middle(split: LabelledImages, config: ClassificationConfig, index: int) -> Sample:
    image = square(split.image(index), config.size)
    return _sample(split, index, image)


def _sample(split: LabelledImages, index: int, image: np.ndarray) -> Sample:
    return Sample(np.ascontiguousarray(image), np.array(split.targets[index], np.int64), str(index))
