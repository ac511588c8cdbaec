"""The time of every network, all taking turns in one process."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from binseg.bench.network import FINISHES, Scores, faster_finish
from binseg.bench.onnx_layer import session
from binseg.bench.onnx_twin import OnnxScores, ScoresOnly
from binseg.bench.timing import Timing, measure, threads
from binseg.compare.config import LatencyConfig
from binseg.compiler.packed import PackedSegmenter
from binseg.data.preprocess import Preprocessing, network_input
from binseg.data.scenes import draw_scene
from binseg.nn.segmenter import BackboneSegmenter, Segmenter

_LAYOUTS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Contender:
    """A network whose time is measured.

    Attributes:
        network: packed or float, in eval mode on the CPU.
        preprocessing: how it sees pictures.
        int8: its ONNX file in 8 bits, for the picture as it sees it; None if there is none.
    """

    network: Segmenter
    preprocessing: Preprocessing
    int8: Path | None = None


@dataclass(frozen=True)
class Times:
    """What was measured of a network.

    Attributes:
        own: of the network.
        int8: of its ONNX file.
    """

    own: Timing
    int8: Timing | None


def timed_input(preprocessing: Preprocessing, config: LatencyConfig) -> Tensor:
    """The picture that is timed, as a network sees it: float32 (1, 3, H, W)."""
    return network_input(draw_scene(0, 0, config.size).image, preprocessing)


def measure_latency(
    contenders: Mapping[str, Contender],
    config: LatencyConfig,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Times]:
    """Time from a network's input, float32 (1, 3, h, w), to the class map, uint8 of `config.size`.

    Float networks run in both memory formats of torch, and end in torch's upsampling and argmax or
    in binseg's fused operator, whichever is faster: the better of them counts.

    Args:
        contenders: by name.
        config: size of the picture, threads, rounds.
        progress: told which network is being measured.

    Returns:
        Name → its times.
    """
    with threads(config.threads), torch.inference_mode():
        sides: dict[str, Callable[[], object]] = {}
        own: dict[str, list[str]] = {}
        for name, contender in contenders.items():
            picture = timed_input(contender.preprocessing, config)
            ways = list(_ways(contender.network, picture, config.size))
            own[name] = [f"{name}, {index}" for index in range(len(ways))]
            sides |= zip(own[name], ways, strict=True)
            if contender.int8 is not None:
                scores = OnnxScores(session(str(contender.int8), config.threads))
                sides[_int8(name)] = _float_side(scores, picture, config.size)
        timings = measure(sides, rounds=config.rounds, seconds=config.seconds, progress=progress)
    return {
        name: Times(
            min((timings[side] for side in own[name]), key=lambda timing: timing.seconds),
            timings.get(_int8(name)),
        )
        for name in contenders
    }


def _int8(name: str) -> str:
    return f"{name}, int8"


def _ways(
    network: Segmenter, picture: Tensor, size: tuple[int, int]
) -> Iterator[Callable[[], object]]:
    """The ways to run a network, of which the fastest counts."""
    if isinstance(network, PackedSegmenter):
        packed = network.scores
        yield lambda: FINISHES["fused"](packed(picture), size)
        return
    for layout in _LAYOUTS:
        # a copy of its own: to() would change the weights that the ways share
        own = deepcopy(network).to(memory_format=layout)
        scores = ScoresOnly(own) if isinstance(own, BackboneSegmenter) else own
        yield _float_side(scores, picture.contiguous(memory_format=layout), size)


def _float_side(scores: Scores, picture: Tensor, size: tuple[int, int]) -> Callable[[], object]:
    finish = FINISHES[faster_finish(scores(picture), size)]
    return lambda: finish(scores(picture), size)
