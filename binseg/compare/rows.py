"""The rows of the table: what the seeds of a network have in common, and how they spread."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
        class_iou: class → its IoU with that file, None for one that no picture has; empty if the
            network could not be packed.
        counts: of that file, see `Evaluation.counts`; None if the network could not be packed.
    """

    seed: int
    trained_miou: float
    best_epoch: int
    minutes: float
    shipped_miou: float | None
    bytes: int | None
    class_iou: Mapping[str, float | None]
    counts: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network.

    Attributes:
        name: of the row.
        model: the keys of `model:` that were set.
        binary: whether anything of it is 1 bit.
        outcomes: of its trainings.
        milliseconds: from a picture's tensor to its class map; None if it could not be packed.
        rounds: medians of the rounds, in milliseconds.
        baseline: the row that its time is compared with; None for full-precision rows.
        faster: how many times faster it is than that row.
        int8_milliseconds: of a full-precision network in 8 bits; None if it was not measured.
        faster_than_int8: how many times faster a binary network is than its baseline in 8 bits.
        binary_parameters, real_parameters: 1-bit ones, and all others.
        binary_macs: products of ±1 with ±1 for one picture of the latency's size.
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
    def trained_miou(self) -> Mean | None:
        """Over the seeds."""
        return Mean.of([each.trained_miou for each in self.outcomes])

    @property
    def shipped_miou(self) -> Mean | None:
        """Over the seeds whose network was packed."""
        values = [each.shipped_miou for each in self.outcomes if each.shipped_miou is not None]
        return Mean.of(values)

    def difference(self, other: "Row") -> Mean | None:
        """Shipped mIoU less that of `other`, over the seeds that both have: what two runs owe to
        their common seed cancels out. None where there is no such seed."""
        theirs = {each.seed: each.shipped_miou for each in other.outcomes}
        differences = []
        for each in self.outcomes:
            before = theirs.get(each.seed)
            if each.shipped_miou is not None and before is not None:
                differences.append(each.shipped_miou - before)
        return Mean.of(differences)

    def interval(self, other: "Row") -> Interval | None:
        """Where that difference lies with 95 %, as far as the images decide it; see
        `paired_difference`. None without common seeds, or with other images or too few."""
        theirs = {each.seed: each.counts for each in other.outcomes}
        pairs = [
            (each.counts, before)
            for each in self.outcomes
            if each.counts is not None and (before := theirs.get(each.seed)) is not None
        ]
        shapes = {counts.shape for pair in pairs for counts in pair}
        if len(shapes) != 1 or shapes.pop()[0] <= BLOCK:
            return None
        first, second = zip(*pairs, strict=True)
        return paired_difference(first, second).mean_iou

    @property
    def miou(self) -> float:
        """What a chart shows: of the shipped network, else of the trained one."""
        mean = self.shipped_miou or self.trained_miou
        assert mean is not None
        return mean.value

    @property
    def class_iou(self) -> dict[str, float | None]:
        """Class → mean IoU over the packed seeds; None for one that no picture has."""
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
