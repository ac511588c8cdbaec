"""`binseg bench`: 1-bit networks beside what else the machine can do."""

from pathlib import Path
from typing import Any, Literal

from binseg.errors import BinsegError
from binseg.training.config import ModelConfig

RESULT, CHART = "bench.json", "bench.png"


def bench(
    network: str | None = None,
    model: ModelConfig = ModelConfig(),  # noqa: B008 - the parser only reads its fields
    parts: str = "all",
    threads: str = "1",
    size: tuple[int, int] = (480, 640),
    bases: str = "1,2,4",
    gates: str = "per_branch,none",
    classes: int = 21,
    isa: Literal["best", "avx512", "avx2", "portable"] = "best",
    device: Literal["cpu", "cuda"] = "cpu",
    rounds: int = 7,
    quick: bool = False,
    force: bool = False,
    out: Path | None = None,
) -> int:
    """Time 1-bit networks beside their full-precision twin in fp32, bf16 and int8 on this machine.

    From an image's bytes to its class map, one image at a time. All candidates run in turn in one
    process; a figure is the minimum of the per-round medians. Other programs must rest meanwhile.

    Args:
        network: model file, run folder, shipped name or architecture, measured beside its
            full-precision twin; without one, groupnet18 with an FCN head at output stride 16 for
            each of --bases.
        model: options of a network given by name.
        parts: what to measure, a list with commas: network (image to class map), operators (of the
            packed networks), size (files), memory (of a process that segments an image), startup
            (of a process, to the first class map); or all.
        threads: numbers of threads, a list with commas; at most the cores of this machine.
        size: height and width of the image, in pixels.
        bases: K of the default networks, a list with commas.
        gates: gates of the default networks, a list with commas of per_branch, shared, none.
        classes: number of classes of networks that come without a file.
        isa: hold binseg and oneDNN (torch, OpenVINO) to an instruction set; avx512 is AVX-512 with
            VNNI, without AMX. ONNX Runtime cannot be held.
        device: cuda measures the network part on the GPU.
        rounds: times that all candidates are measured in turn.
        quick: three short rounds, for a first look.
        force: measure although other programs are at work; the JSON says so.
        out: folder for bench.json and bench.png.
    """
    import json
    from contextlib import ExitStack

    from rich.console import Console

    _hold_to(isa)
    from binseg.atomic import atomic_path
    from binseg.bench.options import PARTS, BenchOptions

    options = BenchOptions(
        parts=PARTS if parts == "all" else _names(parts),
        threads=numbers("threads", threads),
        size=size,
        bases=numbers("bases", bases),
        gates=_names(gates),  # type: ignore[arg-type]  # checked there
        classes=classes,
        device=device,
        rounds=min(rounds, 3) if quick else rounds,
        seconds=0.05 if quick else BenchOptions.seconds,
        force=force,
    )
    # seconds of imports that a wrong option need not wait for
    from binseg.bench.chart import draw
    from binseg.bench.run import run_bench
    from binseg.bench.tables import tables
    from binseg.cli.network import open_network
    from binseg.summarize.tables import WIDTH

    subject: dict[str, Any] = {}
    if network is not None or model != ModelConfig():
        found = open_network(network, model, classes)
        subject = {
            "model": found.model,
            "title": found.title,
            "labels": found.labels,
            "preprocessing": found.preprocessing,
            "trained": found.labels is not None,
        }
    with ExitStack() as stack:
        # before minutes of measuring: a folder that cannot be written is refused here
        file = None if out is None else stack.enter_context(atomic_path(out / RESULT))
        with status() as on_progress:
            result = run_bench(options, **subject, on_progress=on_progress)
        console = Console(width=WIDTH, highlight=False)
        for table in tables(result):
            console.print(table)
        for line in [*busy(result), *result["notes"]]:
            console.print(line, style="yellow", markup=False)
        if file is not None:
            file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if out is not None:
        draw(result, out / CHART)
        print(f"written to {out}")
    return 0


ISA_LIMITS = {
    "avx512": {"BINSEG_ISA": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "avx2": {"BINSEG_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "portable": {"BINSEG_ISA": "portable"},
}
"""Instruction set → the environment that holds all runtimes to it, read when they are loaded."""


def _hold_to(isa: str) -> None:
    """Limit what libraries use that read the environment when they are loaded."""
    import os

    os.environ.update(ISA_LIMITS.get(isa, {}))


def busy(result: dict[str, Any]) -> list[str]:
    """Warnings about other work on the machine."""
    from binseg.bench.idle import MOST_BUSY

    before, during = result["load_before"], result["load_during"]
    took = {"before": before["others"] or 0, "meanwhile": during["others"] or 0}
    if max(took.values()) > MOST_BUSY:
        cores = ", ".join(f"{others:.2f} cores {when}" for when, others in took.items())
        return [f"warning: unreliable timings: other programs took {cores}"]
    if not before["idle"]:
        return [f"warning: unreliable timings: the load average was {before['average']:.2f}"]
    return []


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(str(text).strip("[]")))
    except ValueError as error:
        raise BinsegError(f"{option} must be integers like 1,2, not {text}") from error


def status() -> Any:
    """What is being measured, on stderr; it refreshes only when called, to take no time."""
    import sys
    from contextlib import contextmanager

    @contextmanager
    def shown() -> Any:
        if not sys.stderr.isatty():
            yield lambda what: None
            return
        try:
            yield lambda what: print(f"\r\x1b[K{what[:90]}", end="", file=sys.stderr, flush=True)
        finally:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    return shown()
