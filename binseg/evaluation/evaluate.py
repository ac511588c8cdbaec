"""Scoring a whole data set, from whatever gives a class map for a picture.

```python
predictions = network_predictions(network, preprocessing)
evaluation = score(predictions, dataset)
print(evaluation.scores.mean_iou)
```
"""

import heapq
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from binseg.data.datasets import SegmentationDataset
from binseg.data.imageio import read_mask
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample
from binseg.errors import BinsegError
from binseg.evaluation.boundary import DISTANCE, BoundaryIoU
from binseg.evaluation.protocols import WHOLE, Network, Protocol, segment
from binseg.evaluation.scores import Scores, confusion, without_nan

Predictions = Callable[[Sample], np.ndarray]
"""The predicted HW uint8 train ids of a sample, of its labels' size."""


class PictureScore(NamedTuple):
    """The scores of one picture by itself; a class absent from it has no part in its mean."""

    name: str
    mean_iou: float
    pixel_accuracy: float
    iou: tuple[float, ...]

    def to_dict(self, labels: LabelTable) -> dict[str, Any]:
        """Plain values; `iou` by name, without the classes that the picture does not have."""
        iou = zip(labels.names, self.iou, strict=True)
        return {**self._asdict(), "iou": {name: v for name, v in iou if not math.isnan(v)}}


class WorstPicture(NamedTuple):
    """One of the pictures with the lowest mean IoU."""

    place: int
    """Its index in the data set."""
    score: PictureScore
    prediction: np.ndarray
    """HW uint8 train ids."""


@dataclass(frozen=True)
class Evaluation:
    """The result of scoring a data set.

    Attributes:
        labels: the classes.
        scores: the figures over the whole set.
        boundary_iou: Boundary IoU of each class, nan where absent; None if it was left out.
        boundary_distance: width of its boundary as a share of the diagonal.
        pictures: the scores of each picture, in the data set's order.
        worst: the pictures with the lowest mean IoU, the lowest first.
        seconds: wall-clock time from the first picture to the last.
        about: what was scored and how: model, protocol, data; goes into the report as it is.
    """

    labels: LabelTable
    scores: Scores
    boundary_iou: tuple[float, ...] | None
    boundary_distance: float | None
    pictures: tuple[PictureScore, ...]
    worst: tuple[WorstPicture, ...]
    seconds: float
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean_boundary_iou(self) -> float | None:
        """Mean of `boundary_iou` over the classes that have one; None if it was left out."""
        if self.boundary_iou is None:
            return None
        return torch.tensor(self.boundary_iou, dtype=torch.float64).nanmean().item()

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; nan becomes None."""
        scores = self.scores.to_dict()
        if self.boundary_iou is not None:
            scores["mean_boundary_iou"] = self.mean_boundary_iou
            scores["boundary_distance"] = self.boundary_distance
            for name, iou in zip(self.labels.names, self.boundary_iou, strict=True):
                scores["classes"][name]["boundary_iou"] = iou
        found = {
            **self.about,
            "scores": scores,
            "pictures": [picture.to_dict(self.labels) for picture in self.pictures],
            "seconds": round(self.seconds, 3),
        }
        plain: dict[str, Any] = without_nan(found)
        return plain


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


def folder_predictions(
    folder: str | Path, labels: LabelTable, *, raw_ids: bool = False
) -> Predictions:
    """Predictions that some tool has written: `folder`/NAME.png for the picture NAME.

    Args:
        folder: masks of class ids, each of its label's size.
        labels: the classes.
        raw_ids: the masks hold the data set's raw ids (Cityscapes: 7 for road) and not the train
            ids that `binseg predict` writes.

    Raises:
        BinsegError: no such folder; later, for a picture: its mask is missing or unreadable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BinsegError(f"{folder}: no such folder; give the one that holds NAME.png masks")

    def predict(sample: Sample) -> np.ndarray:
        file = folder / f"{sample.name}.png"
        if not file.is_file():
            raise BinsegError(f"{file}: missing; every picture of the set needs a prediction")
        ids = read_mask(file)
        return labels.encode(ids, file) if raw_ids else ids

    return predict


def check_same_classes(model: LabelTable, data: LabelTable, source: str) -> None:
    """Refuse to score a model on classes it was not trained for.

    Args:
        model: the model's classes.
        data: the data set's classes.
        source: what the message calls the model, for example its file.

    Raises:
        BinsegError: the names differ, or their order; the message lists the difference.
    """
    if model.names == data.names:
        return
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
        + "; score it on the data it was trained for"
    )


def score(
    predictions: Predictions,
    dataset: SegmentationDataset,
    *,
    boundary_distance: float | None = DISTANCE,
    worst: int = 0,
    progress: bool = False,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score predictions against a data set's labels, one picture after the other.

    Args:
        predictions: gives the class map of each sample.
        dataset: pictures with labels, at their own resolution.
        boundary_distance: width of Boundary IoU's region as a share of the diagonal; None leaves
            Boundary IoU out.
        worst: number of pictures whose predictions are kept for the page of the worst.
        progress: show a bar with the time left on stderr, if that is a terminal.
        about: what is scored and how; kept in the result.

    Raises:
        BinsegError: an unreadable picture or mask, or a prediction of another size or of unknown
            ids; the message names the picture.
    """
    labels = dataset.labels
    total = torch.zeros(labels.num_classes, labels.num_classes, dtype=torch.int64)
    boundary = None
    if boundary_distance is not None:
        boundary = BoundaryIoU(labels.num_classes, boundary_distance)
    pictures: list[PictureScore] = []
    heap: list[tuple[float, int, WorstPicture]] = []
    started = time.perf_counter()
    for index, sample in enumerate(_shown(_read_ahead(dataset), len(dataset), progress)):
        prediction = predictions(sample)
        truth = torch.from_numpy(sample.labels)
        predicted = torch.from_numpy(prediction.astype(np.int64))
        try:
            matrix = confusion(predicted, truth, labels.num_classes)
        except BinsegError as error:
            raise BinsegError(f"{sample.name}: {error}") from error
        total += matrix
        if boundary is not None:
            boundary.update(prediction.astype(np.uint8), sample.labels)
        alone = Scores.of(matrix, labels.names)
        picture = PictureScore(sample.name, alone.mean_iou, alone.pixel_accuracy, alone.iou)
        pictures.append(picture)
        if worst and not math.isnan(picture.mean_iou):
            kept = WorstPicture(index, picture, prediction)
            heapq.heappush(heap, (-picture.mean_iou, -index, kept))
            if len(heap) > worst:
                heapq.heappop(heap)  # the best of them
    return Evaluation(
        labels=labels,
        scores=Scores.of(total, labels.names),
        boundary_iou=None if boundary is None else boundary.compute(),
        boundary_distance=boundary_distance,
        pictures=tuple(pictures),
        worst=tuple(kept for _, _, kept in sorted(heap, reverse=True, key=lambda item: item[:2])),
        seconds=time.perf_counter() - started,
        about=dict(about or {}),
    )


def _read_ahead(dataset: SegmentationDataset, ahead: int = 4) -> Iterator[Sample]:
    """The samples in order, a few of them decoded by threads while the network works."""
    pending: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(max_workers=2) as readers:
        try:
            for index in range(len(dataset)):
                pending.append(readers.submit(dataset.__getitem__, index))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _shown(samples: Iterator[Sample], length: int, progress: bool) -> Iterator[Sample]:
    """The samples, with a bar on stderr if that is a terminal."""
    if not (progress and sys.stderr.isatty()):
        yield from samples
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(samples, "scoring", total=length, console=console, transient=True)
