"""Reports of an evaluation: a table, JSON, the matrix as an image, a page."""

import json
import math
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binseg.atomic import atomic_path
from binseg.data.labels import LabelTable, get_label_table
from binseg.data.samples import SegmentationDataset
from binseg.evaluation.confusion_picture import draw_confusion
from binseg.evaluation.result import Evaluation
from binseg.evaluation.worst_page import write_worst_page
from binseg.inference.protocol import Protocol

if TYPE_CHECKING:
    from rich.table import Table


def score_table(evaluation: Evaluation, title: str = "") -> "Table":
    """The scores of each class and their means, in per cent, as a rich table.

    The column "pixels" is the class's share of the labelled pixels. A dash stands for a class
    that has no score because it does not occur (iIoU: because it has no instances); it is not in
    the mean. The caption says the protocol, if it is known, and which classes these are, if they
    are some of a benchmark's.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    scores = evaluation.scores
    table = Table(title=escape(title) or None, box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("class", footer="mean", overflow="fold")
    columns: list[tuple[str, float | None, Sequence[float]]] = [
        ("IoU %", scores.mean_iou, scores.iou),
        ("accuracy %", scores.mean_accuracy, scores.accuracy),
    ]
    if evaluation.boundary_iou is not None:
        columns.append(("boundary IoU %", evaluation.mean_boundary_iou, evaluation.boundary_iou))
    if evaluation.instance_iou is not None:
        columns.append(("iIoU %", evaluation.mean_instance_iou, evaluation.instance_iou))
    for name, mean, _ in columns:
        table.add_column(name, footer=percent(mean), justify="right")
    table.add_column("pixels %", justify="right")
    total = sum(map(sum, scores.matrix))
    for index, name in enumerate(scores.names):
        cells = [percent(values[index]) for _, _, values in columns]
        share = sum(scores.matrix[index]) / total if total else None
        table.add_row(escape(name), *cells, percent(share))
    table.caption = (
        f"{len(evaluation.images)} images; pixel accuracy {percent(scores.pixel_accuracy)}, "
        f"frequency-weighted IoU {percent(scores.frequency_weighted_iou)}"
    )
    if protocol := evaluation.about.get("protocol"):
        table.caption += f"; {Protocol(**protocol)}"
    if part := part_of_benchmark(evaluation.labels):
        table.caption += f"\n{part}"
    return table


def part_of_benchmark(labels: LabelTable) -> str | None:
    """What to say of classes that are only some of a benchmark's; None for all others."""
    whole_name = "voc" if labels.name == "voc_animals" else labels.name
    if whole_name not in ("voc", "cityscapes"):
        return None
    whole = get_label_table(whole_name)
    if labels.names == whole.names:
        return None
    name = "VOC animals" if labels.name == "voc_animals" else f"part of {whole_name}"
    return (
        f"{name}: {labels.num_classes} of the benchmark's {whole.num_classes} classes, all other "
        "pixels ignored; not the benchmark's figure"
    )


def report_dict(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation and the versions that made it, as plain JSON values."""
    return {**evaluation.to_dict(), "versions": _versions()}


def write_report(
    evaluation: Evaluation, dataset: SegmentationDataset, folder: str | Path, title: str = ""
) -> list[Path]:
    """Write scores.json, confusion.png and, if worst images were kept, worst/index.html.

    Args:
        evaluation: what to report.
        dataset: the data set that was scored, for its images.
        folder: made if missing; an earlier report in it is overwritten.
        title: a line over image and page, for example the model's and the data's names.

    Returns:
        The files, without the page's images.

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
        page_title = f"Worst images: {title}" if title else "Worst images"
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


def percent(value: float | None) -> str:
    """A share as per cent with one decimal; a dash for None and nan."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"
