"""Group-Net, packed: blocks of bits between maps of real numbers.

What goes from block to block is what the next block's branches read: the real map (N, H, W, B, C)
and its signs, with B = K maps, gated where a group starts, or 1 where the branches read the merged
map (the stem's map, no gates) or there is only one (K = 1, layer-wise decomposition). So a block
ends with the gates of the one that follows.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.backbones.groupnet import (
    BasicGroupBlock,
    BottleneckGroupBlock,
    GroupBlock,
    GroupNet,
)
from binseg.nn.bases import BaseSum
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.layer_conv import LayerDownsample, PackedLayerConv, packed_unit
from binseg.packed.shortcuts import BinaryDownsample, RealDownsample, pooled
from binseg.packed.stems import PackedStem
from binseg.packed.stored import Stored

Step = tuple[Tensor, Tensor, Tensor]


class PackedGroupNet(nn.Module):
    """The stem and all blocks.

    Args:
        network: the trained backbone; on the meta device only sizes are taken.
        read: the stages, counted from 0, whose merged maps the head reads.
        folding: see `Folding`.
    """

    def __init__(self, network: GroupNet, read: frozenset[int], folding: Folding) -> None:
        super().__init__()
        own = network.options
        if own.nonlinearity == "rprelu" or own.threshold != "zero":
            raise BinsegError(
                "a Group-Net with the nonlinearity rprelu or a learnt threshold cannot be packed "
                "yet"
            )
        self.stem = PackedStem(network.stem, folding)
        blocks: list[GroupBlock] = []
        ends: set[int] = set()
        for stage, members in enumerate(network.stages):
            blocks += cast(list[GroupBlock], list(cast(nn.ModuleList, members)))
            if stage in read:
                ends.add(len(blocks) - 1)
        followers = [*blocks[1:], None]
        self.blocks = nn.ModuleList(
            _PACKED[type(block)](block, following, index in ends, folding)
            for index, (block, following) in enumerate(zip(blocks, followers, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to the merged maps (N, H_i, W_i, C_i) of the stages read."""
        real, bits = self.stem(x)
        maps = []
        for block in self.blocks:
            real, bits, merged = block(real, bits)
            if block.read:
                maps.append(merged.squeeze(3))
        return maps


class PackedGroupBlock(Stored):
    """What blocks of both kinds share: the shortcut, the merge and the next block's gates.

    Args:
        block: the trained block; on the meta device only sizes are taken.
        following: the block after it, None after the last.
        read: whether the head reads the merged map.
        folding: see `Folding`.

    Attributes:
        lambdas: float32 (K,), the weights of the merge, with K > 1.
        gates: float32 (K,), of the next block, where it has any.
        inside: whether the next block's branches read their own predecessors, so that nothing is
            merged but for the head, which reads the mean.
    """

    lambdas: Tensor
    gates: Tensor

    def __init__(
        self, block: GroupBlock, following: GroupBlock | None, read: bool, folding: Folding
    ) -> None:
        super().__init__()
        self.bases = block.bases
        self.read = read
        self.last = following is None
        self.shortcut_each = block.shortcut_each
        self.gated = following is not None and following.theta is not None
        self.inside = following is not None and not (following.shared_input or self.gated)
        self.downsample: nn.Module | None = None
        if block.downsample is not None:
            branches = 1 if block.shared_input else block.bases
            layers = cast(nn.Sequential, block.downsample.layers)
            if isinstance(layers[1], BaseSum):
                self.downsample = LayerDownsample(layers, folding)
            elif isinstance(layers[0], BinaryConv2d):
                self.downsample = BinaryDownsample(layers, branches, folding)
            else:
                self.downsample = RealDownsample(layers, folding)
        if self.bases == 1 or self.inside:
            return
        self.declare("lambdas", (self.bases,), torch.float32)
        if block.lambdas is None:
            self.lambdas = torch.full((self.bases,), 1 / self.bases)
        elif not block.lambdas.is_meta:
            self.fill("lambdas", block.lambdas.cpu())
        if self.gated:
            assert following is not None
            assert following.theta is not None
            self.declare("gates", (self.bases,), torch.float32)
            if not following.theta.is_meta:
                theta = following.theta.detach().cpu().double()
                self.fill("gates", torch.sigmoid(theta).expand(self.bases))

    def forward(self, real: Tensor, bits: Tensor) -> Step:
        """What the block reads to what the next one reads, and the merged map (N, H', W', 1, C)
        (empty where nobody reads it)."""
        raise NotImplementedError

    def _shortcut(self, real: Tensor, bits: Tensor) -> Tensor:
        return real if self.downsample is None else self.downsample(real, bits)

    def _end(self, conv: PackedConv | PackedLayerConv, bits: Tensor, residual: Tensor) -> Step:
        if self.bases == 1:
            real, signs = conv.real(bits, residual, pack=not self.last)
            return real, signs, real
        if self.inside:
            real, signs = conv.real(bits, residual)
            return real, signs, real.mean(dim=3, keepdim=True) if self.read else real.new_empty(0)
        assert isinstance(conv, PackedConv)
        branches, merged, signs = conv.merge(
            bits,
            residual,
            self.lambdas,
            gates=self.gates if self.gated else None,
            keep_merged=self.read,
            pack=not self.last,
        )
        return branches if self.gated else merged, signs, merged


class PackedBasicBlock(PackedGroupBlock):
    """`BasicGroupBlock`, packed."""

    def __init__(
        self, block: BasicGroupBlock, following: GroupBlock | None, read: bool, folding: Folding
    ) -> None:
        super().__init__(block, following, read, folding)
        self.conv1 = packed_unit(block.unit1, folding, threshold=not self.shortcut_each)
        self.conv2 = packed_unit(block.unit2, folding)

    def forward(self, real: Tensor, bits: Tensor) -> Step:
        residual = self._shortcut(real, bits)
        if self.shortcut_each:
            residual, bits = self.conv1.real(bits, residual)
        else:
            bits = self.conv1.bits(bits)
        return self._end(self.conv2, bits, residual)


class PackedBottleneck(PackedGroupBlock):
    """`BottleneckGroupBlock`, packed."""

    def __init__(
        self,
        block: BottleneckGroupBlock,
        following: GroupBlock | None,
        read: bool,
        folding: Folding,
    ) -> None:
        super().__init__(block, following, read, folding)
        self.narrowing = block.narrowing
        self.stride = cast(BinaryConv2d, block.unit2[0]).stride
        bits_only = not self.shortcut_each
        self.conv1 = packed_unit(block.unit1, folding, threshold=bits_only)
        self.conv2 = packed_unit(block.unit2, folding, threshold=bits_only)
        self.conv3 = packed_unit(block.unit3, folding)

    def forward(self, real: Tensor, bits: Tensor) -> Step:
        shortcut = self._shortcut(real, bits)
        if self.shortcut_each:
            narrow = real.unflatten(4, (-1, self.narrowing)).mean(dim=5)
            inner, bits = self.conv1.real(bits, narrow)
            _, bits = self.conv2.real(bits, pooled(inner, self.stride))
        else:
            bits = self.conv2.bits(self.conv1.bits(bits))
        return self._end(self.conv3, bits, shortcut)


_PACKED: dict[type[GroupBlock], Any] = {
    BasicGroupBlock: PackedBasicBlock,
    BottleneckGroupBlock: PackedBottleneck,
}
