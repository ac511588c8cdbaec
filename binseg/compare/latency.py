"""Latencies of networks that take turns in one process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from binseg.bench.candidates import Int8Twin, packed_candidates, torch_candidates
from binseg.bench.timing import Timing, measure, threads
from binseg.compare.config import LatencyConfig
from binseg.data.scenes import draw_scene
from binseg.inference.packed import PackedNetwork
from binseg.loaded import LoadedModel


@dataclass(frozen=True)
class Contender:
    """A network whose time is measured.

    Attributes:
        network: a packed file, or a loaded float network.
        int8: the float network in 8 bits; None if it is not measured.
    """

    network: Path | LoadedModel
    int8: Int8Twin | None = None


@dataclass(frozen=True)
class Times:
    """What was measured of a network.

    Attributes:
        own: of the network; of a float one the fastest way of torch in fp32.
        int8: of the network in 8 bits.
    """

    own: Timing
    int8: Timing | None


def measure_latency(
    contenders: Mapping[str, Contender],
    config: LatencyConfig,
    on_progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Times]:
    """Time from an image, uint8 `config.size`, to its class map.

    Args:
        contenders: by name.
        config: size of the image, threads, rounds.
        on_progress: receives which network is being measured.

    Returns:
        Name → its times.
    """
    image = draw_scene(0, 0, config.size).image
    packed = [each.network for each in contenders.values() if isinstance(each.network, Path)]
    upsampler = PackedNetwork(packed[0], threads=config.threads).native if packed else None
    calls: dict[str, Callable[[], object]] = {}
    ways: dict[tuple[str, str], list[str]] = {}  # network, kind → names of calls
    with threads(config.threads):
        for name, contender in contenders.items():
            if isinstance(contender.network, Path):
                found = packed_candidates("packed", contender.network, config.threads)
                found = {"packed": found["packed"]}
            else:
                loaded = contender.network
                found = torch_candidates(loaded.model, loaded.preprocessing)
            if contender.int8 is not None:
                found |= contender.int8.candidates(config.threads, config.size, upsampler)
            for way, candidate in found.items():
                kind = "own" if candidate.kind in ("1-bit", "fp32") else candidate.kind
                ways.setdefault((name, kind), []).append(f"{name}, {way}")
                calls[f"{name}, {way}"] = lambda run=candidate.segment: run(image)  # type: ignore[misc]
        timings = measure(
            calls, rounds=config.rounds, seconds=config.seconds, on_progress=on_progress
        )

    def fastest(name: str, kind: str) -> Timing | None:
        own = [timings[way] for way in ways.get((name, kind), ())]
        return min(own, key=lambda timing: timing.seconds, default=None)

    found_times = {}
    for name in contenders:
        own = fastest(name, "own")
        assert own is not None
        found_times[name] = Times(own, fastest(name, "int8"))
    return found_times
