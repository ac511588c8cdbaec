"""The processor's clock, from a chain of additions that each wait for the one before."""

import ctypes
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from binseg.errors import BinsegError
from binseg.kernels import build

_STEPS, _REPEATS = 1_000_000, 200  # short enough to fit between two interruptions
_PER_LOOP = 20
_ADDITION = {"x86_64": "add $1, %0", "aarch64": "add %0, %0, #1"}

_SOURCE = """
void chain(long loops) {{
    long x = 0;
    while (loops-- > 0) {{
        __asm__ volatile("{additions}" : "+r"(x));
    }}
}}
"""

WALL_MACS = 512 / 1.5
"""1-bit products a clock and core: a 512-bit step of xor, popcnt and add takes 1.5 clocks on a
processor with two 512-bit pipes that all three share (measured on Zen 4)."""


def measure_clock() -> float | None:
    """Hertz of the core that this runs on, at work; None without a compiler."""
    addition = _ADDITION.get(platform.machine().lower())
    if addition is None:
        return None
    source = _SOURCE.format(additions="\\n".join([addition] * _PER_LOOP))
    try:
        command, _ = build.find_compiler()
        with tempfile.TemporaryDirectory() as folder:
            path, library = Path(folder) / "clock.c", Path(folder) / "clock.so"
            path.write_text(source)
            subprocess.run(
                [*command, "-x", "c", "-O1", "-shared", "-fPIC", str(path), "-o", str(library)],
                check=True,
                capture_output=True,
                timeout=60,
            )
            chain = ctypes.CDLL(str(library)).chain
    except (BinsegError, OSError, subprocess.SubprocessError):
        return None
    chain.argtypes, chain.restype = [ctypes.c_long], None
    best = float("inf")
    for _ in range(_REPEATS):
        began = time.perf_counter()
        chain(_STEPS // _PER_LOOP)
        best = min(best, time.perf_counter() - began)
    return _STEPS / best
