"""A process of its own that loads a model file and says what memory a forward pass takes.

    python -m binseg.bench.probe FILE HEIGHT WIDTH THREADS FINISH

FINISH is "torch" or "strips", see `binseg.bench.network`; a packed network has its own. Prints
JSON: bytes resident after loading, the peak, and the difference.
"""

import contextlib
import ctypes
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

_WARM_UP = 64  # pixels a side: libraries are loaded before the count begins


def main(arguments: list[str]) -> None:
    """Measure and print; see the module's text."""
    from binseg.compiler.packed import PackedSegmenter
    from binseg.loaded import load

    path, height, width, threads, finish = arguments
    torch.set_num_threads(int(threads))
    model = load(path).model
    run: Callable[[torch.Tensor], torch.Tensor]
    if isinstance(model, PackedSegmenter):
        run = model.class_map
    else:
        run = _twin(model.to(memory_format=torch.channels_last), finish)
    picture = torch.zeros((1, 3, int(height), int(width)))
    with torch.inference_mode():
        run(torch.zeros((1, 3, _WARM_UP, _WARM_UP)))
        before = start_counting()
        run(picture)
        peak = peak_bytes()
    print(json.dumps({"before": before, "peak": peak, "growth": max(0, peak - before)}))


def _twin(model: torch.nn.Module, finish: str) -> Callable[[torch.Tensor], torch.Tensor]:
    from binseg.bench.network import FINISHES
    from binseg.bench.onnx_twin import ScoresOnly
    from binseg.nn.segmenter import BackboneSegmenter

    assert isinstance(model, BackboneSegmenter)
    scores = ScoresOnly(model).eval()
    end = FINISHES[finish]
    return lambda x: end(scores(x), (x.shape[2], x.shape[3]))


def start_counting() -> int:
    """Forget the peak so far; returns the bytes resident now."""
    with contextlib.suppress(AttributeError, OSError):
        # what loading has freed would otherwise hide what the forward takes
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


if __name__ == "__main__":
    main(sys.argv[1:])
