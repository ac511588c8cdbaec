"""The rows of the table: what the seeds of a network have in common, and how they spread."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from binseg.evaluation.bootstrap import BLOCK, Interval, paired_difference


@dataclass(frozen=True)
class Mean:
    """A figure over several seeds.

    Attributes:
        value: the mean.
        deviation: standard deviation of a sample, with n − 1; None for one seed.
        number: n, how many seeds.
    """

    value: float
    deviation: float | None
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Mean | None":
        """None without values."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))

    def __str__(self) -> str:
        return f"{self.value:.3f}{self._spread}"

    @property
    def signed(self) -> str:
        """With its sign, as a difference is written."""
        return f"{self.value:+.3f}{self._spread}"

    @property
    def _spread(self) -> str:
        return "" if self.deviation is None else f" ± {self.deviation:.3f} ({self.number})"


@dataclass(frozen=True)
class Outcome:
    """What became of one training.

    Attributes:
        seed: its seed.
        trained_miou: best val mIoU of its own validations.
        best_epoch: the epoch of that, from 1.
        minutes: of training, validations included.
        shipped_miou: val mIoU of the file that is shipped, by `binseg.evaluate`: packed for binary
            networks, float for the others. None if the network could not be packed.
        bytes: of that file.
        class_iou: class → its IoU with that file, None for one that no image has; empty if the
            network could not be packed.
        counts: of that file, see `Evaluation.counts`; None if the network could not be packed.
        fold: whose data it was trained on; None without folds.
        int8_miou: val mIoU of a full-precision network in 8 bits; None if it was not measured.
    """

    seed: int
    trained_miou: float
    best_epoch: int
    minutes: float
    shipped_miou: float | None
    bytes: int | None
    class_iou: Mapping[str, float | None]
    counts: np.ndarray | None = field(default=None, repr=False, compare=False)
    fold: str | None = None
    int8_miou: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network.

    Attributes:
        name: of the row.
        model: the keys of `model:` that were set.
        binary: whether anything of it is 1 bit.
        outcomes: of its trainings.
        milliseconds: from an image to its class map; None if it could not be packed.
        rounds: medians of the rounds, in milliseconds.
        baseline: the row that its time is compared with; None for full-precision rows.
        faster: how many times faster it is than that row.
        int8_milliseconds: of a full-precision network in 8 bits; None if it was not measured.
        faster_than_int8: how many times faster a binary network is than its baseline in 8 bits.
        binary_parameters, real_parameters: 1-bit ones, and all others.
        binary_macs: products of ±1 with ±1 for one image of the latency's size.
        real_macs: all other products.
        not_packed: why a binary network could not be packed.
    """

    name: str
    model: dict[str, Any]
    binary: bool
    outcomes: tuple[Outcome, ...]
    milliseconds: float | None
    rounds: tuple[float, ...]
    baseline: str | None
    faster: float | None
    int8_milliseconds: float | None
    faster_than_int8: float | None
    binary_parameters: int
    real_parameters: int
    binary_macs: int
    real_macs: int
    not_packed: str | None

    @property
    def folds(self) -> list[str | None]:
        """In the order of the trainings; [None] without folds."""
        return list(dict.fromkeys(each.fold for each in self.outcomes))

    @property
    def seeds(self) -> dict[int, list[Outcome]]:
        """Seed → its outcomes in the order of `folds`; seeds that lack a fold are left out."""
        found = {}
        for seed in dict.fromkeys(each.seed for each in self.outcomes):
            own = {each.fold: each for each in self.outcomes if each.seed == seed}
            if len(own) == len(self.folds):
                found[seed] = [own[fold] for fold in self.folds]
        return found

    @property
    def trained_miou(self) -> Mean | None:
        """Over the seeds, of the means over the folds."""
        return Mean.of(
            [
                statistics.fmean(each.trained_miou for each in outcomes)
                for outcomes in self.seeds.values()
            ]
        )

    @property
    def shipped_miou(self) -> Mean | None:
        """The same, over the seeds whose network was packed."""
        return Mean.of(list(self._shipped.values()))

    @property
    def int8_miou(self) -> Mean | None:
        """The same of a full-precision network in 8 bits."""
        return Mean.of(list(self._by_seed(lambda outcome: outcome.int8_miou).values()))

    @property
    def _shipped(self) -> dict[int, float]:
        return self._by_seed(lambda outcome: outcome.shipped_miou)

    def _by_seed(self, of: Callable[[Outcome], float | None]) -> dict[int, float]:
        """Seed → the mean over its folds, where all of them have the figure."""
        found = {}
        for seed, outcomes in self.seeds.items():
            values = [value for each in outcomes if (value := of(each)) is not None]
            if len(values) == len(outcomes):
                found[seed] = statistics.fmean(values)
        return found

    def of_fold(self, fold: str | None) -> Mean | None:
        """Shipped mIoU in one fold, over the seeds."""
        return Mean.of(
            [
                each.shipped_miou
                for each in self.outcomes
                if each.fold == fold and each.shipped_miou is not None
            ]
        )

    def difference(self, other: "Row") -> Mean | None:
        """Shipped mIoU less that of `other`, over the seeds that both have: what two runs owe to
        their common seed cancels out. None where there is no such seed, or with other folds."""
        if self.folds != other.folds:
            return None
        own, theirs = self._shipped, other._shipped
        return Mean.of([own[seed] - theirs[seed] for seed in own if seed in theirs])

    def interval(self, other: "Row") -> Interval | None:
        """Where that difference lies with 95 %, as far as the images decide it; see
        `paired_difference`. None without common seeds, or with other images or too few."""
        if self.folds != other.folds:
            return None
        ours, theirs = self.seeds, other.seeds
        common = [seed for seed in ours if seed in theirs]
        candidates = []
        for outcomes in (ours, theirs):
            by_fold = zip(*(outcomes[seed] for seed in common), strict=True)
            candidates.append([[each.counts for each in fold] for fold in by_fold])
        for pair in zip(*candidates, strict=True):
            counts = [each for candidate in pair for each in candidate]
            if any(each is None for each in counts):
                return None
            shapes = {each.shape for each in counts if each is not None}
            if len(shapes) != 1 or shapes.pop()[0] <= BLOCK:
                return None
        if not common:
            return None
        first, second = cast(list[list[list[np.ndarray]]], candidates)
        return paired_difference(first, second).mean_iou

    @property
    def miou(self) -> float:
        """What a chart shows: of the shipped network, else of the trained one."""
        mean = self.shipped_miou or self.trained_miou
        assert mean is not None
        return mean.value

    @property
    def class_iou(self) -> dict[str, float | None]:
        """Class → mean IoU over the packed seeds; None for one that no image has."""
        found = [each.class_iou for each in self.outcomes if each.class_iou]
        means: dict[str, float | None] = {}
        for name in found[0] if found else ():
            values = [value for each in found if (value := each[name]) is not None]
            means[name] = statistics.fmean(values) if values else None
        return means

    @property
    def bytes(self) -> int | None:
        """Of the first seed's file."""
        return self.outcomes[0].bytes

    @property
    def minutes(self) -> float:
        """Of one training, on average."""
        return statistics.fmean(each.minutes for each in self.outcomes)

    @property
    def operations(self) -> float:
        """Real products, and 1-bit ones as 1/64 of one, as 64 of them fill a machine word."""
        return self.real_macs + self.binary_macs / 64


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other one beats in both coordinates.

    Args:
        points: (cost, score) pairs; less cost and more score are better.

    Returns:
        Their places in `points`, by rising cost.
    """
    front: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[place][1] > best:
            front.append(place)
            best = points[place][1]
    return front
