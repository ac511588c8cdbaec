"""Time of each operator of a packed network, and what share of it is not binary."""

import statistics
import time
from dataclasses import dataclass

from torch import Tensor

from binseg.compiler.packed import PackedSegmenter
from binseg.summarize.programs import operator_costs


@dataclass(frozen=True)
class OperatorTime:
    """An operator of a packed network.

    Attributes:
        layer: name of the trained network's layer; or the operator's place.
        operator: e.g. "conv_bits".
        binary: whether it computes with ±1.
        macs: products that are added up.
        output: (1, H, W, C) of what it makes.
        seconds: median over the passes.
    """

    layer: str
    operator: str
    binary: bool
    macs: int
    output: tuple[int, ...]
    seconds: float


def time_operators(
    model: PackedSegmenter, image: Tensor, *, passes: int = 10
) -> tuple[list[OperatorTime], float]:
    """Run a packed network and time each operator.

    Args:
        model: on the CPU; it runs on as many threads as torch.
        image: float32 (1, 3, H, W), normalised, or uint8.
        passes: how many times; two more warm up.

    Returns:
        The operators, slowest first, and the median time of a whole pass to the class map without
        the stop-watch on.
    """
    costs = operator_costs(model.program, (image.shape[2], image.shape[3]))
    (pixels,) = model.images(image)
    found: list[list[float]] = [[] for _ in costs]
    whole = []
    for index in range(passes + 2):
        began = time.perf_counter()
        model.class_map(image)
        seconds = time.perf_counter() - began
        parts = model.executor.operator_seconds(pixels)
        if index < 2:
            continue
        whole.append(seconds)
        for own, part in zip(found, parts, strict=True):
            own.append(part)
    times = [
        OperatorTime(
            cost.name, cost.kind, cost.binary, cost.macs, cost.output, statistics.median(own)
        )
        for cost, own in zip(costs, found, strict=True)
    ]
    return sorted(times, key=lambda each: -each.seconds), statistics.median(whole)


def real_time_share(times: list[OperatorTime]) -> float:
    """What of the operators' time is not spent in binary ones, in [0, 1]."""
    total = sum(each.seconds for each in times)
    return sum(each.seconds for each in times if not each.binary) / total if total else 0.0
