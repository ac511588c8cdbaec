"""Readers by name, and that of the built-in street scenes."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from binseg.data.camvid import CamVidDataset
from binseg.data.cityscapes import CityscapesDataset
from binseg.data.dataset_views import RelabelledDataset, subset_of_classes
from binseg.data.files import MissingSplitError, existing_root
from binseg.data.folder import FolderDataset, folder_labels
from binseg.data.groups import SEQUENCE, SEQUENCES, group_pattern, split_by_group
from binseg.data.image_files import LeftOut
from binseg.data.labels import (
    CLASS_MAPPINGS,
    LabelTable,
    class_lookup,
    class_subset,
    get_label_table,
)
from binseg.data.parts import JoinedDatasets
from binseg.data.samples import Sample, SegmentationDataset
from binseg.data.scenes import draw_scene
from binseg.data.voc import VOCDataset
from binseg.errors import BinsegError, unknown_name

SPLITS = ("train", "val", "test")


class ScenesDataset:
    """The built-in street scenes, drawn when asked for; needs no files.

    Args:
        split: train, val or test; the three never share a scene.
        length: number of scenes.
        size: (height, width) in pixels.
        seed: scenes of another seed are other scenes.

    Raises:
        BinsegError: fewer than one scene or a size below 32.
    """

    def __init__(self, split: str, length: int, size: tuple[int, int], seed: int = 0) -> None:
        if length < 1 or min(size) < 32:
            raise BinsegError(
                f"street scenes: {length} scenes of {size[0]} × {size[1]} pixels cannot be drawn; "
                "use at least one of at least 32 × 32"
            )
        self.labels = get_label_table("scenes")
        self.faults: Sequence[str] = ()
        self.left_out: Sequence[LeftOut] = ()
        self.arrangement = ""
        self.expected: int | None = None
        self.labelled = True
        self.split, self.length, self.size = split, length, (size[0], size[1])
        self.seed = 3 * seed + SPLITS.index(split)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return draw_scene(self.seed, index, self.size)._replace(name=self.sample_name(index))

    def read_labels(self, index: int) -> np.ndarray:
        return self[index].labels

    def sample_name(self, index: int) -> str:
        return f"{self.split}_{index:05d}"

    def sample_key(self, index: int) -> str:
        return self.sample_name(index)

    def sample_size(self, index: int) -> tuple[int, int]:
        return self.size

    def sample_paths(self, index: int) -> tuple[Path, Path | None] | None:
        return None

    def read_instances(self, index: int) -> np.ndarray | None:
        return None


class DatasetOptions(NamedTuple):
    """What a reader may need besides the split; each takes what it uses."""

    root: str | None = None
    length: int = 0
    size: tuple[int, int] = (0, 0)
    seed: int = 0
    strict: bool = True
    relabel: str | None = None
    classes: Sequence[str] | None = None
    train_split: str = "train"
    annotations: Literal["fine", "coarse"] = "fine"
    sbd_root: str | None = None
    group_by: str | None = None
    val_groups: Sequence[str] | None = None


def _need_root(name: str, options: DatasetOptions) -> str:
    if not options.root:
        raise BinsegError(f"data set '{name}' needs its folder: set --data.root FOLDER")
    return options.root


def _voc(split: str, o: DatasetOptions) -> VOCDataset:
    return VOCDataset(_need_root("voc", o), split, sbd_root=o.sbd_root, strict=o.strict)


def _cityscapes(split: str, o: DatasetOptions) -> CityscapesDataset:
    # a network trained on coarse labels is scored on the fine ones all the same
    annotations = "fine" if split in ("val", "test") else o.annotations
    root = _need_root("cityscapes", o)
    return CityscapesDataset(root, split, annotations=annotations, strict=o.strict)


DATASETS: dict[str, Callable[[str, DatasetOptions], SegmentationDataset]] = {
    "camvid": lambda split, o: CamVidDataset(_need_root("camvid", o), split, strict=o.strict),
    "cityscapes": _cityscapes,
    "folder": lambda split, o: FolderDataset(_need_root("folder", o), split, strict=o.strict),
    "scenes": lambda split, o: ScenesDataset(split, o.length, o.size, o.seed),
    "voc": _voc,
}
"""Readers by name: (split, options) → data set."""

TRAIN_SPLITS = {
    "camvid": ("train", "trainval"),
    "cityscapes": ("train", "train_extra"),
    "folder": ("train", "trainval"),
    "voc": ("train", "trainval", "trainaug"),
}
"""What the split "train" may stand for; "train" alone where a data set is not named here."""


def create_dataset(
    name: str, split: str, options: DatasetOptions | None = None, **more: Any
) -> SegmentationDataset:
    """Open one split of a data set: `binseg.create_dataset("folder", "val", root="my_data")`.

    Args:
        name: one of `DATASETS`.
        split: train, val or test.
        options: what its reader needs.
        more: or fields of them, by name.

    Raises:
        BinsegError: an unknown name, split or class (says the nearest), or what the reader finds.
    """
    options = (options or DatasetOptions())._replace(**more)
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    choices = TRAIN_SPLITS.get(name, ("train",))
    if options.train_split not in choices:
        raise unknown_name(f"data.train_split of '{name}'", options.train_split, choices)
    grouped = options.group_by is not None or options.val_groups is not None
    if grouped and split != "test":
        dataset: SegmentationDataset = _grouped(name, split, options)
    elif split == "train" and options.train_split == "trainval" and name in _JOINED_TRAINVAL:
        dataset = _train_and_val(name, options)
    else:
        dataset = DATASETS[name](options.train_split if split == "train" else split, options)
    if options.relabel is not None:
        labels, lookup = _relabelled(dataset.labels, options.relabel)
        dataset = RelabelledDataset(dataset, labels, lookup)
    return subset_of_classes(dataset, options.classes) if options.classes else dataset


def _relabelled(table: LabelTable, name: str) -> tuple[LabelTable, np.ndarray]:
    """The classes of the data set `name` for masks of `table`, and what each train id becomes."""
    new = get_label_table(name)
    known = ", ".join(f"{theirs} as {ours}" for theirs, ours in CLASS_MAPPINGS)
    remedy = f"data.relabel knows {known}; as a folder, labels.yaml says what each id becomes"
    lookup = class_lookup(table, new, remedy=remedy)
    return table.relabelled(new, lookup), lookup


_JOINED_TRAINVAL = ("camvid", "folder")


def _train_and_val(name: str, options: DatasetOptions) -> SegmentationDataset:
    """All labelled samples; train alone where there is no val."""
    parts = [DATASETS[name]("train", options)]
    with contextlib.suppress(MissingSplitError):
        parts.append(DATASETS[name]("val", options))
    return JoinedDatasets(parts, "train and val together")


def _grouped(name: str, split: str, options: DatasetOptions) -> SegmentationDataset:
    if name not in _JOINED_TRAINVAL:
        raise BinsegError(
            f"data.group_by: '{name}' has splits of its own; groups are for "
            f"{' and '.join(_JOINED_TRAINVAL)}"
        )
    group_by = options.group_by
    if group_by is None:
        if name not in SEQUENCES:
            raise BinsegError("data.val_groups: needs data.group_by, which finds the groups")
        group_by = SEQUENCE
    pool = _train_and_val(name, options)
    if split == "train" and options.train_split == "trainval":
        return pool
    return split_by_group(pool, split, group_pattern(group_by, name), options.val_groups)


def dataset_labels(
    name: str,
    root: str | None = None,
    classes: Sequence[str] | None = None,
    relabel: str | None = None,
) -> LabelTable:
    """The label table of a data set, or of some of its classes, without looking at its images.

    Args:
        name: one of `DATASETS`.
        root: folder of the data set, where it has a table of its own.
        classes: only these.
        relabel: the data set whose classes these become.

    Raises:
        BinsegError: an unknown name or class, or a faulty labels.yaml.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    if name == "folder":
        folder = existing_root(_need_root(name, DatasetOptions(root=root)))
        table = folder_labels(folder)
    else:
        table = get_label_table(name)
    if relabel is not None:
        table, _ = _relabelled(table, relabel)
    return class_subset(table, classes) if classes else table
