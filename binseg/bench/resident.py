"""Peak resident memory of this process."""

import contextlib
import ctypes
import resource
import sys
from pathlib import Path


def start_counting() -> int:
    """Forget the peak so far; returns the bytes resident now."""
    with contextlib.suppress(AttributeError, OSError):
        # what loading has freed would otherwise hide what an image takes
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """Most bytes resident at once since `start_counting`, or where the system cannot start anew,
    since the process began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int | None:
    """A line of /proc/self/status, in bytes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
