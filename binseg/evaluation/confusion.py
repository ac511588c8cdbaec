"""The confusion matrix as a metric that adds up across batches and processes.

The rules are in `binseg.evaluation.scores`, which does without torchmetrics: that takes seconds to
import, and predicting does not need it.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from binseg.evaluation.scores import Scores, confusion

__all__ = ["ConfusionMatrix", "Scores", "confusion"]


class ConfusionMatrix(Metric):
    """The confusion matrix of a whole set, added up over batches and over processes.

    `compute()` gives the int64 (num_classes, num_classes) matrix, rows truth, columns prediction;
    `Scores.of` makes figures of it.

    Args:
        num_classes: number of classes, at most 255.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    matrix: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        empty = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("matrix", default=empty, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add the pixels of one image or batch (HW or NHW); see `confusion`."""
        self.matrix += confusion(prediction, truth, self.num_classes)

    def compute(self) -> Tensor:
        """The matrix of everything seen since the last reset."""
        return self.matrix
