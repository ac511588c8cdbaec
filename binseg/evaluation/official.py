"""Our figures beside those of a benchmark's own evaluator, which reads the written files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binseg.data.labels import get_label_table
from binseg.data.samples import SegmentationDataset
from binseg.errors import BinsegError
from binseg.evaluation.cityscapes_script import script_name, script_scores
from binseg.evaluation.result import Evaluation
from binseg.evaluation.voc_recount import recount

if TYPE_CHECKING:
    from rich.table import Table

LIMIT = 1e-9
"""The largest difference of a class's IoU: only the last digits of a division may differ."""


@dataclass(frozen=True)
class OfficialScores:
    """What another evaluator says of the same predictions.

    Attributes:
        source: who says it.
        iou: by class; nan where it gives none.
        instance_iou: the same of iIoU; None where it was not asked for.
    """

    source: str
    iou: Mapping[str, float]
    instance_iou: Mapping[str, float] | None = None

    def largest_difference(self, evaluation: Evaluation) -> float:
        """Over all classes and both figures; infinite if only one side has a score."""
        pairs = list(zip(evaluation.scores.names, evaluation.scores.iou, strict=True))
        differences = [_difference(value, self.iou[name]) for name, value in pairs]
        if evaluation.instance_iou is not None and self.instance_iou is not None:
            differences += [
                _difference(value, self.instance_iou[name])
                for name, value in zip(
                    evaluation.scores.names, evaluation.instance_iou, strict=True
                )
            ]
        return max(differences)

    def refuse_difference(self, evaluation: Evaluation) -> None:
        """Raise BinsegError if the figures differ by more than `LIMIT`."""
        largest = self.largest_difference(evaluation)
        if largest > LIMIT:
            raise BinsegError(
                f"--official: the written files score differently, by up to {largest:.3g} (at "
                f"most {LIMIT:g} passes); if nobody changed them meanwhile, please report it"
            )

    def to_dict(self, evaluation: Evaluation) -> dict[str, Any]:
        """Plain values for the report."""
        names = evaluation.scores.names
        instance = self.instance_iou
        return {
            "source": self.source,
            "largest_difference": self.largest_difference(evaluation),
            "iou": {name: self.iou[name] for name in names},
            "instance_iou": None if instance is None else {name: instance[name] for name in names},
        }


def check_official(data: str, dataset: SegmentationDataset) -> None:
    """Refuse what no official evaluator scores, before any work is done.

    Args:
        data: the data set's name, as in `DataConfig`.
        dataset: one split of it.

    Raises:
        BinsegError: another data set, some of its classes, masks that the evaluator cannot read,
            labels that are not public, or cityscapesScripts is not installed.
    """
    if data not in ("voc", "cityscapes"):
        raise BinsegError(
            f"--official: '{data}' has no official evaluator; only voc and cityscapes have one"
        )
    if not dataset.labelled:
        raise BinsegError("--official: this split's labels are not public; use --split val")
    if dataset.labels.names != get_label_table(data).names:
        raise BinsegError(
            f"--official: these are {dataset.labels.num_classes} classes of your choice and not "
            "those of the benchmark, whose evaluator counts them all; leave out --data.classes and "
            "--data.relabel"
        )
    if any(mask.suffix != ".png" for mask in _masks(dataset)):
        raise BinsegError("--official: SBD's masks are no part of the benchmark; use --split val")
    if data == "cityscapes":
        script_name()


def official_scores(
    data: str, dataset: SegmentationDataset, files: Sequence[Path], *, instances: bool
) -> OfficialScores:
    """What the benchmark's evaluator says of written predictions.

    Args:
        data: voc or cityscapes.
        dataset: the images; `check_official` has passed.
        files: each image's prediction in raw ids, in the data set's order.
        instances: also compute Cityscapes' iIoU.

    Raises:
        BinsegError: the evaluator refuses a file.
    """
    pairs = list(zip(files, _masks(dataset), strict=True))
    if data == "cityscapes":
        iou, instance_iou = script_scores(pairs, instances=instances)
        return OfficialScores(script_name(), iou, instance_iou if instances else None)
    found = recount(pairs, dataset.labels.num_classes)
    return OfficialScores(
        "recount of the files by VOCevalseg.m's definition (not the devkit itself)",
        dict(zip(dataset.labels.names, found, strict=True)),
    )


def official_table(evaluation: Evaluation, official: OfficialScores) -> "Table":
    """Both figures of each class in per cent and their difference, as a rich table."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"binseg beside {official.source}", box=box.SIMPLE_HEAD)
    table.add_column("class", no_wrap=True)
    columns = [("IoU %", evaluation.scores.iou, official.iou)]
    if evaluation.instance_iou is not None and official.instance_iou is not None:
        columns.append(("iIoU %", evaluation.instance_iou, official.instance_iou))
    for what, _, _ in columns:
        for column in (what, "official", "differ"):
            table.add_column(column, justify="right")
    for index, name in enumerate(evaluation.scores.names):
        cells = []
        for _, ours, theirs in columns:
            difference = _difference(ours[index], theirs[name])
            cells += [_percent(ours[index]), _percent(theirs[name]), f"{difference:.1g}"]
        table.add_row(name, *cells)
    largest = official.largest_difference(evaluation)
    table.caption = f"largest difference {largest:.1g}, as a share of 1; at most {LIMIT:g} passes"
    return table


def _masks(dataset: SegmentationDataset) -> list[Path]:
    paths = [dataset.sample_paths(place) for place in range(len(dataset))]
    return [found[1] for found in paths if found is not None and found[1] is not None]


def _difference(ours: float, theirs: float) -> float:
    if math.isnan(ours) and math.isnan(theirs):
        return 0.0
    return math.inf if math.isnan(ours) or math.isnan(theirs) else abs(ours - theirs)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.4f}"
