"""Several data sets in one training: what is said about each, and how its classes become ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from binseg.data.dataset_views import RelabelledDataset, stretched
from binseg.data.datasets import DatasetOptions, create_dataset, dataset_labels
from binseg.data.labels import CLASS_MAPPINGS, IGNORE, LabelTable
from binseg.data.prepare import PreparedDataset
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample, size_in_words
from binseg.errors import BinsegError, unknown_name


@dataclass
class MergeConfig:
    """Another data set whose training images are trained on, too.

    Args:
        name: data set, as in `data.name`.
        root: folder of the data set.
        labels: what each of its classes becomes: the name of a class of `data.name`, or null for
            ignored pixels, like {sidewalk: pavement, terrain: null}. A class that is not named
            becomes the class of the same name. null: the built-in table for the two data sets
            (cityscapes merged into camvid), or classes of the same names.
        repeat: how often each of its images is seen in an epoch.
        train_split: as in `data.train_split`.
        annotations: as in `data.annotations`.
        sbd_root: as in `data.sbd_root`.
        short_side: as in `data.short_side`, for these images; null: the same.
        stretch: as in `data.stretch`, for these images.
    """

    name: str
    root: str | None = None
    labels: dict[str, str | None] | None = None
    repeat: int = 1
    train_split: str = "train"
    annotations: Literal["fine", "coarse"] = "fine"
    sbd_root: str | None = None
    short_side: int | None = None
    stretch: float = 1.0

    def __post_init__(self) -> None:
        side = 16 if self.short_side is None else self.short_side
        check_repeat("data.merge: repeat", self.repeat)
        check_stretch("data.merge: stretch", self.stretch)
        if not 8 <= side <= 16384:
            raise BinsegError(f"data.merge: short_side {side} must be from 8 to 16384")

    def open(self, labels: LabelTable, *, strict: bool = True) -> "RelabelledDataset":
        """Its training split, with the classes of `labels`.

        Raises:
            BinsegError: what the data set's reader finds wrong, or a class without a destination.
        """
        options = DatasetOptions(
            root=self.root,
            strict=strict,
            train_split=self.train_split,
            annotations=self.annotations,
            sbd_root=self.sbd_root,
        )
        # first: a faulty mapping is told before a whole data set is listed
        theirs = dataset_labels(self.name, self.root)
        lookup = class_lookup(theirs, labels, self.labels)
        dataset = stretched(create_dataset(self.name, "train", options), self.stretch)
        return RelabelledDataset(dataset, labels, lookup)


def check_repeat(key: str, value: int) -> None:
    """Refuse a number of repetitions below 1 or above 1000.

    Raises:
        BinsegError: with the key and what it takes.
    """
    if not 1 <= value <= 1000:
        raise BinsegError(f"{key}: {value} must be from 1 to 1000")


def check_stretch(key: str, value: float) -> None:
    """Refuse a factor that no image is squeezed by.

    Raises:
        BinsegError: with the key and what it takes.
    """
    if not 0.1 <= value <= 10:
        raise BinsegError(f"{key}: {value} must be from 0.1 to 10")


def class_lookup(
    theirs: LabelTable, ours: LabelTable, labels: Mapping[str, str | None] | None
) -> np.ndarray:
    """What each train id of another data set becomes.

    Args:
        theirs: classes of the data set that is merged.
        ours: classes of the data set that it is merged into, or some of them.
        labels: see `MergeConfig.labels`.

    Returns:
        uint8 (256,): train id of `ours`, 255 for ignored pixels, by train id of `theirs`.

    Raises:
        BinsegError: an unknown class (says the nearest), or classes that nothing is said about.
    """
    if labels is None:
        # of some of our classes only, what becomes another one is ignored
        built_in = CLASS_MAPPINGS.get((theirs.name, ours.name), {})
        labels = {name: new if new in ours.names else None for name, new in built_in.items()}
    for name, new in labels.items():
        if name not in theirs.names:
            raise unknown_name(f"class of '{theirs.name}'", name, theirs.names)
        if new is not None and new not in ours.names:
            raise unknown_name(f"class of '{ours.name}'", new, ours.names)
    lost = [name for name in theirs.names if name not in labels and name not in ours.names]
    if lost:
        raise BinsegError(
            f"data.merge: {len(lost)} classes of '{theirs.name}' have no class of the same name in "
            f"'{ours.name}'; say under labels what they become, or null to ignore them: "
            + ", ".join(lost)
        )
    lookup = np.full(256, IGNORE, np.uint8)
    for train, name in enumerate(theirs.names):
        new = labels.get(name, name)
        if new is not None:
            lookup[train] = ours.names.index(new)
    return lookup


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
    samples = PreparedDataset(config.open(labels), own, resize_labels=True, cache=cache)
    return Part(config.name, samples, config.repeat)
