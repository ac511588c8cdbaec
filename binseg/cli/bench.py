"""`binseg bench`: the 1-bit engine beside what else the machine can do."""

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
    backends: str = "auto",
    device: Literal["cpu", "cuda"] = "cpu",
    rounds: int = 7,
    quick: bool = False,
    force: bool = False,
    out: Path | None = None,
) -> int:
    """Measure the 1-bit engine beside fp32, bf16 and int8 on this machine, at batch 1.

    All sides run in turn in one process; a figure is the least of the rounds' medians. Other
    programs must rest meanwhile.

    Args:
        network: model file, or one of `binseg models`, measured beside its full-precision twin;
            left out, groupnet18 with an FCN head at output stride 16 for each of --bases.
        model: options of a network given by name.
        parts: what to measure, a list with commas: layers (3×3 convolutions), block (group block
            of 4 bases), network (picture to class map), size (files), memory (peak of a forward),
            startup (to the first prediction), profile (operators of the packed networks); or all.
        threads: numbers of threads, a list with commas; at most the cores of this machine.
        size: height and width of the picture, in pixels.
        bases: K of the default networks, a list with commas.
        gates: of the default networks, a list with commas of per_branch, shared, none; the first is
            measured in full, the others with int8 layers only.
        classes: of networks that come without a file.
        backends: instruction sets for layers and block, a list with commas of portable, avx2,
            avx512, neon, reference; auto is the fastest here, and AVX2 beside AVX-512.
        device: cuda measures the network part on the GPU.
        rounds: times that all sides are measured in turn.
        quick: three short rounds, for a first look.
        force: measure although other programs are at work; the JSON says so.
        out: folder for bench.json and bench.png.
    """
    import json
    from contextlib import ExitStack

    from rich.console import Console

    from binseg.atomic import atomic_path
    from binseg.bench.options import PARTS, BenchOptions

    options = BenchOptions(
        parts=PARTS if parts == "all" else _names(parts),
        threads=numbers("threads", threads),
        size=size,
        bases=numbers("bases", bases),
        gates=_names(gates),  # type: ignore[arg-type]  # checked there
        classes=classes,
        backends=() if backends == "auto" else _names(backends),
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
        with status() as say:
            result = run_bench(options, **subject, progress=say)
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


def busy(result: dict[str, Any]) -> list[str]:
    """Warnings about other work on the machine."""
    from binseg.bench.idle import MOST_BUSY

    before, during = result["load_before"], result["load_during"]
    took = {"before": before["others"] or 0, "meanwhile": during["others"] or 0}
    if max(took.values()) > MOST_BUSY:
        cores = ", ".join(f"{others:.2f} cores {when}" for when, others in took.items())
        return [f"these figures are worth little: other programs took {cores}"]
    if not before["idle"]:
        return [f"these figures are worth little: the load average was {before['average']:.2f}"]
    return []


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(str(text).strip("[]")))
    except ValueError as error:
        raise BinsegError(f"{option} must be whole numbers like 1,2, not {text}") from error


def status() -> Any:
    """What is being measured, on stderr; it refreshes only when told, to take no time."""
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
