"""Measurements in processes of their own: the memory of an image, and the time to a class map."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from binseg.bench.options import BenchOptions
from binseg.bench.timing import Timing
from binseg.errors import BinsegError
from binseg.inference.packed import is_program
from binseg.model_file import read_header
from binseg.runtime.build import FOLDER

_LIMIT = 600  # seconds that a process may take
_ROUNDS = 5

_FIRST = """
import sys, numpy, binseg
predictor = binseg.Predictor(sys.argv[1], device="cpu", threads=int(sys.argv[4]))
predictor(numpy.zeros((int(sys.argv[2]), int(sys.argv[3]), 3), numpy.uint8))
"""
_MEMORY = """
import json, sys, numpy, binseg
from binseg.bench.resident import peak_bytes, start_counting
predictor = binseg.Predictor(sys.argv[1], device="cpu", threads=int(sys.argv[4]))
predictor(numpy.zeros((64, 64, 3), numpy.uint8))  # libraries are loaded before the count begins
before = start_counting()
predictor(numpy.zeros((int(sys.argv[2]), int(sys.argv[3]), 3), numpy.uint8))
print(json.dumps({"before": before, "peak": peak_bytes()}))
"""


def measure_memory(
    files: dict[str, Path], options: BenchOptions, on_progress: Callable[[str], None]
) -> dict[str, Any]:
    """Bytes resident in a process that opened a model file ("before"), and the peak while it
    segments an image.

    Args:
        files: name → model file.
        options: the image's size, and threads (the first number of them).
        on_progress: receives what is being measured.
    """
    found = {}
    for name, path in files.items():
        on_progress(f"memory, {name}")
        output = _run([sys.executable, "-c", _MEMORY, *_arguments(path, options)], options)
        found[name] = json.loads(output.splitlines()[-1])
    return found


def measure_startup(
    files: dict[str, Path], options: BenchOptions, on_progress: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of whole processes, in turn: from nothing to the class map of an image in memory.

    Beside them, where it has been built, `binseg-run`, which needs no Python and reads a file.
    """
    commands = {
        name: [sys.executable, "-c", _FIRST, *_arguments(path, options)]
        for name, path in files.items()
    }
    native = FOLDER / "binseg-run"
    if native.is_file():
        height, width = options.size
        for name, path in files.items():
            if is_program(read_header(path)):
                image, out = path.with_suffix(".ppm"), path.with_suffix(".pgm")
                image.write_bytes(b"P6 %d %d 255\n" % (width, height) + bytes(3 * height * width))
                commands[f"{name}, binseg-run"] = [str(native), str(path), str(image), str(out)]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for index in range(min(_ROUNDS, options.rounds) + 1):
        for name, command in commands.items():
            on_progress(f"start-up, {name}")
            began = time.perf_counter()
            _run(command, options)
            if index:  # the first brings the files into the system's cache
                times[name].append(time.perf_counter() - began)
    return {name: Timing(tuple(values)).to_dict() for name, values in times.items()}


def _arguments(path: Path, options: BenchOptions) -> list[str]:
    return [str(path), *map(str, options.size), str(options.threads[0])]


def _run(command: list[str], options: BenchOptions) -> str:
    """What a process prints.

    Raises:
        BinsegError: it fails; the message is its last line.
    """
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(options.threads[0]),  # torch's, too
    }
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT, env=environment, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BinsegError(f"a process of the benchmark failed ({reason[:200]}); run binseg doctor")
    return done.stdout
