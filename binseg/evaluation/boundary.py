"""Boundary IoU: overlap near the contours, where a coarse mask loses nothing in plain IoU.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021:

    Boundary IoU(G, P) = |(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)|

G is the true mask of a class, P the predicted one, X_d the pixels within distance d of X's
contour; d is 2 % of the image's diagonal (section 5). As in the authors' code a distance is
counted in steps of a 3×3 erosion, that is max(|Δx|, |Δy|), and the image's edge cuts a mask as
a contour does. Intersections and unions are added up over the set before they are divided.
"""

import math

import numpy as np

from binseg.data.labels import IGNORE
from binseg.errors import BinsegError
from binseg.evaluation.counts import count_ids

DISTANCE = 0.02  # share of the diagonal; section 5 of the paper


def inner_boundary(class_map: np.ndarray, distance: int) -> np.ndarray:
    """Pixels that lie in their own class's mask within `distance` of its contour.

    A pixel does exactly when the square of side 2·distance + 1 around it holds another class or
    leaves the image, that is when the square's smallest and largest id differ: one erosion and
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


class BoundaryIoU:
    """Boundary IoU of each class over a whole set, added up over images.

    Args:
        num_classes: number of classes, at most 255.
        distance: width of the boundary region as a share of the image's diagonal; it is
            rounded to whole pixels, at least one.
    """

    def __init__(self, num_classes: int, distance: float = DISTANCE) -> None:
        if not 0.0 < distance <= 1.0:
            raise BinsegError(
                f"boundary distance must be a share of the diagonal in (0, 1], not {distance}"
            )
        self.distance = distance
        self._intersection = np.zeros(num_classes, dtype=np.int64)
        self._union = np.zeros(num_classes, dtype=np.int64)

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add the boundaries of one image.

        Args:
            prediction: HW uint8 class ids in [0, num_classes).
            truth: HW uint8 train ids, 255 for no label, of the prediction's size.
        """
        distance = max(1, round(self.distance * math.hypot(*truth.shape)))
        # what a model says of pixels without a label must not make a contour beside them
        prediction = np.where(truth == IGNORE, np.uint8(IGNORE), prediction)
        true_boundary = inner_boundary(truth, distance)
        predicted_boundary = inner_boundary(prediction, distance)
        agreed = true_boundary & predicted_boundary & (truth == prediction)
        both = self._count(truth, agreed)
        self._intersection += both
        self._union += self._count(truth, true_boundary) - both
        self._union += self._count(prediction, predicted_boundary)

    def add(self, other: "BoundaryIoU") -> None:
        """Add what another process has seen."""
        self._intersection += other._intersection
        self._union += other._union

    def compute(self) -> tuple[float, ...]:
        """Boundary IoU of each class over everything seen, in the order of the ids; nan for a
        class that is in neither truth nor prediction."""
        with np.errstate(invalid="ignore"):
            return tuple((self._intersection / self._union).tolist())

    def _count(self, ids: np.ndarray, where: np.ndarray) -> np.ndarray:
        return count_ids(ids, where)[: len(self._union)]
