"""Binary ResNets of one branch, packed: from unit to unit go a real map and its signs.

Signs whose threshold depends on the whole map (SD-BNN) are taken of the finished map; all others
leave the convolution before them.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from binseg.nn.activations import AdaptiveSign, LearntSign
from binseg.nn.backbones.residual import ConvUnit, ResidualBlock, RPReLU
from binseg.nn.backbones.resnet import ResNet
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.shortcuts import BinaryDownsample, RealDownsample
from binseg.packed.signs import AdaptiveSigns, packed_signs
from binseg.packed.stems import PackedStem


class PackedResNet(nn.Module):
    """The stem and all blocks.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: the stages, counted from 0, whose maps the head reads.
        folding: see `Folding`.
    """

    def __init__(self, network: ResNet, read: frozenset[int], folding: Folding) -> None:
        super().__init__()
        blocks: list[ResidualBlock] = []
        ends: set[int] = set()
        for stage, members in enumerate(network.stages):
            blocks += cast(list[ResidualBlock], list(cast(nn.ModuleList, members)))
            if stage in read:
                ends.add(len(blocks) - 1)
        signs = packed_signs(_signs_before(blocks[0]))
        self.stem = PackedStem(network.stem, folding, pack=signs is None)
        self.signs = signs
        followers = [*(_signs_before(block) for block in blocks[1:]), None]
        self.blocks = nn.ModuleList(
            PackedResidualBlock(block, following, index in ends, folding)
            for index, (block, following) in enumerate(zip(blocks, followers, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to float32 maps (N, H_i, W_i, C_i) of the stages read."""
        real, bits = self.stem(x)
        if self.signs is not None:
            bits = self.signs(real)
        maps = []
        for block in self.blocks:
            real, bits = block(real, bits)
            if block.read:
                maps.append(real.squeeze(3))
        return maps


class PackedResidualBlock(nn.Module):
    """`ResidualBlock`, packed.

    Args:
        block: the trained block; on the meta device only sizes are taken.
        following: the signs that the next block takes, None after the last.
        read: whether the head reads the block's map.
        folding: see `Folding`.
    """

    def __init__(
        self, block: ResidualBlock, following: nn.Module | None, read: bool, folding: Folding
    ) -> None:
        super().__init__()
        self.read = read
        self.downsample: BinaryDownsample | RealDownsample | None = None
        if block.downsample is not None:
            if isinstance(block.downsample[0], BinaryConv2d):
                self.downsample = BinaryDownsample(block.downsample, 1, folding)
            else:
                self.downsample = RealDownsample(block.downsample, folding)
        units = cast(list[ConvUnit], list(block.units))
        self.inner = nn.ModuleList(
            _packed_inner(unit, _signs_of(after), folding) for unit, after in pairwise(units)
        )
        self.last = PackedUnit(units[-1], following, folding)

    def forward(self, real: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (N, H, W, 1, C) and its signs to those of the block's result."""
        residual = real if self.downsample is None else self.downsample(real, bits)
        for unit in cast(list[PackedConv | PackedUnit], list(self.inner)):
            bits = unit.bits(bits)
        return self.last(bits, residual)


class PackedUnit(nn.Module):
    """`ConvUnit` and the signs that follow it, packed.

    Args:
        unit: the trained unit; on the meta device only sizes are taken.
        following: the signs that the next convolution takes, None after the last.
        folding: see `Folding`.
    """

    def __init__(self, unit: ConvUnit, following: nn.Module | None, folding: Folding) -> None:
        super().__init__()
        self.clamps = isinstance(unit.nonlinearity, nn.Hardtanh)
        signs = None if following is None else packed_signs(following)
        # a learnt threshold goes into the convolution, unless it is compared with what is clamped
        self.signs = signs if self.clamps or isinstance(signs, AdaptiveSigns) else None
        self.packs = following is not None and self.signs is None
        self.conv = PackedConv.of(
            nn.Sequential(unit.conv, unit.norm),
            folding,
            post=post_rows(unit, following if self.packs else None),
        )

    def forward(self, bits: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Signs of the unit's input to its result, float32 (N, H', W', 1, C), and its signs."""
        real, bits = self.conv.real(bits, residual, pack=self.packs)
        if self.clamps:
            real = real.clamp_(-1, 1)
        return real, bits if self.signs is None else self.signs(real)

    def bits(self, bits: Tensor) -> Tensor:
        """The signs alone."""
        return self(bits)[1]


def post_rows(unit: ConvUnit, following: nn.Module | None) -> dict[str, Tensor]:
    """What stands between a shortcut's sum and the next signs: rows of `POST`, (C,) each.

    Args:
        unit: whose nonlinearity is meant; a hardtanh is left out.
        following: the signs, of which only a learnt threshold counts.
    """
    layer = unit.nonlinearity
    rows: dict[str, Tensor] = {}
    if isinstance(layer, nn.ReLU):
        rows["slope"] = torch.zeros_like(unit.norm.bias)
    elif isinstance(layer, nn.PReLU):
        rows["slope"] = layer.weight
    elif isinstance(layer, RPReLU):
        rows["before"], rows["after"] = layer.before_shift, layer.after_shift
        rows["slope"] = layer.prelu.weight
    if isinstance(following, LearntSign):
        rows["threshold"] = following.shift
    return rows


def _packed_inner(unit: ConvUnit, following: nn.Module, folding: Folding) -> nn.Module:
    """A unit of which only the signs are read: integers to compare with, where they can be."""
    if isinstance(following, AdaptiveSign):
        return PackedUnit(unit, following, folding)
    layers = nn.Sequential(unit.conv, unit.norm, unit.nonlinearity, following)
    return PackedConv.of(layers, folding, threshold=True)


def _signs_before(block: ResidualBlock) -> nn.Module:
    return _signs_of(cast(ConvUnit, block.units[0]))


def _signs_of(unit: ConvUnit) -> nn.Module:
    """The signs that a unit takes of its input."""
    assert isinstance(unit.conv, BinaryConv2d)
    return unit.conv.binarize_input
