"""Whether a packed network says the same as the trained one."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from binseg.data.preprocess import Preprocessing
from binseg.nn.segmenter import Segmenter


def network_input(image: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """A picture, HWC uint8 RGB, as a network takes it: float32 (1, 3, H, W), normalised."""
    pixels = np.ascontiguousarray(preprocessing.resize(image))
    return preprocessing.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous())


def agreement(trained: Segmenter, packed: Segmenter, inputs: Iterable[Tensor]) -> float:
    """Share of the pixels, in [0, 1], whose class is the same in both networks' class maps.

    Args:
        trained, packed: in eval mode, on the CPU.
        inputs: float32 (N, 3, H, W), normalised; at least one.
    """
    same = pixels = 0
    with torch.inference_mode():
        for x in inputs:
            equal = trained.class_map(x) == packed.class_map(x)
            same += int(equal.sum())
            pixels += equal.numel()
    return same / pixels
