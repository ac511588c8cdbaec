"""Shortcuts of packed blocks that change the size of the map."""

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.kernels import ops
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import rest_layers
from binseg.packed.signs import packed_signs


class BinaryDownsample(nn.Module):
    """A shortcut's binary 1×1 convolution; one base's weights serve all branches."""

    def __init__(self, layers: nn.Sequential, branches: int, folding: Folding) -> None:
        super().__init__()
        self.signs = packed_signs(cast(BinaryConv2d, layers[0]).binarize_input)
        self.conv = PackedConv.of(layers, folding, branches=branches)

    def forward(self, real: Tensor, bits: Tensor) -> Tensor:
        if self.signs is not None:
            bits = self.signs(real)  # a threshold of its own
        return self.conv.real(bits, pack=False)[0]


class RealDownsample(nn.Module):
    """A shortcut's average pooling and real 1×1 convolution, the branches side by side."""

    def __init__(self, layers: nn.Sequential, folding: Folding) -> None:
        super().__init__()
        pool, conv, norm = layers
        assert isinstance(conv, nn.Conv2d)
        self.stride = pool.kernel_size if isinstance(pool, nn.AvgPool2d) else 1
        self.conv = rest_layers(conv, norm, folding)

    def forward(self, real: Tensor, bits: Tensor) -> Tensor:
        coarse = pooled(real, self.stride)
        # a 1×1 convolution takes the branches for columns of the map
        return self.conv(coarse.flatten(2, 3)).float().unflatten(2, coarse.shape[2:4])


def pooled(x: Tensor, stride: Any) -> Tensor:
    """Average pooling of (N, H, W, B, C) to ⌈size / stride⌉, as in the trained network."""
    if stride == 1:
        return x
    coarse = F.avg_pool2d(ops.nchw(x), stride, ceil_mode=True, count_include_pad=False)
    return ops.nhwc(coarse.float(), x.shape[3])
