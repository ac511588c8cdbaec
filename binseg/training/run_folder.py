"""A run's folder: what may be in it, and how its configuration is written and compared."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from binseg.atomic import atomic_path
from binseg.distributed.processes import Processes
from binseg.errors import BinsegError
from binseg.lock import locked
from binseg.training.binary_module import Recipe
from binseg.training.checkpoints import BEST, LAST
from binseg.training.classes import CLASSES
from binseg.training.config import to_plain
from binseg.training.loggers import LOGS
from binseg.training.reporting import CURVES, HISTORY, LOG, OVERLAYS

CONFIG = "config.yaml"
_OWN = {CONFIG, CLASSES, BEST, LAST, HISTORY, LOG, CURVES, OVERLAYS, LOGS}

_OF_THE_MACHINE = (
    "data.root",
    "data.sbd_root",
    "data.workers",
    "data.cache",
    "model.start",
    "model.backbone_weights",
    "distillation.teacher",
    "trainer.threads",
)
"""Keys that may differ among the machines of one run."""


@dataclass(frozen=True)
class Start:
    """How a run begins.

    Attributes:
        checkpoint: to go on from, or None; with several processes it is on process 0's disk.
        notes: lines to report when training begins.
    """

    checkpoint: Path | None
    notes: list[str]


@contextmanager
def opened_run(
    folder: Path, recipe: Recipe, *, resume: bool, processes: Processes
) -> Iterator[Start]:
    """Take a run folder for a training, and find out what there is to go on from.

    Process 0 looks, for all: the others may have no such folder, or another one.

    Args:
        folder: new or empty, unless `resume`.
        recipe: the configuration.
        resume: go on from the folder's checkpoint, or begin if the run did not get that far.
        processes: those that train.

    Raises:
        BinsegError: another program works in the folder, it holds something else, or its run
            cannot go on with this configuration.
    """
    with ExitStack() as stack:

        def decide() -> dict[str, Any]:
            stack.enter_context(locked(folder))
            checkpoint = checkpoint_of(folder, resume=resume)
            notes = [] if checkpoint is None else notes_on_changes(recipe, folder / CONFIG)
            return {"resumes": checkpoint is not None, "notes": notes}

        decision = processes.decided("run", decide)
        settings = _flat(to_plain(recipe))
        shared = {key: value for key, value in settings.items() if key not in _OF_THE_MACHINE}
        processes.agree("settings", shared)
        yield Start(folder / LAST if decision["resumes"] else None, decision["notes"])


def checkpoint_of(folder: Path, *, resume: bool) -> Path | None:
    """The checkpoint to go on from, None to begin; refuses to write over anything else.

    A folder in which a run died before its first checkpoint may be begun anew.
    """
    if folder.exists() and not folder.is_dir():
        raise BinsegError(f"{folder}: a file; choose another --out")
    checkpoint = folder / LAST
    if resume:
        return checkpoint if checkpoint.exists() else None
    if checkpoint.exists() or (folder / BEST).exists():
        raise BinsegError(
            f"{folder}: holds a run already; go on with it by --resume, or choose another --out"
        )
    foreign = sorted(path.name for path in folder.glob("[!.]*") if path.name not in _OWN)
    if foreign:
        raise BinsegError(f"{folder}: holds {foreign[0]}, which no run wrote; choose another --out")
    return None


def notes_on_changes(recipe: Recipe, path: Path) -> list[str]:
    """A line on the keys with other values than in the run's own configuration at `path`, if any.

    Raises:
        BinsegError: one of them may not change, or the file cannot be read.
    """
    try:
        before = _flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BinsegError(
            f"{path}: cannot be read ({type(error).__name__}); train again into another --out"
        ) from error
    now = _flat(to_plain(recipe))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    fixed = [key for key in changed if _must_stay(key, before.get(key), now.get(key))]
    if fixed:
        raise BinsegError(
            f"{path}: {', '.join(fixed)} cannot change when a run is resumed; choose another --out"
        )
    return [f"resuming with other values of {', '.join(changed)}"] if changed else []


def _must_stay(key: str, before: Any, now: Any) -> bool:
    """Whether a checkpoint means nothing to a run with another value of `key`."""
    if key == "trainer.ema":
        return 0 in (before, now)  # another decay is fine; there being an average is not
    if key in ("model.weights", "model.start", "model.backbone_weights", "model.encoder_weights"):
        return False
    steady = (
        "data.name",
        "data.relabel",
        "data.classes",
        "data.group_by",
        "data.val_groups",
        "data.scenes_size",
        "optimizer.name",
        "trainer.accumulate",
    )
    return key in steady or key.startswith(("model.", "binarization."))


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {k: v for key, sub in tree.items() for k, v in _flat(sub, f"{prefix}{key}.").items()}


def write_config(recipe: Recipe, folder: Path) -> None:
    """Write the resolved configuration into the run folder."""
    for name in (CONFIG, CLASSES, BEST, LAST, HISTORY, CURVES):
        for leftover in folder.glob(f".{Path(name).stem}-*"):  # killed while it wrote
            leftover.unlink()
    with atomic_path(folder / CONFIG) as temporary:
        text = yaml.dump(to_plain(recipe), Dumper=_Dumper, sort_keys=False)
        temporary.write_text(text, encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Quotes text such as 0016E5, which jsonargparse, unlike PyYAML, reads back as a number."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
