"""What a benchmark measures, and how long."""

from dataclasses import dataclass
from typing import get_args

from binseg.errors import BinsegError, unknown_name
from binseg.machine import cores
from binseg.network_options import Gates

PARTS = ("network", "operators", "size", "memory", "startup")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Numbers and switches of a benchmark.

    Attributes:
        parts: which of `PARTS`: "network" (image to class map), "operators" (of the packed
            networks), "size" (files), "memory" (of a process that segments an image), "startup"
            (of a process, to the first class map).
        threads: numbers of threads; each is measured by itself. No more than there are cores.
        size: height and width of the image, in pixels.
        bases: K of the default networks.
        gates: of the default networks with more than one base: "per_branch", "shared", "none".
        classes: of the default networks.
        device: "cpu" or "cuda"; on a GPU only the network part runs.
        rounds: times that all candidates are measured in turn; the figure is the minimum of the
            per-round medians.
        seconds: that a candidate runs in a round, at least.
        force: measure although other processes are at work.

    Raises:
        BinsegError: a name that is unknown, a number out of range.
    """

    parts: tuple[str, ...] = PARTS
    threads: tuple[int, ...] = (1,)
    size: tuple[int, int] = (480, 640)
    bases: tuple[int, ...] = (1, 2, 4)
    gates: tuple[Gates, ...] = ("per_branch", "none")
    classes: int = 21
    device: str = "cpu"
    rounds: int = 7
    seconds: float = 0.15
    force: bool = False

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise unknown_name("part", part, PARTS)
        for gates in self.gates:
            if gates not in get_args(Gates):
                raise unknown_name("gates", gates, get_args(Gates))
        if not (self.parts and self.threads and self.bases and self.gates):
            raise BinsegError("parts, threads, bases and gates need at least one value each")
        for name, values, low, high in (
            ("bases", self.bases, 1, 8),
            ("size", self.size, 32, 8192),
            ("classes", (self.classes,), 2, 255),
            ("rounds", (self.rounds,), 1, 1000),
            ("seconds", (self.seconds,), 0, 60),
        ):
            for value in values:
                if not low <= value <= high:
                    raise BinsegError(f"{name} must lie in {low} to {high}, not {value:g}")
        if not 1 <= min(self.threads) <= max(self.threads) <= cores():
            raise BinsegError(
                f"threads must lie in 1 to {cores()}, the cores that this process may use, "
                f"not {', '.join(map(str, self.threads))}"
            )
        if self.device not in ("cpu", "cuda"):
            raise unknown_name("device", self.device, ("cpu", "cuda"))
