"""A fixed set of corruptions that a network is scored under, and data sets seen through them.

The kinds are those of Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations" (arXiv 1903.12261), at strengths that a street camera meets.
"""

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from binseg.data.dataset_views import DatasetView
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


class CorruptedDataset(DatasetView):
    """A data set whose images are corrupted when they are read; labels stay.

    What is random follows from the sample's name alone, so that all networks see the same images.

    Args:
        dataset: the data set.
        name: a key of `CORRUPTIONS`.
    """

    def __init__(self, dataset: SegmentationDataset, name: str) -> None:
        super().__init__(dataset)
        self._corrupt = CORRUPTIONS[name]

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        generator = np.random.default_rng(
            zlib.crc32(sample.name.encode("utf-8", "surrogateescape"))
        )
        return sample._replace(image=self._corrupt(sample.image, generator))
