"""From scores at the network's resolution to class ids at the label's, in bounded memory.

Bilinear upsampling of all classes of a 50-megapixel image at once takes gigabytes (21 classes:
4.2 GB) for a result of 50 MB. Here the image is made in strips of rows, each forgotten as soon
as its largest class is known.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.data.labels import IGNORE
from binseg.errors import BinsegError

STRIP_BYTES = 1 << 25
"""Memory for the upsampled scores of one strip, in bytes: a cache's size, not a machine's."""


def upsampled_argmax(
    scores: Tensor, size: tuple[int, int], *, strip_bytes: int | None = None
) -> np.ndarray:
    """The class with the largest bilinearly interpolated score at each pixel.

    Equal to `F.interpolate(scores, size, mode="bilinear", align_corners=False).argmax` up to
    rounding, and exactly the same for any `strip_bytes`. Of equal scores the lowest id wins.

    Args:
        scores: float (C, h, w) logits or probabilities, C at most 255.
        size: (height, width) of the result in pixels, larger or smaller than (h, w).
        strip_bytes: bytes that the scores of one strip may take.

    Returns:
        uint8 HW in [0, C).

    Raises:
        BinsegError: a score is nan.
    """
    rows = ArgmaxRows((scores.shape[1], scores.shape[2]), size, strip_bytes=strip_bytes)
    rows.push(scores)
    return rows.class_map


class RowGrid:
    """Between which source rows each row of a resized image lies, and where between them.

    Args:
        source: source rows h.
        target: target rows H.
    """

    def __init__(self, source: int, target: int) -> None:
        # align_corners=False: the centre of target row Y lies at (Y + ½) · h / H − ½
        centers = (torch.arange(target, dtype=torch.float64) + 0.5) * source / target
        places = (centers - 0.5).clamp_(min=0)
        self.above = places.long()
        self.below = (self.above + 1).clamp_(max=source - 1)
        self.weight = (places - self.above).float()

    def needed(self, strip: slice) -> slice:
        """The source rows that the target rows `strip` lie between."""
        return slice(int(self.above[strip.start]), int(self.below[strip.stop - 1]) + 1)

    def resized(self, known: Tensor, first: int, strip: slice, width: int) -> Tensor:
        """The target rows `strip`, float (C, n, width), bilinearly.

        Args:
            known: float (C, k, w), the source rows from `first` on, all that are needed.
            first: the source row of `known[:, 0]`.
            strip: target rows.
            width: of the target, in pixels.
        """
        device = known.device
        above, below = ((rows[strip] - first).to(device) for rows in (self.above, self.below))
        weight = self.weight[strip].to(device)[:, None]
        # mul, mul and add round one by one, so that a row's value does not depend on its strip
        scores = known[:, above].mul_(1 - weight).add_(known[:, below].mul_(weight))
        return F.interpolate(
            scores[None], size=(scores.shape[1], width), mode="bilinear", align_corners=False
        )[0]


class ArgmaxRows:
    """`upsampled_argmax` for scores that come a few rows at a time, from top to bottom.

    Args:
        source: (height, width) of all the rows together.
        target: (height, width) of the class map.
        strip_bytes: bytes that the upsampled scores of one strip may take.

    Attributes:
        class_map: uint8 HW; complete once `source` height rows were pushed.
    """

    def __init__(
        self, source: tuple[int, int], target: tuple[int, int], *, strip_bytes: int | None = None
    ) -> None:
        self.class_map = np.zeros(target, dtype=np.uint8)
        self._grid = RowGrid(source[0], target[0])
        self._strip_bytes = strip_bytes
        self._kept: Tensor | None = None  # rows that target rows to come still need
        self._first = 0  # source row of _kept[0]
        self._done = 0  # target rows finished

    def push(self, rows: Tensor) -> None:
        """Take the next rows, float (C, n, w), and finish all target rows that they decide.

        Raises:
            BinsegError: a score is nan.
        """
        if not 1 <= rows.shape[0] <= IGNORE:
            raise ValueError(f"1 to {IGNORE} classes fit a class map, not {rows.shape[0]}")
        rows = rows.float()
        known = rows if self._kept is None else torch.cat([self._kept, rows], dim=1)
        ready = int(torch.searchsorted(self._grid.below, self._first + known.shape[1]))
        height, width = self.class_map.shape
        for strip in strips(slice(self._done, ready), rows.shape[0], width, self._strip_bytes):
            self._finish(known, strip)
        self._done = ready
        if ready < height:
            # a strong shrinking skips rows, also some that are yet to come
            passed = min(int(self._grid.above[ready]) - self._first, known.shape[1])
            self._kept, self._first = known[:, passed:].clone(), self._first + passed
        else:
            self._kept = None

    def _finish(self, known: Tensor, strip: slice) -> None:
        wide = self._grid.resized(known, self._first, strip, self.class_map.shape[1])
        # a running maximum over the planes is four times as fast as argmax across them
        best = wide[0].clone()
        ids = torch.zeros(wide.shape[1:], dtype=torch.uint8, device=wide.device)
        for index in range(1, wide.shape[0]):
            ids.masked_fill_(wide[index] > best, index)
            torch.maximum(best, wide[index], out=best)
        refuse_nan(best)
        self.class_map[strip] = ids.cpu().numpy()


def strips(
    rows: slice, channels: int, width: int, strip_bytes: int | None = None
) -> Iterator[slice]:
    """`rows` in parts whose float32 scores (channels, n, width) take at most `strip_bytes`, but
    at least a row; None: STRIP_BYTES."""
    step = max(1, (strip_bytes or STRIP_BYTES) // (4 * channels * width))
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def refuse_nan(scores: Tensor) -> None:
    """Raise BinsegError if a score is nan: an argmax would hide it."""
    if scores.isnan().any():
        raise BinsegError(
            "the network's output holds nan: its weights are damaged or its training diverged"
        )
