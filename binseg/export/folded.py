"""Trained networks for export: weights computed once, normalization inside."""

from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.data.preprocess import Preprocessing
from binseg.nn.binarize import sign, weight_scale
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import Segmenter


class FoldedConv(nn.Module):
    """`BinaryConv2d` in eval mode with its weights' signs as int8.

    Args:
        conv: the trained layer.

    Attributes:
        signs: int8 (K·C_out, C_in, k, k), ±1.
        factor: the weights' scale, float32 (1, K·C_out, 1, 1), or None.
    """

    signs: Tensor
    factor: Tensor | None

    def __init__(self, conv: BinaryConv2d) -> None:
        super().__init__()
        self.binarize_input, self.scaling_map = conv.binarize_input, conv.scaling_map
        self.bases, self.shared_input = conv.bases, conv.shared_input
        self.stride, self.dilations = conv.stride, conv.dilations
        self.padding_value, self.kernel_size = conv.padding_value, conv.kernel_size
        latent = conv.latent_weight.detach()
        factor = weight_scale(latent, conv.scale, conv.bases)
        self.register_buffer("signs", sign(latent).to(torch.int8))
        self.register_buffer("factor", None if factor is None else factor.float().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """As `BinaryConv2d`."""
        bits = self.binarize_input(x)
        weight = self.signs.to(bits.dtype)
        if len(set(self.dilations)) == 1:
            groups = 1 if self.shared_input else self.bases
            y = self._convolve(bits, weight, self.dilations[0], groups)
        else:
            inputs = [bits] * self.bases if self.shared_input else bits.chunk(self.bases, dim=1)
            parts = zip(inputs, weight.chunk(self.bases, dim=0), self.dilations, strict=True)
            y = torch.cat([self._convolve(*part, groups=1) for part in parts], dim=1)
        if self.factor is not None:
            y = y * self.factor
        return y if self.scaling_map is None else y * self.scaling_map(x)

    def _convolve(self, x: Tensor, weight: Tensor, dilation: int, groups: int) -> Tensor:
        border = dilation * (self.kernel_size - 1) // 2
        if self.padding_value != 0 and border:
            x = F.pad(x, (border,) * 4, value=self.padding_value)
            border = 0
        return F.conv2d(x, weight, None, self.stride, border, dilation, groups)


class Normalized(nn.Module):
    """A network that takes RGB in [0, 255] and normalizes it itself.

    Args:
        network: takes normalized images.
        preprocessing: mean and deviation.
        upsampled: give logits at the image's size; else on the head's own grid.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: Segmenter, preprocessing: Preprocessing, *, upsampled: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.upsampled = upsampled
        scale = torch.tensor([1 / (255 * std) for std in preprocessing.std])
        shift = torch.tensor(
            [-m / std for m, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
        )
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """float32 (N, 3, H, W), RGB in [0, 255], to logits (N, C, H, W) or (N, C, h, w)."""
        run = self.network if self.upsampled else self.network.scores
        return cast(Tensor, run(image * self.scale + self.shift))


def folded(network: Segmenter) -> Segmenter:
    """A copy in eval mode whose binary convolutions are `FoldedConv`; a network without any is
    only copied."""
    copy = deepcopy(network).cpu().float().eval()
    for name, module in list(copy.named_modules()):
        if isinstance(module, BinaryConv2d):
            parent, _, own = name.rpartition(".")
            setattr(copy.get_submodule(parent), own, FoldedConv(module))
    return copy
