"""Grids that networks of segmentation-models-pytorch (smp) ask of images and of encoders."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

OWN_ENCODER = "binseg-"
"""What names of our backbones begin with where they are encoders of smp."""

_MULTIPLE = 32


def padded(x: Tensor) -> Tensor:
    """Images (N, 3, H, W), padded at the right and the bottom by repeating their border.

    The sides become multiples of 32, which is what smp's networks ask for.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="replicate")


def on_smp_grids(
    maps: Sequence[Tensor], strides: Sequence[int], output_stride: int
) -> list[Tensor]:
    """A backbone's maps (N, C_i, H_i, W_i) at strides 4, 8, 16 and 32, none above `output_stride`.

    A backbone that is dilated whatever one asks for has finer maps than smp's decoders reckon with;
    they are averaged.
    """
    found = []
    for stage, (feature, stride) in enumerate(zip(maps, strides, strict=True)):
        shrink = min(2 ** (stage + 2), output_stride) // stride
        found.append(feature if shrink <= 1 else F.avg_pool2d(feature, shrink))
    return found
