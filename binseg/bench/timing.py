"""All candidates in turn, several rounds: the minimum of the per-round medians is the time.

A busy machine only ever makes things slower, so the minimum comes nearest to the truth; and what
goes on beside the measurement hits the candidates of one round alike.
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
_PAUSE = 0.02  # in which the thread pool of the candidate before stops spinning


@dataclass(frozen=True)
class Timing:
    """What was measured of one candidate.

    Attributes:
        rounds: median of each round, in seconds.
    """

    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The minimum of the per-round medians."""
        return min(self.rounds)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"seconds": self.seconds, "rounds": list(self.rounds)}


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    pause: float = _PAUSE,
    on_progress: Callable[[str], None] = lambda candidate: None,
) -> dict[str, Timing]:
    """Time every candidate, in turn, `rounds` times.

    Args:
        candidates: what to call for each; a call is one repetition.
        rounds: how many.
        seconds: that a candidate runs in a round, in calls: at least 3 and at most 200.
        clock: in seconds.
        pause: seconds before each candidate.
        on_progress: receives each candidate's name before it runs.
    """
    calls = {}
    for name, run in candidates.items():
        on_progress(name)
        for _ in range(_WARM_UP):
            run()
        began = clock()
        run()
        calls[name] = min(_MOST, max(_FEWEST, math.ceil(seconds / max(clock() - began, 1e-9))))
    medians: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            on_progress(name)
            time.sleep(pause)
            run()  # the caches hold the candidate before
            times = []
            for _ in range(calls[name]):
                began = clock()
                run()
                times.append(clock() - began)
            medians[name].append(statistics.median(times))
    return {name: Timing(tuple(values)) for name, values in medians.items()}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch and the kernels use `number` threads inside the `with`."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
