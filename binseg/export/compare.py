"""Comparison of an exported file with the network that it was made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from binseg.data.preprocess import Preprocessing
from binseg.nn.segmenter import Segmenter

Logits = Callable[[Sequence[np.ndarray]], np.ndarray]
"""uint8 images (H, W, 3) of one size → float32 (N, C, H, W)."""


@dataclass(frozen=True)
class Difference:
    """How far an exported network is from its source.

    Attributes:
        largest: of the absolute differences of the logits.
        scale: the largest absolute logit of the source.
        equal: share of the pixels with the same class.
        runs: batches that were compared, as N × H × W.
    """

    largest: float
    scale: float
    equal: float
    runs: tuple[str, ...]


def compare(
    network: Segmenter,
    preprocessing: Preprocessing,
    exported: Logits,
    batches: Sequence[Sequence[np.ndarray]],
) -> Difference:
    """Run both on the same images.

    Args:
        network: in eval mode, on the CPU.
        preprocessing: mean and deviation; images are not resized.
        exported: the file's network.
        batches: of several sizes and lengths; at least one image.
    """
    largest = scale = 0.0
    equal = pixels = 0
    runs = []
    for images in batches:
        x = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
        with torch.inference_mode():
            wanted = network(preprocessing.normalize(x)).float().numpy()
        found = exported(images)
        largest = max(largest, float(np.abs(found - wanted).max()))
        scale = max(scale, float(np.abs(wanted).max()))
        same = found.argmax(1) == wanted.argmax(1)
        equal, pixels = equal + int(same.sum()), pixels + same.size
        runs.append(f"{len(images)} × {x.shape[2]} × {x.shape[3]}")
    return Difference(largest, scale, equal / pixels, tuple(runs))
