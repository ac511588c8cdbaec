"""A fixed set of corruptions that a network is scored under, and data sets seen through them.

The kinds are those of Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (arXiv 1903.12261), at strengths that a street camera meets.
"""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from binseg.data.degrade import blurred, jpeg_compressed, noisy
from binseg.data.jitter import Factors, jitter
from binseg.data.samples import Sample, SegmentationDataset

Corruption = Callable[[np.ndarray, np.random.Generator], np.ndarray]

CORRUPTIONS: Mapping[str, Corruption] = {
    "noise σ 10": lambda image, generator: noisy(image, 10, generator),
    "noise σ 20": lambda image, generator: noisy(image, 20, generator),
    "brightness × 0.5": lambda image, _: jitter(image, Factors(0.5, 1, 1)),
    "brightness × 1.5": lambda image, _: jitter(image, Factors(1.5, 1, 1)),
    "contrast × 0.5": lambda image, _: jitter(image, Factors(1, 0.5, 1)),
    "blur σ 2": lambda image, _: blurred(image, 2),
    "JPEG 20": lambda image, _: jpeg_compressed(image, 20),
}
"""Name → from an image, uint8 (H, W, 3), and a generator for what is random, to the corrupted one.
Noise is in grey levels, blur in pixels of the image before any resizing."""


class CorruptedDataset:
    """A data set whose images are corrupted when they are read; labels stay.

    What is random follows from the sample's name alone, so that all networks see the same images.

    Args:
        dataset: the data set.
        name: a key of `CORRUPTIONS`.
    """

    def __init__(self, dataset: SegmentationDataset, name: str) -> None:
        self.dataset = dataset
        self.labels = dataset.labels
        self.faults, self.expected = dataset.faults, dataset.expected
        self.left_out, self.arrangement = dataset.left_out, dataset.arrangement
        self.labelled = dataset.labelled
        self._corrupt = CORRUPTIONS[name]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        generator = np.random.default_rng(
            zlib.crc32(sample.name.encode("utf-8", "surrogateescape"))
        )
        return sample._replace(image=self._corrupt(sample.image, generator))

    def read_labels(self, index: int) -> np.ndarray:
        return self.dataset.read_labels(index)

    def sample_name(self, index: int) -> str:
        return self.dataset.sample_name(index)

    def sample_key(self, index: int) -> str:
        return self.dataset.sample_key(index)

    def sample_size(self, index: int) -> tuple[int, int]:
        return self.dataset.sample_size(index)

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        return self.dataset.sample_paths(index)

    def read_instances(self, index: int) -> np.ndarray | None:
        return self.dataset.read_instances(index)
