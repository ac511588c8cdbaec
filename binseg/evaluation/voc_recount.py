"""PASCAL VOC's class IoUs counted anew from files, as the devkit's VOCevalseg.m defines them.

The devkit is MATLAB and there is no official Python; this follows its definition and shares no
counting code with `binseg.evaluation.scores`. It is a second opinion, not the devkit itself.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from binseg.data.imageio import read_mask
from binseg.errors import BinsegError

_VOID = 255


def recount(pairs: Iterable[tuple[Path, Path]], num_classes: int = 21) -> tuple[float, ...]:
    """The IoU of each class, background first; nan for a class in neither truth nor result.

    As in VOCevalseg.m: `locs = gtim < 255`, `sumim = 1 + gtim + resim · num`, a histogram of
    sumim(locs) added up over the images, then gtjresj / (gtj + resj − gtjresj) for class j.

    Args:
        pairs: (result, ground truth) files of class ids.
        num_classes: with background.

    Raises:
        BinsegError: a result of another size, or with an id above 20 (the devkit's own faults).
    """
    counts = np.zeros(num_classes**2, np.int64)
    edges = np.arange(num_classes**2 + 1)
    for result_file, truth_file in pairs:
        result, truth = read_mask(result_file), read_mask(truth_file)
        if result.max() >= num_classes:
            raise BinsegError(
                f"{result_file}: out of range value {result.max()} (it should be at most "
                f"{num_classes - 1}); export the predictions again"
            )
        if result.shape != truth.shape:
            raise BinsegError(
                f"{result_file}: the wrong size, {result.shape} and not {truth.shape}; export the "
                "predictions again"
            )
        counted = truth < _VOID
        sums = truth[counted].astype(np.int32) + result[counted].astype(np.int32) * num_classes
        counts += np.histogram(sums, edges)[0]
    # column-major in MATLAB: the truth runs fastest
    table = counts.reshape(num_classes, num_classes).T
    found = []
    for class_ in range(num_classes):
        both = int(table[class_, class_])
        either = int(table[class_].sum() + table[:, class_].sum()) - both
        found.append(both / either if either else float("nan"))
    return tuple(found)
