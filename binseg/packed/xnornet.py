"""XNOR-Net and BWN on residual networks, packed.

XNOR-Net: a BatchNorm and the sign that follows it are one operator from a real map to bits, or
integers to compare with where a convolution comes before them and no shortcut in between. BWN: all
maps are real, and only its weights are bits.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.kernels import ops
from binseg.nn.backbones.xnornet import BWN, BWNBlock, XnorBlock, XnorNet
from binseg.nn.layers import BinaryConv2d
from binseg.packed.bit_weights import bit_weight_conv
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine
from binseg.packed.shortcuts import RealDownsample
from binseg.packed.stems import PackedStem
from binseg.packed.stored import Stored
from binseg.packed.thresholds import norm_affine


class PackedXnorNet(nn.Module):
    """The stem and all blocks, then BatchNorm and ReLU.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: the stages, counted from 0, whose maps the head reads; the last is always one.
        folding: see `Folding`.
    """

    def __init__(self, network: XnorNet, read: frozenset[int], folding: Folding) -> None:
        super().__init__()
        self.read = read
        self.stem = PackedStem(network.stem, folding)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_xnor_block(cast(XnorBlock, block), folding) for block in blocks))
            for blocks in cast(list[nn.ModuleList], list(network.stages))
        )
        self.norm = Affine.of(network.norm, relu=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to float32 maps (N, H_i, W_i, C_i) of the stages read."""
        real, _ = self.stem(x)
        maps = []
        for index, stage in enumerate(self.stages):
            real = stage(real)
            if index in self.read:
                maps.append(real.squeeze(3))
        return [*maps[:-1], self.norm(maps[-1])]


class NormSigns(Stored):
    """BatchNorm → sign of a real map, or of one whose pixels lie side by side in the channels.

    Args:
        norm: the trained one; on the meta device only its size is taken.

    Attributes:
        affine: float32 (2, C), gain and shift.
    """

    affine: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.declare("affine", (2, norm.num_features), torch.float32)
        if not norm.weight.is_meta:
            self.fill("affine", torch.stack(norm_affine(norm)))

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, n·C) to int32 (N, H, W, 1, ⌈n·C / 32⌉)."""
        pixels = x.shape[3] // self.affine.shape[1]
        affine = self.affine if pixels == 1 else self.affine.repeat(1, pixels)
        return ops.pack_sign(x.unsqueeze(3), affine)


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
        self.kernel_size, self.dilation = conv.kernel_size, conv.dilations[0]
        self.stride = conv.stride
        self.conv = PackedConv.of(nn.Sequential(conv), folding)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, 1, C) to float32 (N, H', W', 1, C')."""
        y, _ = self.conv.real(ops.pack_sign(x), pack=False)
        return y * self._map(x)

    def _map(self, x: Tensor) -> Tensor:
        """K: (N, H', W', 1, 1)."""
        magnitude = x.abs().mean(dim=4).permute(0, 3, 1, 2)
        box = magnitude.new_full((1, 1, self.kernel_size, self.kernel_size), self.kernel_size**-2)
        border = self.dilation * (self.kernel_size - 1) // 2
        found = F.conv2d(magnitude, box, None, self.stride, border, self.dilation)
        return found.float().permute(0, 2, 3, 1).unsqueeze(4)


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


class PackedBWN(nn.Module):
    """The stem and all blocks of a residual network with binary weights.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: the stages, counted from 0, whose maps the head reads.
        folding: see `Folding`; its `rest` is the arithmetic of all convolutions.
    """

    def __init__(self, network: BWN, read: frozenset[int], folding: Folding) -> None:
        super().__init__()
        self.read = read
        self.stem = PackedStem(network.stem, folding)
        self.stages = nn.ModuleList(
            nn.Sequential(*(PackedBWNBlock(cast(BWNBlock, block), folding) for block in blocks))
            for blocks in cast(list[nn.ModuleList], list(network.stages))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to float32 maps (N, H_i, W_i, C_i) of the stages read."""
        real, _ = self.stem(x)
        y = real.squeeze(3)
        maps = []
        for index, stage in enumerate(self.stages):
            y = stage(y)
            if index in self.read:
                maps.append(y.float())
        return maps


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
