"""Class scores by cityscapesScripts itself, from files."""

import contextlib
import importlib
import io
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from binseg.errors import BinsegError


def script_name() -> str:
    """What it is and of which version, for tables.

    Raises:
        BinsegError: it is not installed.
    """
    _script()
    return f"cityscapesScripts {version('cityscapesscripts')}"


def script_scores(
    pairs: Sequence[tuple[Path, Path]], *, instances: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """IoU and iIoU of each class by name, nan where it has none.

    Args:
        pairs: (prediction, ground truth) files of labelIds.
        instances: also compute the iIoU, from the *_instanceIds.png beside the ground truth.

    Raises:
        BinsegError: it is not installed, or it stops; says what it said.
    """
    script = _script()
    settings = script.CArgs()
    vars(settings).update(vars(script.args))
    settings.evalInstLevelScore, settings.JSONOutput, settings.quiet = instances, False, True
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), _names_of_older_numpy():
            found = script.evaluateImgLists(
                [str(prediction) for prediction, _ in pairs],
                [str(truth) for _, truth in pairs],
                settings,
            )
    except (SystemExit, LookupError) as error:  # it exits on a fault, and trusts every id
        reason = (said.getvalue().strip().splitlines() or [str(error)])[-1]
        raise BinsegError(
            f"cityscapesScripts stopped ({reason}); export the predictions again"
        ) from error
    return found["classScores"], found["classInstScores"]


def _script() -> Any:
    try:
        return importlib.import_module(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
        )
    except ImportError as error:
        raise BinsegError(
            "--official needs cityscapesScripts: pip install 'binseg[evaluation]'"
        ) from error


@contextlib.contextmanager
def _names_of_older_numpy() -> Iterator[None]:
    """Give NumPy back `in1d`, which cityscapesScripts 2.3 calls and NumPy 2.4 has no more."""
    if hasattr(np, "in1d"):
        yield
        return
    vars(np)["in1d"] = np.isin
    try:
        yield
    finally:
        del vars(np)["in1d"]
