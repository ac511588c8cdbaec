"""Boundary IoU: overlap near the contours, where a coarse mask loses nothing in plain IoU.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021:

    Boundary IoU(G, P) = |(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)|

G is the true mask of a class, P the predicted one, X_d the pixels within distance d of X's
contour; d is 2 % of the picture's diagonal (section 5). As in the authors' code a distance is
counted in steps of a 3×3 erosion, that is max(|Δx|, |Δy|), and the picture's edge cuts a mask as
a contour does. Intersections and unions are added up over the set before they are divided.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from binseg.data.labels import IGNORE

DISTANCE = 0.02  # share of the diagonal; section 5 of the paper


def inner_boundary(class_map: np.ndarray, distance: int) -> np.ndarray:
    """Pixels that lie in their own class's mask within `distance` of its contour.

    A pixel does exactly when the square of side 2·distance + 1 around it holds another class or
    leaves the picture, that is when the square's smallest and largest id differ: one erosion and
    one dilation serve all classes at once. Pixels of 255 are in no mask and make no contour.

    Args:
        class_map: HW uint8 class ids, 255 for pixels that are to be left out.
        distance: d in pixels, at least 1.

    Returns:
        HW bool.
    """
    import cv2

    square = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    left_out = class_map == IGNORE
    # 255 never is the smallest id, and as 0 never the largest: left-out pixels decide nothing
    smallest = cv2.erode(class_map, square)
    largest = cv2.dilate(np.where(left_out, np.uint8(0), class_map), square)
    near = np.asarray(smallest != largest)
    near[:distance] = near[-distance:] = True
    near[:, :distance] = near[:, -distance:] = True
    return near & ~left_out


class BoundaryIoU(Metric):
    """Boundary IoU of each class over a whole set, added up over pictures and processes.

    `compute()` gives float64 (num_classes,): the IoU of each class, nan for a class that is in
    neither truth nor prediction.

    Args:
        num_classes: number of classes, at most 255.
        distance: width of the boundary region as a share of the picture's diagonal; it is
            rounded to whole pixels, at least one.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    intersection: Tensor
    union: Tensor

    def __init__(self, num_classes: int, distance: float = DISTANCE) -> None:
        super().__init__()
        if not 0.0 < distance <= 1.0:
            raise ValueError(f"distance must be a share of the diagonal in (0, 1], not {distance}")
        self.num_classes = num_classes
        self.distance = distance
        for state in ("intersection", "union"):
            empty = torch.zeros(num_classes, dtype=torch.int64)
            self.add_state(state, default=empty, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add the boundaries of one picture or batch.

        Args:
            prediction: integer class ids in [0, num_classes), HW or NHW.
            truth: integer train ids, 255 for no label, of the prediction's shape.
        """
        for predicted, true in zip(
            prediction.reshape(-1, *prediction.shape[-2:]).to("cpu", torch.uint8).numpy(),
            truth.reshape(-1, *truth.shape[-2:]).to("cpu", torch.uint8).numpy(),
            strict=True,
        ):
            self._add(predicted, true)

    def _add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        distance = max(1, round(self.distance * math.hypot(*true.shape)))
        # what a model says of pixels without a label must not make a contour beside them
        predicted = np.where(true == IGNORE, np.uint8(IGNORE), predicted)
        true_boundary = inner_boundary(true, distance)
        predicted_boundary = inner_boundary(predicted, distance)
        both = self._count(true[true_boundary & predicted_boundary & (true == predicted)])
        either = self._count(true[true_boundary]) + self._count(predicted[predicted_boundary])
        self.intersection += both
        self.union += either - both

    def _count(self, ids: np.ndarray) -> Tensor:
        counts = np.bincount(ids, minlength=self.num_classes)
        return torch.from_numpy(counts).to(self.intersection.device)

    def compute(self) -> Tensor:
        """Boundary IoU of each class over everything seen since the last reset."""
        return self.intersection.double() / self.union.double()
