"""Time of each operator of a network, and what share of it is not binary."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from binseg.compiler.packed import PackedSegmenter
from binseg.summarize.layers import evaluating
from binseg.summarize.operations import Layers, Recorder
from binseg.summarize.programs import BIT_CONVOLUTIONS, operator_name


@dataclass(frozen=True)
class OperatorTime:
    """An operator of a layer, all its calls in one forward pass together.

    Attributes:
        layer: name of the module; empty for the network itself.
        operator: e.g. "conv_bits" or "aten.convolution".
        binary: whether it computes with ±1.
        seconds: median over the passes.
    """

    layer: str
    operator: str
    binary: bool
    seconds: float


def time_operators(
    model: nn.Module, picture: Tensor, *, passes: int = 10
) -> tuple[list[OperatorTime], float]:
    """Run a network and time each operator; copies and views count where they are made.

    Args:
        model: a trained or packed network; a packed one is timed up to its class map.
        picture: float32 (N, 3, H, W), normalised, on the network's device; N = 1 for a packed one.
        passes: how many times; two more warm up.

    Returns:
        The operators, slowest first, and the median time of a whole pass without the stop-watch
        on: what their sum lacks or exceeds is calls from Python.
    """
    if isinstance(model, PackedSegmenter):
        return _time_program(model, picture, passes)
    run: Callable[[Tensor], object] = getattr(model, "class_map", model)
    wait = torch.cuda.synchronize if picture.is_cuda else lambda: None
    layers = Layers(model)
    found: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
    whole = []
    with evaluating(model), torch.inference_mode():
        for index in range(passes + 2):
            began = time.perf_counter()
            run(picture)
            wait()
            seconds = time.perf_counter() - began
            recorder = Recorder(layers, clock=time.perf_counter, wait=wait)
            with layers.watched(), recorder:
                run(picture)
            if index < 2:
                continue
            whole.append(seconds)
            once: dict[tuple[str, str, bool], float] = defaultdict(float)
            for each in recorder.operations:
                once[each.layer, each.operator, each.binary] += each.seconds
            for key, value in once.items():
                found[key].append(value)
    times = [OperatorTime(*key, statistics.median(values)) for key, values in found.items()]
    return sorted(times, key=lambda each: -each.seconds), statistics.median(whole)


def _time_program(
    model: PackedSegmenter, picture: Tensor, passes: int
) -> tuple[list[OperatorTime], float]:
    operators = model.program.operators
    (image,) = model.images(picture)
    found: list[list[float]] = [[] for _ in operators]
    whole = []
    for index in range(passes + 2):
        began = time.perf_counter()
        model.class_map(picture)
        seconds = time.perf_counter() - began
        parts = model.executor.operator_seconds(image)
        if index < 2:
            continue
        whole.append(seconds)
        for own, part in zip(found, parts, strict=True):
            own.append(part)
    times = [
        OperatorTime(
            operator_name(model.program, index),
            operator.kind,
            operator.kind in BIT_CONVOLUTIONS,
            statistics.median(found[index]),
        )
        for index, operator in enumerate(operators)
    ]
    return sorted(times, key=lambda each: -each.seconds), statistics.median(whole)


def real_time_share(times: list[OperatorTime]) -> float:
    """What of the operators' time is not spent in binary ones, in [0, 1]."""
    total = sum(each.seconds for each in times)
    return sum(each.seconds for each in times if not each.binary) / total if total else 0.0
