"""The quickstart's network and its twin for the demo, trained once and kept."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from json import JSONDecodeError, loads
from pathlib import Path
from threading import Thread

from binseg.compiler.pack import pack
from binseg.loaded import load, save
from binseg.nn.backbones.groupnet import Precision
from binseg.nn.segmenter import Segmenter
from binseg.quickstart import quickstart_experiment
from binseg.training.config import Experiment
from binseg.training.reporting import HISTORY
from binseg.training.run import train

_POLL = 0.5  # seconds between two looks at a training's history


def quickstart_files(folder: Path) -> tuple[Path, Path]:
    """Where `quickstart_models` keeps the packed network and the twin; they need not be there."""
    return folder / "quickstart.safetensors", folder / "quickstart.twin.safetensors"


def quickstart_models(
    folder: Path,
    report: Callable[[float, str], None],
    experiment: Experiment | None = None,
) -> tuple[Path, Path]:
    """Find the quickstart's network and its full-precision twin, or train them, once.

    A training that was stopped goes on from its last epoch.

    Args:
        folder: keeps the two files, and the run folders beside them.
        report: takes the share that is done, in [0, 1], and a line about it; called in this
            thread.
        experiment: the quickstart's own if None.

    Returns:
        Files of the packed network and of the twin.

    Raises:
        BinsegError: the folder cannot be written.
    """
    packed, twin = quickstart_files(folder)
    experiment = experiment or quickstart_experiment()
    runs: list[tuple[Precision, Path, str]] = [
        ("binary", packed, "training the 1-bit network"),
        ("full", twin, "training its full-precision twin"),
    ]
    for index, (precision, path, text) in enumerate(runs):
        if path.exists():
            continue
        own = replace(experiment, model=replace(experiment.model, precision=precision))
        say = partial(_report_part, report, index, len(runs), text)
        best = _train(own, folder / precision, say)
        trained = load(best)
        network: Segmenter = trained.model
        if precision == "binary":
            network = pack(trained.model, preprocessing=trained.preprocessing)
        figures = trained.header["training"]
        save(path, network, trained.labels, trained.preprocessing, training=figures)
    report(1.0, "the networks are ready")
    return packed, twin


def _report_part(
    report: Callable[[float, str], None], index: int, parts: int, text: str, share: float
) -> None:
    report((index + share) / parts, text)


def _train(experiment: Experiment, folder: Path, report: Callable[[float], None]) -> Path:
    """Train in a thread of its own, while this one reports: a page shows only what the thread of
    its own event says, and a daemon does not keep a server from ending."""
    ended: list[Path | BaseException] = []

    def run() -> None:
        try:
            ended.append(train(experiment, folder, resume=True).model)
        except BaseException as error:  # raised again below
            ended.append(error)

    thread = Thread(target=run, name="demo-training", daemon=True)
    thread.start()
    while thread.is_alive():
        report(_epochs_done(folder) / experiment.trainer.epochs)
        thread.join(_POLL)
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _epochs_done(folder: Path) -> int:
    try:
        return len(loads((folder / HISTORY).read_text()))
    except (OSError, JSONDecodeError):
        return 0
