"""Counting pixels, and the scores that follow from the counts.

One rule for every score in binseg, the one of the public Cityscapes and VOC evaluators: a single
matrix over the whole set, counted in int64 at the label's own resolution; a class absent from
truth and prediction has no score and is left out of the mean; a pixel without a label (255) never
counts, also not as a false positive.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from binseg.data.labels import IGNORE
from binseg.errors import BinsegError
from binseg.evaluation.counts import count_pairs


def confusion(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Count the pixels of each pair (true class, predicted class).

    Args:
        prediction: integer class ids in [0, num_classes), of any shape. Where the truth is 255
            it may hold anything.
        truth: integer train ids in [0, num_classes) or 255, of the prediction's shape.
        num_classes: number of classes, at most 255.

    Returns:
        int64 (num_classes, num_classes); rows are the truth, columns the prediction.

    Raises:
        BinsegError: the shapes differ, or an id is outside its range; the message lists the ids.
    """
    if prediction.shape != truth.shape:
        raise BinsegError(
            f"the prediction's shape {tuple(prediction.shape)} is not the label's "
            f"{tuple(truth.shape)}; score at the label's own resolution"
        )
    if _are_bytes(prediction) and _are_bytes(truth):
        return _confusion_of_bytes(prediction, truth, num_classes)
    ignored = truth == IGNORE
    rows = truth.long().masked_fill(ignored, 0)
    columns = prediction.long().masked_fill(ignored, 0)
    _check_range("label", rows.unique(), num_classes, " or 255")
    _check_range("predicted", columns.unique(), num_classes)
    # ignored pixels go into one bin more: cheaper than picking out the others
    bins = (rows * num_classes + columns).masked_fill_(ignored, num_classes**2)
    pairs = torch.bincount(bins.flatten(), minlength=num_classes**2 + 1)[:-1]
    return pairs.reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Scores:
    """The figures of one confusion matrix M (rows truth t, columns prediction p).

    With the pixels of a class in the truth T_c = Σ_p M_cp and in the prediction P_c = Σ_t M_tc:

    Attributes:
        names: the classes, in the order of their ids.
        iou: M_cc / (T_c + P_c − M_cc) for each class; nan where the class is in neither.
        accuracy: M_cc / T_c for each class (its recall); nan where it is not in the truth.
        mean_iou: mean of `iou` over the classes that have one.
        pixel_accuracy: Σ M_cc / Σ M.
        mean_accuracy: mean of `accuracy` over the classes that have one.
        frequency_weighted_iou: Σ T_c · iou_c / Σ T_c.
        matrix: M itself, pixel counts.
    """

    names: tuple[str, ...]
    iou: tuple[float, ...]
    accuracy: tuple[float, ...]
    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    matrix: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, matrix: Tensor, names: Sequence[str]) -> "Scores":
        """The scores of an int64 (C, C) confusion matrix whose classes are called `names`.

        Raises:
            ValueError: the matrix is not square or has another number of classes than `names`.
        """
        if matrix.shape != (len(names), len(names)):
            raise ValueError(f"a matrix of shape {tuple(matrix.shape)} for {len(names)} classes")
        counts = matrix.cpu().to(torch.float64)  # exact up to 2^53 pixels
        right, true, predicted = counts.diag(), counts.sum(1), counts.sum(0)
        # 0 / 0 is nan by IEEE 754: exactly the classes that have no score
        iou = right / (true + predicted - right)
        accuracy = right / true
        return cls(
            names=tuple(names),
            iou=tuple(iou.tolist()),
            accuracy=tuple(accuracy.tolist()),
            mean_iou=iou.nanmean().item(),
            pixel_accuracy=(right.sum() / true.sum()).item(),
            mean_accuracy=accuracy.nanmean().item(),
            frequency_weighted_iou=((true * iou).nansum() / true.sum()).item(),
            matrix=tuple(tuple(row) for row in matrix.tolist()),
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold: nan becomes None, classes go by name."""
        plain = {key: without_nan(value) for key, value in asdict(self).items()}
        plain["classes"] = {
            name: {"iou": iou, "accuracy": accuracy, "pixels": sum(row)}
            for name, iou, accuracy, row in zip(
                plain.pop("names"),
                plain.pop("iou"),
                plain.pop("accuracy"),
                self.matrix,
                strict=True,
            )
        }
        return plain


def without_nan(value: Any) -> Any:
    """`value` with every nan in it replaced by None, which JSON writes as null."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return value


def _are_bytes(ids: Tensor) -> bool:
    """Whether the ids are on the CPU and fit into 8 bits."""
    if ids.device.type != "cpu":
        return False
    if ids.dtype == torch.uint8 or ids.numel() == 0:
        return True
    low, high = ids.aminmax()
    return bool(low >= 0 and high <= 255)


def _confusion_of_bytes(prediction: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """`confusion` by one histogram of all pairs of bytes, some twenty times as fast."""
    first, second = (ids.to(torch.uint8).contiguous().numpy() for ids in (truth, prediction))
    pairs = torch.from_numpy(count_pairs(first, second)[:IGNORE])
    _check_range("label", pairs.any(dim=1).nonzero()[:, 0], num_classes, " or 255")
    _check_range("predicted", pairs.any(dim=0).nonzero()[:, 0], num_classes)
    return pairs[:num_classes, :num_classes].clone()


def _check_range(what: str, ids: Tensor, num_classes: int, also: str = "") -> None:
    """Raise BinsegError if one of the different `ids` is no class."""
    bad = [str(i) for i in ids.tolist() if not 0 <= i < num_classes]
    if bad:
        some = ", ".join(bad[:10]) + (" …" if len(bad) > 10 else "")
        raise BinsegError(f"{what} ids {some} are outside 0..{num_classes - 1}{also}")
