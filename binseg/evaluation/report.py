"""What is shown and kept of an evaluation: a table, JSON, the matrix as a picture, a page."""

import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binseg.atomic import atomic_path
from binseg.data.datasets import SegmentationDataset
from binseg.evaluation.confusion_picture import draw_confusion
from binseg.evaluation.evaluate import Evaluation
from binseg.evaluation.worst_page import write_worst_page

if TYPE_CHECKING:
    from rich.table import Table


def score_table(evaluation: Evaluation, title: str = "") -> "Table":
    """The scores of each class and their means, in per cent, as a rich table.

    The column "pixels" is the class's share of the labelled pixels. A dash stands for a class
    that has no score because it does not occur; it is not in the mean.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    scores, boundary = evaluation.scores, evaluation.boundary_iou
    table = Table(title=escape(title) or None, box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("class", footer="mean", overflow="fold")
    table.add_column("IoU %", footer=_percent(scores.mean_iou), justify="right")
    table.add_column("accuracy %", footer=_percent(scores.mean_accuracy), justify="right")
    if boundary is not None:
        mean = evaluation.mean_boundary_iou
        footer = _percent(math.nan if mean is None else mean)
        table.add_column("boundary IoU %", footer=footer, justify="right")
    table.add_column("pixels %", justify="right")
    total = sum(map(sum, scores.matrix))
    for index, name in enumerate(scores.names):
        cells = [_percent(scores.iou[index]), _percent(scores.accuracy[index])]
        if boundary is not None:
            cells.append(_percent(boundary[index]))
        cells.append(_percent(sum(scores.matrix[index]) / total if total else math.nan))
        table.add_row(escape(name), *cells)
    table.caption = (
        f"{len(evaluation.pictures)} pictures; pixel accuracy {_percent(scores.pixel_accuracy)}, "
        f"frequency-weighted IoU {_percent(scores.frequency_weighted_iou)}"
    )
    return table


def report_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation and the versions that made it, as plain JSON values."""
    return {**evaluation.to_dict(), "versions": _versions()}


def write_report(
    evaluation: Evaluation, dataset: SegmentationDataset, folder: str | Path, title: str = ""
) -> list[Path]:
    """Write scores.json, confusion.png and, if worst pictures were kept, worst/index.html.

    Args:
        evaluation: what to report.
        dataset: the data set that was scored, for its pictures.
        folder: made if missing; an earlier report in it is overwritten.
        title: a line over picture and page, for example the model's and the data's names.

    Returns:
        The files, without the page's pictures.

    Raises:
        BinsegError: the folder cannot be written.
    """
    folder = Path(folder)
    files = [folder / "scores.json", folder / "confusion.png"]
    text = json.dumps(report_dict(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(files[0]) as temporary:
        # a file's name may hold bytes that are no UTF-8; JSON reads their escapes back
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    draw_confusion(evaluation.scores, files[1], title)
    if evaluation.worst:
        page_title = f"Worst pictures: {title}" if title else "Worst pictures"
        files.append(write_worst_page(evaluation, dataset, folder / "worst", page_title))
    return files


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("binseg", "torch", "torchvision", "numpy", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that was never installed
            continue
    return found


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
