"""A network's scores under a fixed set of corruptions, beside those of clean images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from binseg.data.corruptions import CORRUPTIONS, CorruptedDataset
from binseg.data.samples import SegmentationDataset
from binseg.distributed.processes import ALONE, Processes
from binseg.evaluation.bootstrap import Difference, paired_difference
from binseg.evaluation.evaluate import Predictions, score
from binseg.evaluation.report import percent
from binseg.evaluation.result import Evaluation

if TYPE_CHECKING:
    from rich.table import Table

CLEAN = "clean"


def score_corrupted(
    predictions: Predictions,
    dataset: SegmentationDataset,
    *,
    progress: bool = False,
    processes: Processes = ALONE,
) -> dict[str, Evaluation]:
    """Score predictions on the images of a data set under each of `CORRUPTIONS`.

    Args:
        predictions: gives the class map of each sample.
        dataset: images with labels.
        progress, processes: see `binseg.evaluation.evaluate.score`.

    Returns:
        Name of the corruption → the scores, without Boundary IoU.

    Raises:
        BinsegError: see `binseg.evaluation.evaluate.score`.
    """
    found = {}
    for name in CORRUPTIONS:
        corrupted = CorruptedDataset(dataset, name)
        found[name] = score(
            predictions, corrupted, boundary_distance=None, progress=progress, processes=processes
        )
    return found


def difference_table(
    own: Evaluation, other: Evaluation, difference: Difference, title: str
) -> "Table":
    """IoU of two networks by class, and what the first has more, in per cent and points.

    Args:
        own, other: scores of the same images.
        difference: own less other.
        title: of the other network.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"against {escape(title)}", box=box.SIMPLE_HEAD, show_footer=True)
    means = own.scores.mean_iou, other.scores.mean_iou
    table.add_column("class", footer="mean", overflow="fold")
    for header, mean in zip(("IoU %", "the other's"), means, strict=True):
        table.add_column(header, footer=percent(mean), justify="right")
    table.add_column("difference (95 %)", footer=str(difference.mean_iou), justify="right")
    columns = own.labels.names, own.scores.iou, other.scores.iou, difference.iou
    for name, first, second, interval in zip(*columns, strict=True):
        table.add_row(escape(name), percent(first), percent(second), str(interval))
    table.caption = (
        f"{len(own.images)} images in {difference.blocks} blocks of neighbours; paired bootstrap"
    )
    return table


def robustness_table(
    own: Mapping[str, Evaluation],
    other: Mapping[str, Evaluation] | None = None,
    *,
    block: int,
    title: str = "",
) -> "Table":
    """Mean IoU under each corruption and the change from clean images, in per cent and points.

    Args:
        own: name of the corruption, `CLEAN` for none → scores.
        other: the same of a second network, for which the difference is shown with its interval.
        block: see `paired_difference`.
        title: over the table.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) or None, box=box.SIMPLE_HEAD)
    table.add_column("images")
    for header in ("mIoU %", "change"):
        table.add_column(header, justify="right")
    if other is not None:
        for header in ("the other's", "change", "difference (95 %)"):
            table.add_column(header, justify="right")
    for name, evaluation in own.items():
        cells = [name, *_cells(own, name)]
        if other is not None:
            difference = paired_difference(
                [[evaluation.counts]], [[other[name].counts]], block=block
            ).mean_iou
            cells += [*_cells(other, name), str(difference)]
        table.add_row(*cells)
    return table


def _cells(found: Mapping[str, Evaluation], name: str) -> tuple[str, str]:
    value, clean = found[name].scores.mean_iou, found[CLEAN].scores.mean_iou
    return percent(value), "" if name == CLEAN else f"{100 * (value - clean):+.1f}"


def robustness_dict(found: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Name of the corruption → mean IoU and IoU by class, as JSON values."""
    plain = {}
    for name, evaluation in found.items():
        classes = evaluation.scores.to_dict()["classes"]
        plain[name] = {
            "mean_iou": evaluation.scores.mean_iou,
            "iou": {class_: figures["iou"] for class_, figures in classes.items()},
        }
    return plain
