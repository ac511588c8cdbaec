"""Scoring a whole data set, from whatever gives a class map for an image.

```python
predictions = network_predictions(network, preprocessing)
evaluation = score(predictions, dataset)
print(evaluation.scores.mean_iou)
```
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from binseg.data.class_presence import require_scored_pixels
from binseg.data.datasets import SegmentationDataset
from binseg.data.labels import CLASS_MAPPINGS, LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample
from binseg.distributed.processes import ALONE, Processes
from binseg.errors import BinsegError
from binseg.evaluation.boundary import DISTANCE
from binseg.evaluation.export import Export
from binseg.evaluation.protocols import WHOLE, Network, Protocol, segment
from binseg.evaluation.reading import read_ahead
from binseg.evaluation.result import Evaluation
from binseg.evaluation.tally import Tally

Predictions = Callable[[Sample], np.ndarray]
"""The predicted HW uint8 train ids of a sample, of its labels' size."""


def network_predictions(
    network: Network,
    preprocessing: Preprocessing,
    protocol: Protocol = WHOLE,
    device: torch.device | str = "cpu",
) -> Predictions:
    """Predictions that a network makes, at the label's own resolution; see `segment`."""

    def predict(sample: Sample) -> np.ndarray:
        size = (sample.labels.shape[0], sample.labels.shape[1])
        return segment(network, sample.image, preprocessing, protocol, size, device=device)

    return predict


def check_same_classes(
    model: LabelTable,
    data: LabelTable,
    source: str,
    remedy: str | None = None,
) -> None:
    """Refuse a model that was trained for other classes than the data's.

    Args:
        model: the model's classes.
        data: the data set's classes.
        source: what the message calls the model, for example its file.
        remedy: what the message advises; None: how to score the model on its own classes.

    Raises:
        BinsegError: the names differ, or their order; the message lists the difference.
    """
    if model.names == data.names:
        return
    if remedy is None:
        remedy = "score it on the data it was trained for"
        if (data.name, model.name) in CLASS_MAPPINGS:
            remedy = f"--data.relabel {model.name} turns the data's classes into the model's"
    only_model = [name for name in model.names if name not in data.names]
    only_data = [name for name in data.names if name not in model.names]
    parts = [
        f"only in the {where}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        for where, names in (("model", only_model), ("data", only_data))
        if names
    ]
    raise BinsegError(
        f"{source}: a model of other classes ('{model.name}', {model.num_classes}) than the data's "
        f"('{data.name}', {data.num_classes}); "
        + ("; ".join(parts) or "the same names in another order")
        + f"; {remedy}"
    )


def score(
    predictions: Predictions,
    dataset: SegmentationDataset,
    *,
    boundary_distance: float | None = DISTANCE,
    worst: int = 0,
    progress: bool = False,
    about: Mapping[str, Any] | None = None,
    export: Export | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Score predictions against a data set's labels, one image after the other.

    Args:
        predictions: gives the class map of each sample.
        dataset: images with labels, at their own resolution.
        boundary_distance: width of Boundary IoU's region as a share of the diagonal; None leaves
            Boundary IoU out.
        worst: number of images whose predictions are kept for the page of the worst.
        progress: show a bar with the time left on stderr, if that is a terminal.
        about: what is scored and how; kept in the result.
        export: also writes each prediction as a file.
        processes: who shares the work; each of them gets the same result.

    Raises:
        BinsegError: an unreadable image or mask, or a prediction of another size or of unknown
            ids (the message names the image); a split without public labels, or whose pixels are
            all ignored.
    """
    if not dataset.labelled:
        raise BinsegError(
            "this split's labels are not public, so it cannot be scored; export its predictions "
            "for the benchmark's server (--export FOLDER), or score the split val"
        )
    require_scored_pixels(dataset, "the split to score")
    tally = Tally(dataset.labels, boundary_distance, worst)

    def read(place: int) -> tuple[int, Sample, np.ndarray | None]:
        return place, dataset[place], dataset.read_instances(place)

    started = time.perf_counter()
    shown = progress and processes.rank == 0
    for place, sample, instances in read_ahead(read, processes.share(len(dataset)), progress=shown):
        prediction = predictions(sample)
        tally.add(place, sample, prediction, instances)
        if export is not None:
            export.write(sample.name, prediction)
    first, *others = processes.gather(tally)
    for other in others:
        first.merge(other)
    return first.evaluation(time.perf_counter() - started, about or {})


def export_predictions(
    predictions: Predictions,
    dataset: SegmentationDataset,
    export: Export,
    *,
    progress: bool = False,
    processes: Processes = ALONE,
) -> None:
    """Write the predictions of images whose labels nobody gives out.

    Args:
        predictions, dataset, export, progress, processes: see `score`.

    Raises:
        BinsegError: an unreadable image, or a file that cannot be written.
    """
    shown = progress and processes.rank == 0
    for sample in read_ahead(dataset.__getitem__, processes.share(len(dataset)), progress=shown):
        export.write(sample.name, predictions(sample))
    processes.gather(None)
