"""Samples at the size that a network sees, kept in memory where they fit."""

import mmap
from collections.abc import Sequence

import numpy as np

from binseg.data.datasets import SegmentationDataset
from binseg.data.preprocess import Preprocessing, resize_labels
from binseg.data.samples import Sample

CACHE_LIMIT = 1 << 30
"""Bytes up to which images are cached when nobody says otherwise: 1 GiB."""


class SampleCache:
    """Decoded samples in one anonymous block of memory, filled when first read.

    Forked loader workers share the block with the main process, so an image is decoded once for
    all of them and across epochs. A spawned worker, which cannot share it, gets an empty one.

    Args:
        image_sizes: (height, width) of each image.
        label_sizes: (height, width) of each label map.
    """

    def __init__(
        self, image_sizes: Sequence[tuple[int, int]], label_sizes: Sequence[tuple[int, int]]
    ) -> None:
        self._sizes = list(zip(image_sizes, label_sizes, strict=True))
        lengths = [3 * ih * iw + lh * lw for (ih, iw), (lh, lw) in self._sizes]
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._allocate()

    def _allocate(self) -> None:
        # not torch's shared memory: that lies in /dev/shm, which containers limit to 64 MB
        self._filled = np.frombuffer(mmap.mmap(-1, max(1, len(self._sizes))), np.uint8)
        self._bytes = np.frombuffer(mmap.mmap(-1, max(1, int(self._starts[-1]))), np.uint8)

    def __getstate__(self) -> dict[str, object]:
        return {"_sizes": self._sizes, "_starts": self._starts}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._allocate()

    def _views(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image_size, label_size = self._sizes[index]
        block = self._bytes[self._starts[index] : self._starts[index + 1]]
        middle = 3 * image_size[0] * image_size[1]
        return block[:middle].reshape(*image_size, 3), block[middle:].reshape(label_size)

    def get(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read-only (image, labels) of sample `index`, or None if it was not stored yet."""
        if not self._filled[index]:
            return None
        image, labels = self._views(index)
        image.flags.writeable = labels.flags.writeable = False
        return image, labels

    def put(self, index: int, image: np.ndarray, labels: np.ndarray) -> None:
        """Store sample `index`, unless its size is not the one announced."""
        if (image.shape[:2], labels.shape) == self._sizes[index]:
            for view, values in zip(self._views(index), (image, labels), strict=True):
                view[...] = values
            self._filled[index] = 1  # last: another worker may look at any moment


class PreparedDataset:
    """A data set's samples with the image resized for the network, cached if wanted.

    Args:
        dataset: where samples come from.
        preprocessing: says the size.
        resize_labels: True for training: labels at the image's new size; False for scoring:
            labels at their own resolution.
        cache: keep samples in memory; None: if all take less than `CACHE_LIMIT`.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        preprocessing: Preprocessing,
        *,
        resize_labels: bool,
        cache: bool | None,
    ) -> None:
        self.dataset = dataset
        self.preprocessing = preprocessing
        self.resize_labels = resize_labels
        if cache is None:
            cache = self._estimate() < CACHE_LIMIT
        self.cache = self._make_cache() if cache else None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`; its arrays may be read-only.

        Raises:
            BinsegError: faulty files.
        """
        if self.cache is not None and (found := self.cache.get(index)):
            return Sample(*found, self.name(index))
        sample = self.dataset[index]
        image, labels = self.preprocessing.resize(sample.image), sample.labels
        if self.resize_labels:
            labels = resize_labels(labels, (image.shape[0], image.shape[1]))
        if self.cache is not None:
            self.cache.put(index, image, labels)
        return Sample(image, labels, sample.name)

    def name(self, index: int) -> str:
        """The sample's name without reading it."""
        return self.dataset.sample_name(index)

    def labels(self, index: int) -> np.ndarray:
        """uint8 (H, W) labels of sample `index`, without decoding its image if it can be helped.

        Raises:
            BinsegError: a faulty mask.
        """
        if self.cache is not None and (found := self.cache.get(index)):
            return found[1]
        labels = self.dataset.read_labels(index)
        if self.resize_labels:
            labels = resize_labels(labels, self.size(index))
        return labels

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the prepared image, from the file's header."""
        return self.preprocessing.target_size(*self.dataset.sample_size(index))

    def _sizes(self, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        own = self.dataset.sample_size(index)
        image = self.preprocessing.target_size(*own)
        return image, image if self.resize_labels else own

    def _estimate(self) -> float:
        """Bytes for all samples, from the headers of up to 64 of them."""
        chosen = evenly_spaced(len(self), 64)
        pairs = [self._sizes(index) for index in chosen]
        total = sum(3 * ih * iw + lh * lw for (ih, iw), (lh, lw) in pairs)
        return total * len(self) / max(1, len(chosen))

    def _make_cache(self) -> SampleCache:
        pairs = [self._sizes(index) for index in range(len(self))]
        return SampleCache([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def evenly_spaced(length: int, count: int) -> list[int]:
    """Up to `count` different indices spread evenly over 0 … length−1, ascending."""
    count = min(count, length)
    return [index * length // count for index in range(count)]
