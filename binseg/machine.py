"""What this machine is: its processor, its cores, where binseg keeps what it makes for later."""

import os
import platform
from pathlib import Path

from binseg.errors import BinsegError

CACHE = "BINSEG_CACHE"


def processor() -> str:
    """The processor's name, for people."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder() -> Path:
    """$BINSEG_CACHE, or $XDG_CACHE_HOME/binseg, or ~/.cache/binseg.

    Raises:
        BinsegError: none of them is set, and the user has no home.
    """
    if named := os.environ.get(CACHE):
        return Path(named).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "binseg"
    except RuntimeError as error:
        raise BinsegError(f"this user has no home to keep files in; set {CACHE}") from error
