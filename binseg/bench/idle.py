"""Detection of other work on the machine; a benchmark beside it would be worth nothing."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from binseg.errors import BinsegError

_PROC = Path("/proc")
_WINDOW = 0.5
MOST_BUSY = 0.15
"""Cores' worth of other work that passes; the system itself takes a few hundredths."""


@dataclass(frozen=True)
class Load:
    """What the machine does beside this process.

    Attributes:
        others: processor cores that other processes kept busy, 0 for none; None where the system
            does not tell.
        average: load average of the last minute; what this process did before is in it.
        cores: of the machine.
        seconds: for how long it was watched.
    """

    others: float | None
    average: float | None
    cores: int
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Why the machine is not idle; empty if it is."""
        found = []
        if self.others is not None and self.others > MOST_BUSY:
            found.append(f"other processes keep {self.others:.2f} cores busy")
        if self.average is not None and self.average > self.cores:
            found.append(f"the load average is {self.average:.2f} on {self.cores} cores")
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "idle": not self.faults}


class Watch:
    """Counts what other processes do from now on.

    Args:
        proc: where the system's counters are.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._began = time.monotonic()
        self._first = _counters(proc)

    def load(self) -> Load:
        """Since the watch was made."""
        seconds = time.monotonic() - self._began
        cores = os.cpu_count() or 1
        last = _counters(self._proc)
        others = None
        if self._first is not None and last is not None and last.ticks > self._first.ticks:
            busy = (last.busy - self._first.busy) - (last.own - self._first.own)
            others = max(0.0, busy / (last.ticks - self._first.ticks) * last.cores)
        return Load(others, _average(self._proc), cores, seconds)


def check_idle(*, force: bool, proc: Path = _PROC, window: float = _WINDOW) -> Load:
    """Watch the machine for `window` seconds.

    Raises:
        BinsegError: something else is at work, and not `force`.
    """
    watch = Watch(proc)
    time.sleep(window)
    load = watch.load()
    if load.faults and not force:
        raise BinsegError(
            f"the machine is busy ({'; '.join(load.faults)}), so figures would be wrong; wait, "
            "or add --force"
        )
    return load


@dataclass(frozen=True)
class _Counters:
    """Ticks of all cores together, those at work, and those of this process and its children."""

    ticks: int
    busy: int
    own: int
    cores: int


def _counters(proc: Path) -> _Counters | None:
    """None where there is no such file, or another one than Linux writes."""
    try:
        lines = (proc / "stat").read_text().splitlines()
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, lines[0].split()[1:9])
        own = (proc / "self" / "stat").read_text().rpartition(")")[2].split()
        mine = sum(map(int, own[11:15]))  # utime, stime, cutime, cstime
    except (OSError, ValueError, IndexError):
        return None
    busy = user + nice + system + irq + softirq + steal
    cores = sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)
    return _Counters(busy + idle + iowait, busy, mine, max(1, cores))


def _average(proc: Path) -> float | None:
    try:
        return float((proc / "loadavg").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
