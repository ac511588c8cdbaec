"""XNOR-Net and BWN on residual networks, packed.

XNOR-Net: a BatchNorm and the sign that follows it are one operator from a real map to bits, or
integers to compare with where a convolution comes before them and no shortcut in between. BWN: all
maps are real, and only its weights are bits.
"""

from collections.abc import Callable
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.kernels import ops
from binseg.nn.backbones.stages import StagedBackbone
from binseg.nn.backbones.xnornet import BWN, BWNBlock, XnorBlock, XnorNet
from binseg.nn.layers import BinaryConv2d, ScalingMap
from binseg.packed.bit_weights import bit_weight_conv
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine
from binseg.packed.shortcuts import RealDownsample
from binseg.packed.signs import NormSigns
from binseg.packed.stems import PackedStem


class _PackedStages(nn.Module):
    """The stem and all blocks.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: the stages, counted from 0, whose maps the head reads.
        folding: see `Folding`; its `rest` is the arithmetic of all real convolutions.
        pack: a trained block to a packed one.
    """

    def __init__(
        self,
        network: StagedBackbone,
        read: frozenset[int],
        folding: Folding,
        pack: Callable[[Any, Folding], nn.Module],
    ) -> None:
        super().__init__()
        self.read = read
        self.stem = PackedStem(network.stem, folding, pack=False)
        self.stages = nn.ModuleList(
            nn.Sequential(*(pack(block, folding) for block in cast(nn.ModuleList, blocks)))
            for blocks in network.stages
        )

    def _maps(self, y: Tensor) -> list[Tensor]:
        """The stem's map to those of the stages read."""
        maps = []
        for index, stage in enumerate(self.stages):
            y = stage(y)
            if index in self.read:
                maps.append(y)
        return maps


class PackedXnorNet(_PackedStages):
    """`XnorNet`, packed; the last stage is always read."""

    def __init__(self, network: XnorNet, read: frozenset[int], folding: Folding) -> None:
        super().__init__(network, read, folding, _xnor_block)
        self.norm = Affine.of(network.norm, relu=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to float32 maps (N, H_i, W_i, C_i) of the stages read."""
        *earlier, last = (real.squeeze(3) for real in self._maps(self.stem(x)[0]))
        return [*earlier, self.norm(last)]


class PackedXnorBlock(nn.Module):
    """`XnorBlock` without scaling maps, packed.

    Args:
        block: the trained block; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, block: XnorBlock, folding: Folding) -> None:
        super().__init__()
        self.signs = NormSigns(_norm(block.entry1))
        between = nn.Sequential(block.conv1, _norm(block.entry2))
        self.conv1 = PackedConv.of(between, folding, threshold=True)
        self.conv2 = PackedConv.of(nn.Sequential(block.conv2), folding)
        self.real_downsample: RealDownsample | None = None
        self.binary_downsample: PackedConv | None = None
        if block.real_downsample is not None:
            self.real_downsample = RealDownsample(block.real_downsample, folding)
        elif block.binary_downsample is not None:
            self.binary_downsample = PackedConv.of(nn.Sequential(block.binary_downsample), folding)

    def forward(self, real: Tensor) -> Tensor:
        """float32 (N, H, W, 1, C) to float32 (N, H', W', 1, C')."""
        bits = self.signs(real.squeeze(3))
        if self.real_downsample is not None:
            real = self.real_downsample(real, bits)
        elif self.binary_downsample is not None:
            real, _ = self.binary_downsample.real(bits, pack=False)
        return self.conv2.real(self.conv1.bits(bits), real, pack=False)[0]


class ScaledConv(nn.Module):
    """A binary convolution and the scaling map of its input.

    Args:
        conv: the trained layer; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, conv: nn.Module, folding: Folding) -> None:
        super().__init__()
        assert isinstance(conv, BinaryConv2d)
        self.conv = PackedConv.of(nn.Sequential(conv), folding)
        self.scaling_map = ScalingMap(conv.kernel_size, conv.stride, conv.dilations[0])

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, 1, C) to float32 (N, H', W', 1, C')."""
        y, _ = self.conv.real(ops.pack_sign(x), pack=False)
        return y * ops.nhwc(self.scaling_map(ops.nchw(x)), 1)


class PackedScaledBlock(nn.Module):
    """`XnorBlock` with scaling maps, packed: its BatchNorms are real, as the maps need them.

    Args:
        block: the trained block; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, block: XnorBlock, folding: Folding) -> None:
        super().__init__()
        self.norm1 = Affine.of(_norm(block.entry1))
        self.conv1 = ScaledConv(block.conv1, folding)
        self.norm2 = Affine.of(_norm(block.entry2))
        self.conv2 = ScaledConv(block.conv2, folding)
        self.real_downsample: RealDownsample | None = None
        self.binary_downsample: ScaledConv | None = None
        if block.real_downsample is not None:
            self.real_downsample = RealDownsample(block.real_downsample, folding)
        elif block.binary_downsample is not None:
            self.binary_downsample = ScaledConv(block.binary_downsample, folding)

    def forward(self, real: Tensor) -> Tensor:
        """float32 (N, H, W, 1, C) to float32 (N, H', W', 1, C')."""
        inner = self.norm1(real)
        if self.real_downsample is not None:
            real = self.real_downsample(real, inner)
        elif self.binary_downsample is not None:
            real = self.binary_downsample(inner)
        return self.conv2(self.norm2(self.conv1(inner))) + real


class PackedBWN(_PackedStages):
    """`BWN`, packed."""

    def __init__(self, network: BWN, read: frozenset[int], folding: Folding) -> None:
        super().__init__(network, read, folding, PackedBWNBlock)

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to float32 maps (N, H_i, W_i, C_i) of the stages read."""
        return [y.float() for y in self._maps(self.stem(x)[0].squeeze(3))]


class PackedBWNBlock(nn.Module):
    """`BWNBlock`, packed.

    Args:
        block: the trained block; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, block: BWNBlock, folding: Folding) -> None:
        super().__init__()
        self.conv1 = bit_weight_conv(
            cast(BinaryConv2d, block.conv1), block.norm1, folding, relu=True
        )
        self.conv2 = bit_weight_conv(cast(BinaryConv2d, block.conv2), block.norm2, folding)
        self.downsample: nn.Module | None = None
        if block.downsample is not None:
            first, *_, norm = block.downsample
            if isinstance(first, BinaryConv2d):
                self.downsample = bit_weight_conv(first, norm, folding)
            else:
                self.downsample = RealDownsample(block.downsample, folding)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H', W', C') in the dtype of the convolutions."""
        y = self.conv2(self.conv1(x))
        if isinstance(self.downsample, RealDownsample):
            x = self.downsample(x.unsqueeze(3), x).squeeze(3)
        elif self.downsample is not None:
            x = self.downsample(x)
        return F.relu_(y + x)


def _xnor_block(block: XnorBlock, folding: Folding) -> PackedXnorBlock | PackedScaledBlock:
    assert isinstance(block.conv1, BinaryConv2d)
    kind = PackedScaledBlock if block.conv1.input_scale else PackedXnorBlock
    return kind(block, folding)


def _norm(entry: nn.Sequential) -> nn.BatchNorm2d:
    return cast(nn.BatchNorm2d, entry[0])
