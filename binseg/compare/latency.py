"""The time of every network, all taking turns in one process."""

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor

from binseg.bench.network import FINISHES, faster_finish
from binseg.bench.onnx_twin import ScoresOnly
from binseg.bench.timing import Timing, measure, threads
from binseg.compare.config import LatencyConfig
from binseg.data.preprocess import Preprocessing
from binseg.data.scenes import draw_scene
from binseg.nn.segmenter import BackboneSegmenter, Segmenter
from binseg.packed.agreement import network_input
from binseg.packed.modules import PackedSegmenter

_LAYOUTS = (torch.contiguous_format, torch.channels_last)


def measure_latency(
    networks: Mapping[str, Segmenter],
    config: LatencyConfig,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Timing]:
    """Time from a picture's tensor, float32 (1, 3, H, W), to its class map, uint8 (1, H, W).

    Float networks run in both memory formats of torch, and end in torch's upsampling and argmax or
    in binseg's fused operator, whichever is faster: the better of them counts.

    Args:
        networks: name → packed or float network, in eval mode on the CPU.
        config: size of the picture, threads, rounds.
        progress: told which network is being measured.

    Returns:
        Name → its time.
    """
    picture = network_input(draw_scene(0, 0, config.size).image, Preprocessing())
    with threads(config.threads), torch.inference_mode():
        sides: dict[str, Callable[[], object]] = {}
        names: dict[str, list[str]] = {}
        for name, network in networks.items():
            own = _sides(network, picture)
            names[name] = [f"{name}, {index}" for index in range(len(own))]
            sides |= zip(names[name], own, strict=True)
        timings = measure(sides, rounds=config.rounds, seconds=config.seconds, progress=progress)
    return {
        name: min((timings[side] for side in own), key=lambda timing: timing.seconds)
        for name, own in names.items()
    }


def _sides(network: Segmenter, picture: Tensor) -> list[Callable[[], object]]:
    """The ways to run a network, of which the fastest counts."""
    if isinstance(network, PackedSegmenter):
        return [lambda: network.class_map(picture)]
    sides = []
    for layout in _LAYOUTS:
        # a copy of its own: to() would change the weights that the sides share
        own = deepcopy(network).to(memory_format=layout)
        sides.append(_float_side(own, picture.contiguous(memory_format=layout)))
    return sides


def _float_side(network: Segmenter, picture: Tensor) -> Callable[[], object]:
    if not isinstance(network, BackboneSegmenter):
        return lambda: network.class_map(picture)
    scores, size = ScoresOnly(network), (picture.shape[2], picture.shape[3])
    finish = FINISHES[faster_finish(scores(picture), size)]
    return lambda: finish(scores(picture), size)
