"""Runs the parts of a benchmark one after another and gathers what they find."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from binseg.bench.contest import Contest, contest_of, default_contest
from binseg.bench.files import measure_files, write_files
from binseg.bench.fresh import measure_memory, measure_startup
from binseg.bench.idle import Watch, check_idle
from binseg.bench.layers import SHAPES, measure_blocks, measure_layers
from binseg.bench.machine import describe
from binseg.bench.network import measure_networks, onnx_files
from binseg.bench.options import BenchOptions
from binseg.bench.timing import threads
from binseg.data.label_table import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.segmenter import Segmenter
from binseg.summarize import time_operators
from binseg.summarize.timing import real_time_share

FORMAT = 1
_NETWORK_PARTS = {"network", "size", "memory", "startup", "profile"}
_PROFILE_PASSES = 10


def run_bench(
    options: BenchOptions,
    model: Segmenter | None = None,
    *,
    title: str = "",
    labels: LabelTable | None = None,
    preprocessing: Preprocessing | None = None,
    trained: bool = False,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure what `options` asks for.

    Args:
        options: see there.
        model: the network to measure beside its twin; None for Group-Net/ResNet-18 with each of
            `options.bases`.
        title: what tables call the model.
        labels, preprocessing: the model's, if it comes from a file.
        trained: whether the model's weights mean something; if not, its BatchNorms are changed.
        progress: told what is being measured.

    Returns:
        JSON values: what it ran on and a key for each part. Times are in seconds; a side's figure
        is the least of its rounds' medians.

    Raises:
        BinsegError: the machine is busy, has no such device, or the model cannot be packed.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BinsegError("torch sees no CUDA device; leave --device cuda out")
    if options.device == "cuda" and "network" not in options.parts:
        raise BinsegError("on a GPU only the network part runs; add it to --parts")
    before = check_idle(force=options.force)
    watch = Watch()
    notes: list[str] = []
    result: dict[str, Any] = {
        "format": FORMAT,
        **describe(options.device),
        "options": asdict(options),
        "load_before": before.to_dict(),
    }
    parts = set(options.parts)
    if options.device == "cuda":
        parts &= {"network"}
    contest = None
    # before anything that takes minutes: a network that cannot be packed is refused here
    if parts & _NETWORK_PARTS:
        progress("packing")
        if model is None:
            contest = default_contest(options)
        else:
            contest = contest_of(
                title,
                model,
                options,
                labels=labels,
                preprocessing=preprocessing,
                trained=trained,
            )
    if "layers" in parts:
        result["layers"] = list(measure_layers(options, notes, progress, SHAPES))
    if "block" in parts:
        result["block"] = list(measure_blocks(options, progress, SHAPES))
    if contest is not None:
        result["network"] = {"title": contest.title, "packed": list(contest.packed)}
        result |= _network_parts(contest, parts, options, notes, progress)
    result["load_during"] = watch.load().to_dict()
    result["notes"] = notes
    return result


def _network_parts(
    contest: Contest,
    parts: set[str],
    options: BenchOptions,
    notes: list[str],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="binseg-bench-") as name:
        folder = Path(name)
        onnx: dict[str, Path] = {}
        if parts & {"network", "size"} and options.device == "cpu":
            progress("int8 calibration")
            onnx = onnx_files(contest.twin, contest.pictures, folder, notes)
        if "network" in parts:
            result["networks"] = list(measure_networks(contest, onnx, options, progress))
        if "profile" in parts:
            result["profile"] = _profiles(contest, options, progress)
        if parts & {"size", "memory", "startup"}:
            progress("writing files")
            files = write_files(contest, folder, onnx)
            if "size" in parts:
                result["size"] = measure_files(files)
            if "memory" in parts:
                result["memory"] = measure_memory(files, list(contest.packed), options, progress)
            if "startup" in parts:
                side = list(contest.packed)[-1]
                result["startup"] = {
                    "side": side,
                    "processes": measure_startup(files[side], options, progress),
                }
    return result


def _profiles(
    contest: Contest, options: BenchOptions, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Side → its operators' times on the first number of threads."""
    found = {}
    for name, packed in contest.packed.items():
        progress(f"profile, {name}")
        with threads(options.threads[0]):
            times, whole = time_operators(packed, contest.picture, passes=_PROFILE_PASSES)
        found[name] = {
            "threads": options.threads[0],
            "seconds": whole,
            "real_share": real_time_share(times),
            "operators": [asdict(each) for each in times],
        }
    return found
