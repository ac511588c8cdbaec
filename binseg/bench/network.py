"""Whole networks: picture tensor in, uint8 class map of the picture's size out."""

import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.bench.contest import Contest
from binseg.bench.machine import has_bf16
from binseg.bench.onnx_layer import session
from binseg.bench.onnx_twin import OnnxScores, ScoresOnly, write_int8, write_onnx
from binseg.bench.options import BenchOptions
from binseg.bench.timing import measure, ratios, threads
from binseg.evaluation.upsample import upsampled_argmax
from binseg.nn.segmenter import BackboneSegmenter

FP32 = ["fp32 NCHW", "fp32 channels_last"]
INT8 = ["int8 ONNX Runtime"]

Scores = Callable[[Tensor], Tensor]
Finish = Callable[[Tensor, tuple[int, int]], Tensor]


def by_torch(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Class map of logits (N, C, h, w) by bilinear upsampling and argmax: uint8 (N, *size)."""
    wide = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
    return wide.argmax(dim=1).to(torch.uint8)


def by_strips(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The same in strips of rows that stay in the cache."""
    maps = [torch.from_numpy(upsampled_argmax(each, size)) for each in scores]
    return torch.stack(maps)


FINISHES: dict[str, Finish] = {"torch": by_torch, "strips": by_strips}


def onnx_files(
    twin: BackboneSegmenter, pictures: Sequence[Tensor], folder: Path, notes: list[str]
) -> dict[str, Path]:
    """A full-precision network as ONNX files in `folder`, fp32 and int8, or what could be made.

    Args:
        twin: in eval mode.
        pictures: normalised, float32 (1, 3, H, W), all of the size that the files are for; the
            int8 file's ranges are measured on them.
        folder: for `twin.onnx` and `twin_int8.onnx`.
        notes: takes a line about what could not be made.

    Returns:
        Name of a side → file.
    """
    files: dict[str, Path] = {}
    try:
        write_onnx(twin, pictures[0], folder / "twin.onnx")
        files["fp32 ONNX Runtime"] = folder / "twin.onnx"
        write_int8(folder / "twin.onnx", pictures, folder / "twin_int8.onnx")
        files["int8 ONNX Runtime"] = folder / "twin_int8.onnx"
    except ImportError as error:
        notes.append(f"ONNX Runtime: not measured ({error}); pip install 'binseg[export]'")
    except Exception as error:  # the exporter and the quantizer raise whatever they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        notes.append(f"ONNX Runtime: not measured, the export failed ({reason[:200]})")
    return files


def measure_networks(
    contest: Contest,
    onnx: dict[str, Path],
    options: BenchOptions,
    progress: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """All sides in turn, for each number of threads.

    Every side starts from a float32 picture in the memory format it likes best, and ends in a
    class map by the faster of `FINISHES`; the JSON says which.

    Args:
        contest: the networks.
        onnx: files from `onnx_files`.
        options: how long, with how many threads, on which device.
        progress: told what is being measured.

    Yields:
        JSON values for each number of threads.
    """
    device = torch.device(options.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for number in options.threads:
        with threads(number), torch.inference_mode():
            sides: dict[str, Callable[[], object]] = {}
            finishes: dict[str, str] = {}
            rivals = _twins(contest, device)
            if device.type == "cpu":
                rivals |= {
                    name: (OnnxScores(session(str(path), number)), contest.picture)
                    for name, path in onnx.items()
                }
            for name, (scores, picture) in rivals.items():
                finishes[name] = faster_finish(scores(picture), options.size, wait)
                sides[name] = _side(scores, picture, FINISHES[finishes[name]], wait)
            for name, packed in contest.packed.items():
                picture = contest.picture.to(device)
                sides[name] = _packed_side(packed.to(device).class_map, picture, wait)
                finishes[name] = "fused"
            timings = measure(
                sides, rounds=options.rounds, seconds=options.seconds, progress=progress
            )
            yield {
                "threads": number,
                "device": options.device,
                "picture": list(options.size),
                "sides": {
                    name: {**timing.to_dict(), "finish": finishes[name]}
                    for name, timing in timings.items()
                },
                "speedup_over_fp32": ratios(timings, FP32),
                "speedup_over_int8": ratios(timings, INT8),
            }
    for packed in contest.packed.values():
        packed.to("cpu")


def _twins(contest: Contest, device: torch.device) -> dict[str, tuple[Scores, Tensor]]:
    """Name → network up to its scores, and the picture as it likes it."""
    last = torch.channels_last
    forms = {
        "fp32 NCHW": (torch.float32, torch.contiguous_format),
        "fp32 channels_last": (torch.float32, last),
        "bf16 channels_last": (torch.bfloat16, last),
    }
    if device.type == "cuda":
        forms["fp16 channels_last"] = (torch.float16, last)
    elif not has_bf16():
        del forms["bf16 channels_last"]
    found: dict[str, tuple[Scores, Tensor]] = {}
    for name, (dtype, form) in forms.items():
        # a copy of its own: to() would change the weights that the sides share
        own = deepcopy(ScoresOnly(contest.twin)).to(device, dtype).to(memory_format=form)
        picture = contest.picture.to(device).contiguous(memory_format=form)
        found[name] = (_in(own, dtype), picture)
    return found


def _in(network: ScoresOnly, dtype: torch.dtype) -> Scores:
    return lambda picture: network(picture.to(dtype))


def _side(
    scores: Scores, picture: Tensor, finish: Finish, wait: Callable[[], None]
) -> Callable[[], object]:
    size = (picture.shape[2], picture.shape[3])

    def run() -> object:
        class_map = finish(scores(picture), size)
        wait()
        return class_map

    return run


def _packed_side(
    class_map: Scores, picture: Tensor, wait: Callable[[], None]
) -> Callable[[], object]:
    def run() -> object:
        found = class_map(picture)
        wait()
        return found

    return run


def faster_finish(
    scores: Tensor, size: tuple[int, int], wait: Callable[[], None] = lambda: None
) -> str:
    """Which of `FINISHES` is faster for such logits on this machine."""
    seconds = {}
    for name, finish in FINISHES.items():
        times = []
        for _ in range(4):
            began = time.perf_counter()
            finish(scores, size)
            wait()
            times.append(time.perf_counter() - began)
        seconds[name] = min(times[1:])
    return min(seconds, key=lambda name: seconds[name])
