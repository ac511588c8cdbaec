"""AlexNet as XNOR-Net and as BWN, packed.

Where pooling follows a binary convolution, a real map goes to the next layer, which takes the signs
of its BatchNorm; elsewhere its bits do.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.nn.backbones.alexnet import AlexNet, AlexNetLayer, check_picture
from binseg.nn.layers import BinaryConv2d
from binseg.packed.bit_weights import bit_weight_conv
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine, rest_layers
from binseg.packed.signs import NormSigns
from binseg.packed.xnornet import ScaledConv


class PackedAlexNet(nn.Module):
    """All layers but the last linear one.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: not looked at, as there is but one map.
        folding: see `Folding`.
    """

    def __init__(self, network: AlexNet, read: frozenset[int], folding: Folding) -> None:
        super().__init__()
        self.first = FirstLayer(network.stem, folding)
        layers = cast(list[AlexNetLayer], [network.stem, *network.layers])
        followers = [*layers[2:], None]
        self.layers = nn.ModuleList(
            _packed_layer(before, layer, following, folding)
            for before, layer, following in zip(layers, layers[1:], followers, strict=False)
        )
        self.norm = Affine.of(_norm(network.end), relu=True) if len(network.end) else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to one float32 map (N, 1, 1, C)."""
        check_picture(x)
        y = self.first(x)
        for layer in self.layers:
            y = layer(y)
        y = y.flatten(1)[:, None, None]
        return [y.float() if self.norm is None else self.norm(y)]


class FirstLayer(nn.Module):
    """The 11×11 convolution with stride 4 and a border of 2, BatchNorm, ReLU and pooling."""

    def __init__(self, layer: AlexNetLayer, folding: Folding) -> None:
        super().__init__()
        assert isinstance(layer.conv, nn.Conv2d)
        self.conv = rest_layers(layer.conv, layer.after[0], folding, relu=True)
        self.eight_bits = folding.rest == "int8"

    def forward(self, x: Tensor) -> Tensor:
        """A picture (N, 3, H, W) to (N, H', W', C)."""
        y = x.permute(0, 2, 3, 1)
        if not self.eight_bits:
            return _pooled(self.conv(y))
        # 8-bit convolutions have a border of 5 here: with a pixel more in front, the results from
        # the second one on are those of a border of 2
        moved = self.conv(F.pad(y, (0, 0, 1, 0, 1, 0)))[:, 1:, 1:]
        height, width = ((side - 3) // 4 for side in x.shape[2:])
        return _pooled(moved[:, :height, :width])


class BitLayer(nn.Module):
    """A layer of XNOR-Net.

    Args:
        before: the layer before it.
        layer: the trained layer; on the meta device only sizes are taken.
        following: the layer after it, None after the last.
        folding: see `Folding`.
    """

    def __init__(
        self,
        before: AlexNetLayer,
        layer: AlexNetLayer,
        following: AlexNetLayer | None,
        folding: Folding,
    ) -> None:
        super().__init__()
        self.pool, self.flat = layer.pool, layer.flat
        # None where the layer before gives bits, which hold this layer's BatchNorm
        self.signs = NormSigns(_norm(layer.before)) if before.pool else None
        self.threshold = following is not None and not layer.pool
        unit = [layer.conv]
        if following is not None and self.threshold:
            unit.append(_norm(following.before))
        self.conv = PackedConv.of(nn.Sequential(*unit), folding, threshold=self.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, C), or bits (N, H, W, 1, words), to the same of the next layer."""
        if self.signs is not None:
            x = self.signs(_flat(x) if self.flat else x)
        if self.threshold:
            return self.conv.bits(x)
        real = self.conv.real(x, pack=False)[0].squeeze(3)
        return _pooled(real) if self.pool else real


class ScaledLayer(nn.Module):
    """A layer of XNOR-Net with the scaling map of its input.

    Args:
        layer: the trained layer; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, layer: AlexNetLayer, folding: Folding) -> None:
        super().__init__()
        self.pool, self.flat = layer.pool, layer.flat
        self.norm = Affine.of(_norm(layer.before))
        self.conv = ScaledConv(layer.conv, folding)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, C) to float32 (N, H', W', C')."""
        y = self.norm(x)
        y = self.conv((_flat(y) if self.flat else y).unsqueeze(3)).squeeze(3)
        return _pooled(y) if self.pool else y


class BitWeightLayer(nn.Module):
    """A layer of BWN.

    Args:
        layer: the trained layer; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, layer: AlexNetLayer, folding: Folding) -> None:
        super().__init__()
        self.pool, self.flat = layer.pool, layer.flat
        conv = cast(BinaryConv2d, layer.conv)
        self.conv = bit_weight_conv(conv, _norm(layer.after), folding, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H', W', C') in the dtype of the convolution."""
        y = self.conv(_flat(x) if self.flat else x)
        return _pooled(y) if self.pool else y


def _packed_layer(
    before: AlexNetLayer, layer: AlexNetLayer, following: AlexNetLayer | None, folding: Folding
) -> nn.Module:
    assert isinstance(layer.conv, BinaryConv2d)
    if layer.conv.real_input:
        return BitWeightLayer(layer, folding)
    if layer.conv.input_scale:
        return ScaledLayer(layer, folding)
    return BitLayer(before, layer, following, folding)


def _norm(layers: nn.Sequential) -> nn.BatchNorm2d:
    return cast(nn.BatchNorm2d, layers[0])


def _flat(x: Tensor) -> Tensor:
    """(N, H, W, C) to (N, 1, 1, H·W·C)."""
    return x.flatten(1)[:, None, None]


def _pooled(x: Tensor) -> Tensor:
    """3×3 max-pooling with stride 2 and no border of (N, H, W, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 3, 2).permute(0, 2, 3, 1)
