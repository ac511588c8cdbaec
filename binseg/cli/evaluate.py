"""`binseg evaluate`: the scores of a model, or of masks that some tool has written."""

import sys
from pathlib import Path
from typing import Any, Literal

from binseg.data.config import DataConfig
from binseg.errors import BinsegError
from binseg.evaluation.boundary import DISTANCE
from binseg.evaluation.evaluate import Evaluation, folder_predictions, score
from binseg.evaluation.protocols import WHOLE, Protocol


def evaluate(
    model: Path | None = None,
    *,
    data: DataConfig,
    out: Path | None = None,
    split: Literal["train", "val", "test"] = "val",
    protocol: Protocol = WHOLE,
    predictions: Path | None = None,
    raw_ids: bool = False,
    boundary: bool = True,
    boundary_distance: float = DISTANCE,
    worst: int = 20,
    device: str = "auto",
) -> int:
    """Score a model on labelled pictures, at the label's own resolution.

    Prints a table: IoU, accuracy and Boundary IoU of each class and their means, pixel accuracy,
    frequency-weighted IoU. One confusion matrix over the whole set; pixels without a label never
    count; a class that occurs neither in the labels nor in the predictions is left out of the
    mean. The pictures are resized as the model's file says, not as data.short_side does.

    Args:
        model: model file (.safetensors); leave it out with --predictions.
        data: the data set.
        out: folder for the report: scores.json, confusion.png and worst/index.html; null: none.
        split: part of the data set.
        protocol: how a picture is shown to the network.
        predictions: score this folder of masks instead of a model: NAME.png of class ids for
            each picture NAME, of its label's size.
        raw_ids: those masks hold the data set's raw ids (Cityscapes: 7 for road), not class ids
            from 0 on.
        boundary: also compute Boundary IoU.
        boundary_distance: width of its boundary as a share of the picture's diagonal.
        worst: number of pictures on the page of the worst; 0: no page.
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.

    Returns:
        0.
    """
    if (model is None) == (predictions is None):
        raise BinsegError("give a model file or --predictions FOLDER, one of the two")
    if worst < 0:
        raise BinsegError(f"worst must be 0 or more pictures, not {worst}")
    dataset = data.open(split)
    about: dict[str, Any] = {
        "data": {"name": data.name, "root": data.root, "split": split, "pictures": len(dataset)}
    }
    distance = boundary_distance if boundary else None
    kept = worst if out is not None else 0
    if predictions is not None:
        title = str(predictions)
        about["predictions"] = {"folder": title, "raw_ids": raw_ids}
        found = score(
            folder_predictions(predictions, dataset.labels, raw_ids=raw_ids),
            dataset,
            boundary_distance=distance,
            worst=kept,
            progress=True,
            about=about,
        )
    else:
        from binseg.predictor import Predictor

        assert model is not None
        predictor = Predictor(model, device=device, protocol=protocol)
        title = f"{model.name}, {protocol}"
        found = predictor.evaluate(
            dataset, boundary_distance=distance, worst=kept, progress=True, about=about
        )
    title += f" on {data.name} {split}"
    _show(found, title)
    if out is not None:
        from binseg.evaluation.report import write_report

        for path in write_report(found, dataset, out, title):
            print(f"wrote {path}", file=sys.stderr)
    return 0


def _show(evaluation: Evaluation, title: str) -> None:
    from rich.console import Console

    from binseg.evaluation.report import score_table

    Console().print(score_table(evaluation, title))
