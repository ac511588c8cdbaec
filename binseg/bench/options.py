"""What a benchmark measures, and how long."""

from dataclasses import dataclass
from typing import get_args

from binseg.errors import BinsegError, unknown_name
from binseg.machine import cores
from binseg.nn.backbones.groupnet import Gates
from binseg.program.executor import backends

PARTS = ("layers", "block", "network", "size", "memory", "startup", "profile")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Numbers and switches of a benchmark.

    Attributes:
        parts: which of `PARTS`: "layers" (3×3 convolutions), "block" (group block of 4 bases),
            "network" (picture to class map), "size" (files), "memory" (peak of a forward),
            "startup" (to the first prediction), "profile" (operators of the packed network).
        threads: numbers of threads; each is measured by itself. No more than there are cores.
        size: height and width of the picture, in pixels.
        bases: K of the default networks.
        gates: of the default networks: "per_branch", "shared", "none". The first is measured with
            every arithmetic of the other layers, the others with int8 and more than one base.
        classes: of the default networks.
        backends: of the layers and block parts, see `binseg.program.executor.backends`; empty for
            the fastest, and AVX2 beside AVX-512.
        device: "cpu" or "cuda"; on a GPU only the network part runs.
        rounds: times that all sides are measured in turn; the figure is the least of the rounds'
            medians.
        seconds: that a side runs in a round, at least.
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
    backends: tuple[str, ...] = ()
    device: str = "cpu"
    rounds: int = 7
    seconds: float = 0.15
    force: bool = False

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise unknown_name("part", part, PARTS)
        for backend in self.backends:
            if backend not in backends():
                raise unknown_name("backend", backend, backends())
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
