"""Measurements that need a process of their own: peak memory, and the way to a first prediction."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from binseg.bench.files import TWIN
from binseg.bench.options import BenchOptions
from binseg.bench.timing import Timing
from binseg.errors import BinsegError

_LIMIT = 600  # seconds that a process may take

_IMPORT = "import torch"
_LOAD = "import torch, sys, binseg; binseg.load(sys.argv[1])"
_FIRST = """
import sys, numpy, torch, binseg
torch.set_num_threads(int(sys.argv[4]))
picture = numpy.zeros((int(sys.argv[2]), int(sys.argv[3]), 3), numpy.uint8)
binseg.Predictor(sys.argv[1], device="cpu")(picture)
"""


def measure_memory(
    files: dict[str, Path],
    packed: list[str],
    options: BenchOptions,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Peak memory of one forward, in a fresh process each.

    Args:
        files: side → model file, with the twin's.
        packed: the packed ones among them.
        options: picture's size and threads (the first number of them).
        progress: told what is being measured.

    Returns:
        Side → bytes resident after loading ("before"), "peak", and "growth" between the two;
        the twin with torch's own upsampling and in strips.
    """
    sides = {f"{TWIN}, {finish}": (files[TWIN], finish) for finish in ("torch", "strips")}
    sides |= {name: (files[name], "strips") for name in packed}
    found = {}
    for name, (path, finish) in sides.items():
        progress(f"memory, {name}")
        arguments = [str(path), *map(str, options.size), str(options.threads[0]), finish]
        output = run_python(["-m", "binseg.bench.probe", *arguments])
        found[name] = json.loads(output.splitlines()[-1])
    least = min(found[f"{TWIN}, {finish}"]["growth"] for finish in ("torch", "strips"))
    for figures in found.values():
        figures["share_of_twin"] = figures["growth"] / max(1, least)
    return found


def measure_startup(
    path: Path, options: BenchOptions, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Seconds of whole processes, in turn: importing torch, opening the file, a first prediction.

    The prediction goes through `binseg.Predictor`, from a picture in memory to its class map.

    Returns:
        Timings of the three, and how much longer than importing torch the last two take.
    """
    arguments = [str(path), *map(str, options.size), str(options.threads[0])]
    scripts = {"import torch": _IMPORT, "load": _LOAD, "first prediction": _FIRST}
    run_python(["-c", _FIRST, *arguments])
    rounds = min(5, options.rounds)
    times: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(rounds):
        for name, script in scripts.items():
            progress(f"start-up, {name}")
            began = time.perf_counter()
            run_python(["-c", script, *arguments])
            times[name].append(time.perf_counter() - began)
    timings = {name: Timing(tuple(values)) for name, values in times.items()}
    base = timings["import torch"].seconds
    return {
        name: {**timing.to_dict(), "beyond_torch": timing.seconds - base}
        for name, timing in timings.items()
    }


def run_python(arguments: list[str]) -> str:
    """What a fresh Python prints.

    Raises:
        BinsegError: it fails; the message is its last line.
    """
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        env=environment,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BinsegError(f"a process of the benchmark failed ({reason[:200]}); run binseg doctor")
    return done.stdout
