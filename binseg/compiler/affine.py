"""BatchNorms as one multiplication and one addition a channel."""

from copy import deepcopy

import torch
from torch import Tensor, nn


@torch.no_grad()
def norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Gain γ / √(σ² + ε) and bias β − μ·gain of a BatchNorm in eval mode.

    Read off the layer itself, so that they are its own float32 numbers and x·gain + bias with one
    rounding equals it bit for bit.

    Returns:
        float64 (C,) each.
    """
    own = deepcopy(norm).cpu().float().eval()
    zero = torch.zeros(1, norm.num_features, 1, 1)
    bias = own(zero)
    assert own.running_mean is not None
    own.running_mean.zero_()
    if own.bias is not None:
        own.bias.zero_()
    gain = own(torch.ones_like(zero))
    return gain.flatten().double(), bias.flatten().double()
