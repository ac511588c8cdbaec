"""Scores of an image as a network gives them, upsampled only where and when they are looked at."""

import numpy as np
from torch import Tensor

from binseg.evaluation.upsample import ArgmaxRows, RowGrid, strips


class View:
    """What a network says of an image that it saw at some scale, perhaps mirrored.

    Args:
        scores: float32 (C, h, w) logits.
        size: (H, W) for which they stand: by bilinear upsampling, if `scores` is coarser.
        target: (height, width) in which rows are asked for.
        mirrored: the network saw the image's mirror image.
    """

    def __init__(
        self,
        scores: Tensor,
        size: tuple[int, int],
        target: tuple[int, int],
        *,
        mirrored: bool = False,
    ) -> None:
        self.scores = scores
        self._size, self._target, self._mirrored = size, target, mirrored
        self._coarse = tuple(scores.shape[1:]) != size
        self._inner = RowGrid(scores.shape[1], size[0])
        self._outer = RowGrid(size[0], target[0])

    def logits(self, rows: slice) -> Tensor:
        """The target's rows `rows`: float32 (C, n, width), a new tensor."""
        middle = self._outer.needed(rows)
        if self._coarse:
            coarse = self._inner.needed(middle)
            known = self._inner.resized(self.scores[:, coarse], coarse.start, middle, self._size[1])
        else:
            known = self.scores[:, middle]
        wanted = self._outer.resized(known, middle.start, rows, self._target[1])
        return wanted.flip(2) if self._mirrored else wanted

    def probabilities(self, rows: slice) -> Tensor:
        """The softmax of `logits`."""
        return self.logits(rows).softmax(dim=0)


class ProbabilitySum:
    """The sum of the softmax of several views, without all of their upsampled scores at a time.

    Scores on a coarse grid are kept as they are until the end. Those of a network that gives them
    in full are added up at once, so that there is one full-size sum and not one for each view.

    Args:
        target: (height, width) in which the views are added up.
    """

    def __init__(self, target: tuple[int, int]) -> None:
        self._target = target
        self._kept: list[View] = []
        self._full: Tensor | None = None

    def add(self, view: View) -> None:
        height, width = self._target
        channels = view.scores.shape[0]
        if 4 * view.scores[0].numel() <= height * width:
            self._kept.append(view)
            return
        if self._full is None:
            self._full = view.scores.new_zeros(channels, height, width)
        for rows in strips(slice(0, height), channels, width):
            self._full[:, rows] += view.probabilities(rows)

    def argmax(self, size: tuple[int, int]) -> np.ndarray:
        """The class with the largest sum, uint8 HW of `size`."""
        height, width = self._target
        result = ArgmaxRows(self._target, size)
        given = self._kept[0].scores if self._full is None else self._full
        for rows in strips(slice(0, height), len(given), width):
            total = given.new_zeros(len(given), rows.stop - rows.start, width)
            if self._full is not None:
                total += self._full[:, rows]
            for view in self._kept:
                total += view.probabilities(rows)
            result.push(total)
        return result.class_map
