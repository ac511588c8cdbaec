"""The arithmetic of the benchmark: minimum of the medians, turns."""

import pytest

from binseg.bench.options import BenchOptions
from binseg.bench.timing import measure
from binseg.errors import BinsegError


class Clock:
    """Time passes only while a candidate runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def candidate(self, name, durations):
        rest = iter(durations)

        def run():
            self.calls.append(name)
            self.now += next(rest)

        return run

    def __call__(self) -> float:
        return self.now


def test_the_figure_is_the_minimum_of_the_per_round_medians():
    clock = Clock()
    # 2 warm-ups, 1 that tells how long a call takes; then in each round 1 unmeasured, 3 measured
    durations = [9, 9, 1, *(9, 1, 5, 3), *(9, 2, 2, 8), *(9, 7, 7, 7)]
    found = measure(
        {"a": clock.candidate("a", durations)}, rounds=3, seconds=0, clock=clock, pause=0
    )
    assert found["a"].rounds == (3, 2, 7)
    assert found["a"].seconds == 2
    assert found["a"].to_dict() == {"seconds": 2, "rounds": [3, 2, 7]}


def test_the_candidates_run_in_turn():
    clock = Clock()
    candidates = {name: clock.candidate(name, [1.0] * 99) for name in "ab"}
    measure(candidates, rounds=2, seconds=0, clock=clock, pause=0)
    assert "".join(clock.calls) == "aaa" + "bbb" + "aaaa" + "bbbb" + "aaaa" + "bbbb"


def test_short_calls_are_repeated_until_the_time_is_filled():
    clock = Clock()
    side = clock.candidate("a", [0.25] * 99)
    measure({"a": side}, rounds=1, seconds=2.0, clock=clock, pause=0)
    assert len(clock.calls) == 2 + 1 + 1 + 8


@pytest.mark.parametrize(
    ("values", "says"),
    [({"parts": ("operator",)}, "did you mean 'operators'"),
     ({"threads": (0,)}, "threads must lie"),
     ({"size": (8, 64)}, "size must lie"),
     ({"bases": (9,)}, "bases must lie"), ({"bases": ()}, "at least one"),
     ({"device": "tpu"}, "device"), ({"rounds": 0}, "rounds must lie")],
)  # fmt: skip
def test_wrong_options_are_named(values, says):
    with pytest.raises(BinsegError, match=says):
        BenchOptions(**values)
