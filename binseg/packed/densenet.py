"""BinaryDenseNet, packed: one real map a stage, into which every layer writes its channels.

A layer reads all channels before its own through a BatchNorm and a sign, which are one operator
from the map to bits; nothing real is made in between. So a stage allocates its map once, in the
width that it ends with: a layer's result lands beside what it read, and nothing that is there
already is copied again. The numbers are float32, because the signs need every digit of the stem's
and the transitions' results, and of sums that bfloat16 cannot hold from 257 on.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.nn.backbones.densenet import DenseLayer, DenseNet, Transition
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine, rest_conv
from binseg.packed.signs import NormSigns
from binseg.packed.stems import PackedStem


class PackedDenseNet(nn.Module):
    """The stem, the stages and what follows each of them.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: the stages, counted from 0, whose maps the head reads; the last is always one.
        folding: see `Folding`.
    """

    def __init__(self, network: DenseNet, read: frozenset[int], folding: Folding) -> None:
        super().__init__()
        self.read = read
        self.stem = PackedStem(network.stem, folding, pack=False)
        self.stages = nn.ModuleList(
            PackedDenseStage(cast(nn.Sequential, stage), folding) for stage in network.stages
        )
        *transitions, last = network.ends
        self.transitions = nn.ModuleList(
            PackedTransition(cast(Transition, transition), folding) for transition in transitions
        )
        norm = cast(nn.Sequential, last)[0]
        assert isinstance(norm, nn.BatchNorm2d)
        self.norm = Affine.of(norm, relu=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to float32 maps (N, H_i, W_i, C_i) of the stages read."""
        x = self.stem(x)[0].squeeze(3)
        maps = []
        for index, (stage, end) in enumerate(
            zip(self.stages, [*self.transitions, self.norm], strict=True)
        ):
            x = stage(x)
            if index in self.read:
                maps.append(x)
            x = end(x)
        return [*maps[:-1], x]


class PackedDenseStage(nn.Module):
    """Dense layers over one map.

    Args:
        layers: the trained ones; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, layers: nn.Sequential, folding: Folding) -> None:
        super().__init__()
        packed = [PackedDenseLayer(cast(DenseLayer, each), folding) for each in layers]
        self.layers = nn.ModuleList(packed)
        self.widths = [layer.in_channels for layer in packed]
        self.widths.append(packed[-1].in_channels + packed[-1].out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to float32 (N, H, W, C + the layers' channels), x first."""
        joined = x.new_empty((*x.shape[:3], self.widths[-1]), dtype=torch.float32)
        joined[..., : self.widths[0]] = x
        for layer, read, filled in zip(self.layers, self.widths, self.widths[1:], strict=False):
            joined[..., read:filled] = layer(joined[..., :read])
        return joined


class PackedDenseLayer(NormSigns):
    """`DenseLayer`, packed: the signs of its BatchNorm, and the convolution that reads them.

    Args:
        layer: the trained one; on the meta device only sizes are taken.
        folding: see `Folding`.

    Attributes:
        in_channels, out_channels: of the maps.
    """

    def __init__(self, layer: DenseLayer, folding: Folding) -> None:
        super().__init__(layer.norm)
        assert isinstance(layer.conv, BinaryConv2d)
        self.in_channels, self.out_channels = layer.conv.in_channels, layer.conv.out_channels
        self.conv = PackedConv.of(nn.Sequential(layer.conv), folding)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, C_in) of any strides to float32 (N, H, W, C_out)."""
        return self.conv.real(super().forward(x), pack=False)[0].squeeze(3)


class PackedTransition(nn.Module):
    """`Transition`, packed: the maximum is taken of what the BatchNorm gives, as its gains may be
    negative.

    Args:
        transition: the trained one; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, transition: Transition, folding: Folding) -> None:
        super().__init__()
        norm, pool, _, conv = transition
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        self.pools = isinstance(pool, nn.MaxPool2d)
        self.norm = Affine.of(norm, relu=True)  # a ReLU before a maximum or after it is the same
        self.conv = rest_conv(conv, folding)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, C) to (N, H', W', C') in the dtype of the convolution."""
        y = self.norm(x)
        if self.pools:
            y = F.max_pool2d(y.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        return self.conv(y)
