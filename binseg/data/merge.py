"""Several data sets in one training: what is said about each, and how its classes become ours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from binseg.data.dataset_views import RelabelledDataset, stretched
from binseg.data.datasets import DatasetOptions, create_dataset, dataset_labels
from binseg.data.labels import LabelTable, class_lookup
from binseg.data.merge_config import MergeConfig
from binseg.data.prepared_dataset import PreparedDataset, evenly_spaced
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample, size_in_words

_SAY_LABELS = "say under data.merge: labels what they become, or null to ignore them"


def open_merged(
    config: MergeConfig, labels: LabelTable, *, strict: bool = True
) -> RelabelledDataset:
    """The training split of another data set, with the classes of `labels`.

    Raises:
        BinsegError: what the data set's reader finds wrong, or a class without a destination.
    """
    options = DatasetOptions(
        root=config.root,
        strict=strict,
        train_split=config.train_split,
        annotations=config.annotations,
        sbd_root=config.sbd_root,
    )
    # first: a faulty mapping is reported before a whole data set is listed
    theirs = dataset_labels(config.name, config.root)
    lookup = class_lookup(theirs, labels, config.labels, remedy=_SAY_LABELS)
    dataset = stretched(create_dataset(config.name, "train", options), config.stretch)
    return RelabelledDataset(dataset, labels, lookup)


class Part(NamedTuple):
    """One data set of a training: its name, its prepared samples, and how often an epoch shows
    each."""

    name: str
    samples: PreparedDataset
    repeat: int


class TrainingSet:
    """The training samples of several data sets, one after another.

    A *place* is a sample, counted through all data sets. A *draw* is a sample of an epoch: a sample
    that an epoch shows n times has n draws, each with an augmentation and a name of its own.

    Args:
        parts: the data sets; the first is the one that is scored, too.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self._starts = np.cumsum([0, *(len(part.samples) for part in parts)]).tolist()
        places, copies = [], []
        for part, start in zip(self.parts, self._starts, strict=False):
            count = len(part.samples)
            places.append(np.tile(np.arange(start, start + count), part.repeat))
            copies.append(np.repeat(np.arange(part.repeat), count))
        self._places, self._copies = np.concatenate(places), np.concatenate(copies)

    @property
    def draws(self) -> int:
        """Samples of an epoch."""
        return len(self._places)

    @property
    def cached(self) -> bool:
        """Whether all samples are kept in memory."""
        return all(part.samples.cache is not None for part in self.parts)

    def __len__(self) -> int:
        """Places: different samples."""
        return int(self._starts[-1])

    def __getitem__(self, place: int) -> Sample:
        """The sample at `place`, by its own name.

        Raises:
            BinsegError: faulty files.
        """
        samples, index = self._find(place)
        return samples[index]._replace(name=self.name(place))

    def _find(self, place: int) -> tuple[PreparedDataset, int]:
        part = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self.parts[part].samples, place - self._starts[part]

    def name(self, place: int) -> str:
        """A name that no other place has, without reading the sample."""
        samples, index = self._find(place)
        name = samples.name(index)
        part = int(np.searchsorted(self._starts, place, side="right")) - 1
        # two folders of people's own may have files of the same names
        return f"{self.parts[part].name}{part}-{name}" if part else name

    def labels(self, place: int) -> np.ndarray:
        """uint8 (H, W) train ids; see `PreparedDataset.labels`."""
        samples, index = self._find(place)
        return samples.labels(index)

    def size(self, place: int) -> tuple[int, int]:
        """(height, width) of the prepared image."""
        samples, index = self._find(place)
        return samples.size(index)

    def repeat(self, place: int) -> int:
        """How often an epoch shows the sample."""
        return self.parts[int(np.searchsorted(self._starts, place, side="right")) - 1].repeat

    def spread(self, count: int) -> list[int]:
        """About `count` places: as many of each data set as its share of an epoch, but one at
        least and all at most, spread evenly over it."""
        places = []
        for part, start in zip(self.parts, self._starts, strict=False):
            share = count * part.repeat * len(part.samples) / self.draws
            chosen = evenly_spaced(len(part.samples), max(1, round(share)))
            places += [start + index for index in chosen]
        return places

    def place(self, draw: int) -> int:
        """The sample that a draw shows."""
        return int(self._places[draw])

    def draw_name(self, draw: int) -> str:
        """A name that no other draw has."""
        copy = int(self._copies[draw])
        name = self.name(self.place(draw))
        return f"{name}#{copy + 1}" if copy else name

    def __str__(self) -> str:
        """The sizes of the data sets in words, beside those of the full sets."""
        words = []
        for part in self.parts:
            dataset = part.samples.dataset
            repeated = f", {part.repeat} times an epoch" if part.repeat > 1 else ""
            words.append(f"{size_in_words(dataset)}{repeated}")
        names = [f"{part.name}: " for part in self.parts[1:]]
        return " + ".join(name + said for name, said in zip(["", *names], words, strict=True))


def prepared_part(
    config: MergeConfig,
    labels: LabelTable,
    preprocessing: Preprocessing,
    *,
    cache: bool | None,
) -> Part:
    """A merged data set, ready for training.

    Args:
        config: what is said about it.
        labels: the classes that it gets.
        preprocessing: of the data set that it is merged into.
        cache: see `PreparedDataset`.

    Raises:
        BinsegError: see `MergeConfig.open`.
    """
    own = preprocessing
    if config.short_side is not None:
        own = Preprocessing(preprocessing.mean, preprocessing.std, config.short_side)
    samples = PreparedDataset(open_merged(config, labels), own, resize_labels=True, cache=cache)
    return Part(config.name, samples, config.repeat)
