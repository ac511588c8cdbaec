"""How sure a difference of two networks is: a paired bootstrap over blocks of neighbouring images.

Both networks are scored on the same images. Images are drawn anew with replacement, in blocks of
neighbours: the frames of a clip are almost copies of one another, and drawn one by one they would
pass for independent ones. Both networks' scores are computed over each drawn set, and what their
difference does from one drawn set to the next gives its interval.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", sections 13.3 (percentile
interval) and 8.6 (blocks).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from binseg.errors import BinsegError
from binseg.evaluation.scores import without_nan

BLOCK = 10
"""Images to a block, in the order of the data set."""
DRAWS = 2000
LEVEL = 0.95
_AT_A_TIME = 200


class Interval(NamedTuple):
    """A difference and where it lies with 95 % confidence; nan where a class never occurs."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        value, low, high = (f"{100 * each:+.1f}" for each in self)
        return f"{value} ({low} to {high})"


class Difference(NamedTuple):
    """The first network's scores less the second's.

    `mean_iou`: of their mean IoU; `iou`: of each class's; `blocks`: of images that were drawn from.
    """

    mean_iou: Interval
    iou: tuple[Interval, ...]
    blocks: int


def paired_difference(
    first: Sequence[Sequence[np.ndarray]],
    second: Sequence[Sequence[np.ndarray]],
    *,
    block: int = BLOCK,
) -> Difference:
    """The difference of two networks with its interval: of the means over folds and seeds.

    The interval is of the images alone: how training's own luck spreads, several seeds must tell.
    Images are drawn from each fold by itself.

    Args:
        first, second: for each fold and seed the counts of the fold's images, the same ones in the
            same order, int64 (N, 3, C): pixels of each class that are right, in the truth, and in
            the prediction.
        block: images to a block; the last of a fold may have fewer.

    Raises:
        BinsegError: a block below one image, or fewer than two blocks in a fold.
    """
    if block < 1:
        raise BinsegError(f"a block has 1 image or more, not {block}")
    generator = np.random.default_rng(0)
    whole, drawn, blocks = [], [], 0
    for candidates in zip(first, second, strict=True):
        found = _of_fold(*candidates, block, generator)
        whole.append(found[0])
        drawn.append(found[1])
        blocks += found[2]
    value, spread = _mean_known(whole), _mean_known(drawn)
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    intervals = []
    for column, each in enumerate(value):
        known = spread[:, column][~np.isnan(spread[:, column])]
        low, high = np.quantile(known, tails) if len(known) else (math.nan, math.nan)
        intervals.append(Interval(float(each), float(low), float(high)))
    return Difference(intervals[0], tuple(intervals[1:]), blocks)


def _of_fold(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    block: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, int]:
    """(1 + C,) differences over all images, (DRAWS, 1 + C) over drawn ones, number of blocks."""
    images = len(first[0])
    starts = np.arange(0, images, block)
    if len(starts) < 2:
        raise BinsegError(
            f"{images} images make {len(starts)} block of {block}; an interval needs two blocks or "
            "more: give --block a smaller number"
        )
    candidates = [
        np.stack([np.add.reduceat(counts, starts, axis=0) for counts in candidate]).astype(
            np.float64
        )
        for candidate in (first, second)
    ]
    drawn = []
    for done in range(0, DRAWS, _AT_A_TIME):
        count = min(_AT_A_TIME, DRAWS - done)
        times = generator.multinomial(len(starts), np.full(len(starts), 1 / len(starts)), count)
        drawn.append(
            _difference(*(np.einsum("db,sbkc->dskc", times, candidate) for candidate in candidates))
        )
    whole = _difference(*(candidate.sum(axis=1)[None] for candidate in candidates))[0]
    return whole, np.concatenate(drawn), len(starts)


def _mean_known(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the first axis of what is not nan; nan where all is."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), math.nan)


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(draws, seeds, 3, C) counts of both to (draws, 1 + C): of the mean IoU and of each IoU."""
    return _scores(first) - _scores(second)


def _scores(counts: np.ndarray) -> np.ndarray:
    """(draws, 1 + C): mean IoU and the IoUs, means over the seeds."""
    right, true, predicted = np.moveaxis(counts, 2, 0)
    union = true + predicted - right
    iou = np.full(right.shape, math.nan)
    np.divide(right, union, out=iou, where=union > 0)
    present = ~np.isnan(iou)
    mean = np.where(present, iou, 0).sum(axis=2) / np.maximum(present.sum(axis=2), 1)
    return np.concatenate([mean[..., None], iou], axis=2).mean(axis=1)


def difference_dict(difference: Difference, names: Sequence[str], block: int) -> dict[str, Any]:
    """The difference as JSON values, the classes by name."""
    plain: dict[str, Any] = without_nan(
        {
            "difference": difference.mean_iou._asdict(),
            "class_differences": {
                name: interval._asdict()
                for name, interval in zip(names, difference.iou, strict=True)
            },
            "bootstrap": {"block": block, "blocks": difference.blocks, "draws": DRAWS},
        }
    )
    return plain
