"""Predictions that some tool has written as masks, found by the images' names."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from binseg.data.imageio import read_mask
from binseg.data.labels import IGNORE
from binseg.data.samples import Sample, SegmentationDataset
from binseg.errors import BinsegError

_CITYSCAPES_NAME = re.compile(r"([^_]+_\d{6}_\d{6})(?:_.*)?")


class FolderPredictions:
    """The masks in a folder and below it, one for each image of a data set.

    The image NAME's mask is NAME.png. Cityscapes' CITY_SEQUENCE_FRAME may be followed by any
    more words, as cityscapesScripts' getPrediction finds it.

    Args:
        folder: masks of class ids, each of its label's size.
        dataset: the images.
        raw_ids: the masks hold the data set's raw ids (Cityscapes: 7 for road) and not the train
            ids that `binseg predict` writes.

    Attributes:
        files: the mask of each image, in the data set's order.

    Raises:
        BinsegError: no such folder, masks are missing (says how many), or several fit an image.
    """

    def __init__(
        self, folder: str | Path, dataset: SegmentationDataset, *, raw_ids: bool = False
    ) -> None:
        self._labels, self._raw_ids = dataset.labels, raw_ids
        names = [dataset.sample_name(place) for place in range(len(dataset))]
        self._by_name = _find(Path(folder), names)
        self.files: Sequence[Path] = [self._by_name[name] for name in names]

    def __call__(self, sample: Sample) -> np.ndarray:
        """The train ids of a sample's mask, uint8 HW.

        Raises:
            BinsegError: the mask is unreadable, holds colours, has another size than the labels,
                or no class at a labelled pixel; the message names the file.
        """
        file = self._by_name[sample.name]
        ids = read_mask(file)
        if ids.shape != sample.labels.shape:
            sizes = [f"{width} × {height}" for height, width in (ids.shape, sample.labels.shape)]
            raise BinsegError(
                f"{file}: {sizes[0]} pixels, but the label has {sizes[1]}; write predictions at "
                "the label's size (resize the scores, or the ids with nearest neighbour)"
            )
        if self._raw_ids:
            ids = self._labels.encode(ids, file)
        elif ids.dtype != np.uint8:
            if ids.min() < 0 or ids.max() > IGNORE:
                raise BinsegError(
                    f"{file}: ids from {ids.min()} to {ids.max()}; class ids go from 0 to "
                    f"{self._labels.num_classes - 1} (raw ids of the data set need --raw_ids)"
                )
            ids = ids.astype(np.uint8)
        unclassified = np.count_nonzero((ids == IGNORE) & (sample.labels != IGNORE))
        if unclassified:
            raise BinsegError(
                f"{file}: {unclassified:,} labelled pixels have no class"
                + ("" if self._raw_ids else f" ({IGNORE})")
                + "; a prediction needs one at every pixel"
            )
        return ids


def _find(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Image's name → its mask; looks at all of them before the first is read."""
    if not folder.is_dir():
        raise BinsegError(f"{folder}: no such folder; give the one that holds NAME.png masks")
    by_stem: dict[str, list[Path]] = {}
    by_frame: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.png")):
        by_stem.setdefault(path.stem, []).append(path)
        if frame := _CITYSCAPES_NAME.fullmatch(path.stem):
            by_frame.setdefault(frame[1], []).append(path)
    found = {name: by_stem.get(name) or by_frame.get(name, []) for name in names}
    if missing := [name for name, paths in found.items() if not paths]:
        raise BinsegError(
            f"{len(missing):,} of {len(names):,} predictions are missing in {folder}, e.g. "
            f"{missing[0]}.png; every image of the set needs one"
        )
    for name, paths in found.items():
        if len(paths) > 1:
            raise BinsegError(
                f"{folder}: {len(paths)} predictions for image {name} "
                f"({paths[0].relative_to(folder)}, {paths[1].relative_to(folder)}); keep one"
            )
    return {name: paths[0] for name, paths in found.items()}
