"""Trains what is left to train, then measures and writes everything."""

import statistics
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from binseg.bench.idle import Load
from binseg.compare.config import Comparison, check_buildable, names_in
from binseg.compare.measure import measure_rows
from binseg.compare.rows import Row
from binseg.compare.runs import Run, runs_of
from binseg.errors import BinsegError
from binseg.training.checkpoints import StopRequestedError
from binseg.training.reporting import duration
from binseg.training.run import train

FAILURE = "failure.txt"
"""Traceback of a training that failed, in its folder."""

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class Compared:
    """What there is of a comparison.

    Attributes:
        rows: of the networks of which a training is finished.
        failures: run, as in "resnete18, seed 0" → why its training failed.
        missing: runs that are not trained yet, or not to their end.
        load: what other programs did while the networks were measured.
    """

    rows: list[Row]
    failures: dict[str, str]
    missing: list[str]
    load: Load


def run_comparison(
    comparison: Comparison,
    out: Path,
    *,
    only: Sequence[str] | None = None,
    report: bool = False,
    on_progress: OnProgress = print,
) -> Compared:
    """Train every network once with each seed, then pack, score and time them.

    `out`/NAME/seedN, with folds `out`/NAME/seedN-FOLD, is a run folder of `binseg.train`. Finished
    ones are kept, and others go on from their last checkpoint; a training that fails leaves the
    others alone.

    Args:
        comparison: what to train and how to measure.
        out: folder, new or that of an earlier call.
        only: rows to train; None for all. The others are measured if they are trained.
        report: train nothing.
        on_progress: takes a line about what happens next.

    Raises:
        BinsegError: before anything is trained: a network that cannot be built, data that cannot
            be read, a run in `out` that was trained with another configuration. After it: nothing
            was trained.
        StopRequestedError: Ctrl-C or SIGTERM; the same call goes on.
    """
    names = names_in(comparison, only)
    runs = runs_of(comparison, out)
    classes = {each.data.open("val").labels.num_classes for each in comparison.networks.values()}
    if len(classes) > 1:
        raise BinsegError("networks of one comparison must have the same classes")
    check_buildable(comparison.networks, *classes)
    try:
        failures = {}
        if not report:
            failures = _train([run for run in runs if run.name in names], on_progress)
        finished = [run for run in runs if run.finished]
        if not finished:
            raise BinsegError(_nothing(out, failures))
        rows, load = measure_rows(comparison, finished, on_progress)
    except (KeyboardInterrupt, StopRequestedError) as error:
        raise StopRequestedError(
            f"stopped; the same command goes on from here (finished networks in {out} are kept)"
        ) from error
    missing = [run.title for run in runs if not run.finished and run.title not in failures]
    return Compared(rows, failures, missing, load)


def _train(runs: Sequence[Run], on_progress: OnProgress) -> dict[str, str]:
    """Run → why it failed."""
    failures: dict[str, str] = {}
    left = [run for run in runs if not run.finished]
    if len(left) < len(runs):
        on_progress(f"{len(runs) - len(left)} of {len(runs)} trainings are finished already")
    for place, run in enumerate(left):
        on_progress(
            f"training {place + 1} of {len(left)}: {run.title}{_time_left(runs, left[place:])}"
        )
        try:
            train(run.experiment, run.folder, resume=True)
            if not run.finished:
                raise BinsegError("no validation saw a binary network; raise trainer.epochs")
        except StopRequestedError:
            raise
        except Exception as error:  # one network must not cost the others their hours
            failures[run.title] = _reason(error)
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / FAILURE).write_text(traceback.format_exc())
            on_progress(f"{run.title} failed: {failures[run.title]}")
    return failures


def _time_left(runs: Sequence[Run], left: Sequence[Run]) -> str:
    """At the pace of the finished trainings; empty before the first."""
    done = [run.minutes for run in runs if run.finished]
    return f", about {duration(60 * statistics.fmean(done) * len(left))} left" if done else ""


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, BinsegError) else f"{type(error).__name__}: {text}"


def _nothing(out: Path, failures: dict[str, str]) -> str:
    if not failures:
        return f"{out}: no network is trained to its end yet; leave --report out"
    name, reason = next(iter(failures.items()))
    return f"no training came to its end; {name}: {reason}"
