"""Runs the parts of a benchmark one after another and gathers what they find."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from binseg.bench.candidates import (
    Candidate,
    Int8Twin,
    int8_twin,
    packed_candidates,
    torch_candidates,
)
from binseg.bench.idle import Watch, check_idle
from binseg.bench.machine import describe
from binseg.bench.options import BenchOptions
from binseg.bench.processes import measure_memory, measure_startup
from binseg.bench.subject import TWIN, Subject, default_subject, subject_of
from binseg.bench.timing import Timing, measure, threads
from binseg.data.label_table import LabelTable
from binseg.data.preprocess import Preprocessing, network_input
from binseg.errors import BinsegError
from binseg.inference.packed import PackedNetwork
from binseg.nn.segmenter import Segmenter
from binseg.summarize.timing import real_time_share, time_operators

FORMAT = 2


def run_bench(
    options: BenchOptions,
    model: Segmenter | None = None,
    *,
    title: str = "",
    labels: LabelTable | None = None,
    preprocessing: Preprocessing | None = None,
    trained: bool = False,
    on_progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure what `options` asks for.

    Args:
        options: see there.
        model: the network to measure beside its twin; None for Group-Net/ResNet-18 with each of
            `options.bases`.
        title: what tables call the model.
        labels, preprocessing: the model's, if it comes from a file.
        trained: whether the model's weights mean something; if not, its BatchNorms are changed.
        on_progress: receives what is being measured.

    Returns:
        JSON values: what it ran on and a key for each part. Times are in seconds; a candidate's
        figure is the minimum of its per-round medians.

    Raises:
        BinsegError: the machine is busy, has no such device, or the model cannot be packed.
    """
    parts = set(options.parts)
    if options.device == "cuda":
        if not torch.cuda.is_available():
            raise BinsegError("torch sees no CUDA device; leave --device cuda out")
        if "network" not in parts:
            raise BinsegError("on a GPU only the network part runs; add it to --parts")
        parts = {"network"}
    before = check_idle(force=options.force)
    watch = Watch()
    on_progress("packing")
    if model is None:
        subject = default_subject(options)
    else:
        subject = subject_of(
            title,
            model,
            options,
            labels=labels,
            preprocessing=preprocessing,
            trained=trained,
        )
    result: dict[str, Any] = {
        "format": FORMAT,
        **describe(options.device),
        "options": asdict(options),
        "load_before": before.to_dict(),
        "subject": {"title": subject.title, "packed": list(subject.packed)},
        "notes": [],
    }
    with tempfile.TemporaryDirectory(prefix="binseg-bench-") as folder:
        result |= _measured(subject, parts, options, Path(folder), result["notes"], on_progress)
    result["load_during"] = watch.load().to_dict()
    return result


def _measured(
    subject: Subject,
    parts: set[str],
    options: BenchOptions,
    folder: Path,
    notes: list[str],
    on_progress: Callable[[str], None],
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    files = subject.write(folder)
    int8 = Int8Twin(subject.preprocessing, {}, {}, ())
    if parts & {"network", "size"} and options.device == "cpu":
        on_progress("8-bit quantization of the twin")
        int8 = int8_twin(
            subject.twin, subject.labels, subject.preprocessing, subject.images, folder
        )
        notes.extend(int8.notes)
    if "network" in parts:
        result["networks"] = [
            _timed(subject, files, int8, number, options, on_progress) for number in options.threads
        ]
    if "operators" in parts:
        result["operators"] = _operators(subject, options, on_progress)
    if "size" in parts:
        sizes = {name: path.stat().st_size for name, path in files.items()} | int8.bytes
        result["size"] = {
            name: {"bytes": size, "times_smaller": sizes[TWIN] / size}
            for name, size in sizes.items()
        }
    if "memory" in parts:
        result["memory"] = measure_memory(files, options, on_progress)
    if "startup" in parts:
        result["startup"] = measure_startup(files, options, on_progress)
    return result


def _timed(
    subject: Subject,
    files: dict[str, Path],
    int8: Int8Twin,
    number: int,
    options: BenchOptions,
    on_progress: Callable[[str], None],
) -> dict[str, Any]:
    """All candidates in turn, on `number` threads."""
    device = options.device
    with threads(number):
        candidates = torch_candidates(subject.twin, subject.preprocessing, device)
        if device == "cpu":
            upsampler = PackedNetwork(files[next(iter(subject.packed))], threads=number).native
            candidates |= int8.candidates(number, options.size, upsampler)
        for name in subject.packed:
            candidates |= packed_candidates(name, files[name], number, device)
        image = subject.images[0]
        timings = measure(
            {name: _call(each, image) for name, each in candidates.items()},
            rounds=options.rounds,
            seconds=options.seconds,
            on_progress=on_progress,
        )
    kinds = {name: each.kind for name, each in candidates.items()}
    return {
        "threads": number,
        "device": device,
        "image": list(options.size),
        "network_sees": list(subject.preprocessing.target_size(*options.size)),
        "candidates": {
            name: {"kind": kinds[name], **timing.to_dict()} for name, timing in timings.items()
        },
        "times_faster": {kind: times_faster(timings, kinds, kind) for kind in ("fp32", "int8")},
    }


def _operators(
    subject: Subject, options: BenchOptions, on_progress: Callable[[str], None]
) -> dict[str, Any]:
    """Each packed network's operators, slowest first, on the first number of threads."""
    found = {}
    image = network_input(subject.images[0], subject.preprocessing)
    with threads(options.threads[0]):
        for name, packed in subject.packed.items():
            on_progress(f"operators, {name}")
            times, whole = time_operators(packed, image)
            found[name] = {
                "threads": options.threads[0],
                "instruction_set": packed.executor.backend,
                "seconds": whole,
                "real_share": real_time_share(times),
                "operators": [asdict(each) for each in times],
            }
    return found


def _call(candidate: Candidate, image: Any) -> Callable[[], object]:
    return lambda: candidate.segment(image)


def times_faster(timings: dict[str, Timing], kinds: dict[str, Any], kind: str) -> dict[str, float]:
    """How many times faster each candidate is than the fastest of a kind; empty without one."""
    baselines = [timing.seconds for name, timing in timings.items() if kinds[name] == kind]
    if not baselines:
        return {}
    return {name: min(baselines) / timing.seconds for name, timing in timings.items()}
