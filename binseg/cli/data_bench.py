"""`binseg data bench`: how fast images are loaded, and where the time goes."""

from pathlib import Path

from binseg.data.config import DataConfig

RESULT = "loader.json"


def data_bench(
    data: DataConfig,
    workers: str = "0,1,2",
    batches: int = 24,
    images: int = 16,
    rounds: int = 3,
    force: bool = False,
    out: Path | None = None,
) -> int:
    """Time the training loader and the parts of loading and scoring: `binseg data bench --config
    configs/…`.

    The loader is timed from files and, if the training would keep its images in memory, from
    there. The parts run on one thread, without a network. Other programs must rest meanwhile.

    Args:
        data: the data of the training.
        workers: numbers of loader processes, a list with commas.
        batches: training batches that a figure is taken from.
        images: images that the parts are timed on, spread over the split.
        rounds: times that the parts are timed in turn; a figure is the minimum of the
            per-round medians.
        force: measure although other programs are at work; the JSON says so.
        out: folder for loader.json.
    """
    import json
    from contextlib import ExitStack

    from rich.console import Console

    from binseg.atomic import atomic_path
    from binseg.cli.bench import busy, numbers, status

    numbers_of_workers = numbers("workers", workers)
    # seconds of imports that a wrong option need not wait for
    from binseg.bench.loader import LoaderOptions, run_loader_bench
    from binseg.bench.tables import loader_tables
    from binseg.summarize.tables import WIDTH

    options = LoaderOptions(
        workers=numbers_of_workers,
        batches=batches,
        images=images,
        rounds=rounds,
        force=force,
    )
    with ExitStack() as stack:
        # before the measuring: a folder that cannot be written is refused here
        file = None if out is None else stack.enter_context(atomic_path(out / RESULT))
        with status() as on_progress:
            result = run_loader_bench(data, options, on_progress)
        console = Console(width=WIDTH, highlight=False)
        for table in loader_tables(result):
            console.print(table)
        for line in busy(result):
            console.print(line, style="yellow", markup=False)
        if file is not None:
            file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if out is not None:
        print(f"written to {out / RESULT}")
    return 0
