"""Samples as a network sees them, written as pictures to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from binseg.data.config import DataConfig
from binseg.data.imageio import write_image
from binseg.data.labels import LabelTable
from binseg.data.module import SegmentationData
from binseg.data.prepared_dataset import evenly_spaced
from binseg.data.preprocess import resize_image, resize_labels, size_within
from binseg.data.samples import Sample
from binseg.visualize import legend, overlay

SHEET = "sheet.png"
_TILE = 480  # longest side of a sample on the sheet, in pixels
_COLUMNS = 3
_GAP = 6
_WHITE = (255, 255, 255)


def write_samples(
    config: DataConfig, split: str, folder: Path, *, count: int, epoch: int = 0
) -> Iterator[Path]:
    """Write samples, each picture beside itself under its class colours, and one sheet of all.

    Args:
        config: the data of a training.
        split: train: the crops of the first batches of an epoch, changed as they would be then;
            val or test: pictures spread over the split, as large as they are when scored.
        folder: made if missing; files of an earlier call are overwritten.
        count: samples; fewer if the epoch or the split has fewer.
        epoch: of the training, from 0.

    Yields:
        Each file when it is written, the sheet last.

    Raises:
        BinsegError: faulty data, or the folder cannot be written.
    """
    # headers of thousands of pictures need not be read to show a few
    data = SegmentationData(replace(config, workers=0, cache=False))
    samples = _trained_on(data, epoch) if split == "train" else _scored(data, split, count)
    tiles = []
    for number, (image, labels, name) in enumerate(islice(samples, count)):
        pair = _beside(image, overlay(image, labels, data.labels))
        path = folder / f"{split}_{number:03d}_{name}.png"
        write_image(path, _with_legend(pair, labels, data.labels))
        yield path
        tiles.append(_shrunk(pair))
    write_image(folder / SHEET, _sheet(tiles))
    yield folder / SHEET


def _trained_on(data: SegmentationData, epoch: int) -> Iterator[Sample]:
    """The samples of an epoch on one process, in their order."""
    data.load_state_dict(data.state_dict() | {"anchor": [0, epoch]})
    for batch in data.train_dataloader():
        images = batch["image"].permute(0, 2, 3, 1).numpy()
        for image, labels, name in zip(images, batch["label"].numpy(), batch["name"], strict=True):
            yield Sample(image, labels, name)


def _scored(data: SegmentationData, split: str, count: int) -> Iterator[Sample]:
    dataset = data.val_set if split == "val" else data.test_set
    for index in evenly_spaced(len(dataset), count):
        image, labels, name = dataset[index]
        yield Sample(image, resize_labels(labels, (image.shape[0], image.shape[1])), name)


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    gap = np.full((left.shape[0], _GAP, 3), _WHITE, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _with_legend(picture: np.ndarray, labels: np.ndarray, table: LabelTable) -> np.ndarray:
    """The picture above a legend of the classes in it."""
    key = legend(table, labels, width=picture.shape[1])
    width = max(picture.shape[1], key.shape[1])
    parts = [_padded(part, width) for part in (picture, key)]
    return np.concatenate(parts, axis=0)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    return resize_image(picture, size_within(picture.shape[0], picture.shape[1], _TILE))


def _sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of any size in rows, on white paper."""
    height = max(tile.shape[0] for tile in tiles) + _GAP
    width = max(tile.shape[1] for tile in tiles) + _GAP
    columns = min(_COLUMNS, len(tiles))
    paper = np.full((-(-len(tiles) // columns) * height, columns * width, 3), _WHITE, np.uint8)
    for place, tile in enumerate(tiles):
        y, x = place // columns * height, place % columns * width
        paper[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return paper


def _padded(picture: np.ndarray, width: int) -> np.ndarray:
    """The picture with white paper on its right."""
    after = width - picture.shape[1]
    return np.asarray(
        cv2.copyMakeBorder(picture, 0, 0, 0, after, cv2.BORDER_CONSTANT, value=_WHITE)
    )
