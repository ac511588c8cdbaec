"""The arithmetic of the benchmark: least of the medians, ratios, turns."""

import pytest

from binseg.bench.options import BenchOptions
from binseg.bench.timing import Timing, measure, ratios
from binseg.errors import BinsegError


class Clock:
    """Time passes only while a side runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def side(self, name, durations):
        rest = iter(durations)

        def run():
            self.calls.append(name)
            self.now += next(rest)

        return run

    def __call__(self) -> float:
        return self.now


def test_the_figure_is_the_least_of_the_rounds_medians():
    clock = Clock()
    # 2 warm-ups, 1 that tells how long a call takes; then in each round 1 unmeasured, 3 measured
    durations = [9, 9, 1, *(9, 1, 5, 3), *(9, 2, 2, 8), *(9, 7, 7, 7)]
    found = measure({"a": clock.side("a", durations)}, rounds=3, seconds=0, clock=clock, pause=0)
    assert found["a"].rounds == (3, 2, 7)
    assert found["a"].seconds == 2
    assert found["a"].to_dict() == {"seconds": 2, "rounds": [3, 2, 7]}


def test_the_sides_run_in_turn():
    clock = Clock()
    sides = {name: clock.side(name, [1.0] * 99) for name in "ab"}
    measure(sides, rounds=2, seconds=0, clock=clock, pause=0)
    assert "".join(clock.calls) == "aaa" + "bbb" + "aaaa" + "bbbb" + "aaaa" + "bbbb"


def test_short_calls_are_repeated_until_the_time_is_filled():
    clock = Clock()
    side = clock.side("a", [0.25] * 99)
    measure({"a": side}, rounds=1, seconds=2.0, clock=clock, pause=0)
    assert len(clock.calls) == 2 + 1 + 1 + 8


def test_a_side_may_time_itself():
    found = measure({"a": lambda: 0.25}, rounds=2, seconds=0, clock=Clock(), pause=0)
    assert found["a"].rounds == (0.25, 0.25)


def test_ratios_are_against_the_best_baseline_that_was_measured():
    timings = {"slow": Timing((4.0, 5.0)), "fast": Timing((3.0, 2.0)), "ours": Timing((0.5,))}
    assert ratios(timings, ["slow", "fast", "absent"]) == {"slow": 0.5, "fast": 1.0, "ours": 4.0}
    assert ratios(timings, ["absent"]) == {}


@pytest.mark.parametrize(
    ("values", "says"),
    [({"parts": ("layer",)}, "did you mean 'layers'"), ({"threads": (0,)}, "threads must lie"),
     ({"backends": ("avx",)}, "backend"), ({"size": (8, 64)}, "size must lie"),
     ({"bases": (9,)}, "bases must lie"), ({"bases": ()}, "at least one"),
     ({"device": "tpu"}, "device"), ({"rounds": 0}, "rounds must lie")],
)  # fmt: skip
def test_wrong_options_are_named(values, says):
    with pytest.raises(BinsegError, match=says):
        BenchOptions(**values)
