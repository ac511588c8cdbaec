"""All sides in turn, several rounds: the least of the rounds' medians is a side's time.

A busy machine only ever makes things slower, so the least median comes nearest to the truth; and
what goes on beside the measurement hits the sides of one round alike.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_FEWEST, _MOST = 3, 200
_WARM_UP = 2
_PAUSE = 0.02  # in which the thread pool of the side before stops spinning


@dataclass(frozen=True)
class Timing:
    """What was measured of one side.

    Attributes:
        rounds: median of each round, in seconds.
    """

    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The least of the rounds' medians."""
        return min(self.rounds)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"seconds": self.seconds, "rounds": list(self.rounds)}


def measure(
    sides: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    pause: float = _PAUSE,
    progress: Callable[[str], None] = lambda side: None,
) -> dict[str, Timing]:
    """Time every side, in turn, `rounds` times.

    Args:
        sides: what to call for each; a call is one repetition. One that returns a float has timed
            itself, in seconds.
        rounds: how many.
        seconds: that a side runs in a round, in calls: at least 3 and at most 200.
        clock: in seconds.
        pause: seconds before each side.
        progress: told each side's name before it runs.
    """
    calls = {}
    for name, side in sides.items():
        progress(name)
        for _ in range(_WARM_UP):
            side()
        began = clock()
        side()
        calls[name] = min(_MOST, max(_FEWEST, math.ceil(seconds / max(clock() - began, 1e-9))))
    medians: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            progress(name)
            time.sleep(pause)
            side()  # the caches hold the side before
            times = []
            for _ in range(calls[name]):
                began = clock()
                own = side()
                times.append(own if isinstance(own, float) else clock() - began)
            medians[name].append(statistics.median(times))
    return {name: Timing(tuple(values)) for name, values in medians.items()}


def ratios(timings: Mapping[str, Timing], baselines: list[str]) -> dict[str, float]:
    """How many times faster each side is than the fastest of `baselines` that was measured.

    Returns:
        Side → ratio; empty if no baseline was measured.
    """
    measured = [timings[name].seconds for name in baselines if name in timings]
    if not measured:
        return {}
    return {name: min(measured) / timing.seconds for name, timing in timings.items()}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch, and libbinseg with it, uses `number` threads inside the `with`."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
