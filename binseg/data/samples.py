"""What a data set gives: one labelled picture."""

from typing import NamedTuple

import numpy as np


class Sample(NamedTuple):
    """A picture and its train ids, at their own resolution, with no augmentation.

    `image` is uint8 (H, W, 3) RGB in [0, 255]; `labels` is uint8 (H, W): 0 … C−1, 255 ignored;
    `name` is unique in its split and short enough for a message or a file name.
    """

    image: np.ndarray
    labels: np.ndarray
    name: str
