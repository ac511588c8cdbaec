"""Residual blocks of K branches, with a gate where a group of them starts and a merge at its end.

The K bases lie one after another along the channels of one tensor (N, K·C, H, W), so that a block
is a few large convolutions and not a Python loop over K small ones.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from binseg.nn.backbones.group_units import ConvUnit, GroupDownsample, after_shortcut
from binseg.nn.backbones.groupnet_options import GroupNetOptions
from binseg.nn.backbones.stages import average_pool
from binseg.nn.bases import create_lambdas, gate_branches, merge_bases
from binseg.nn.shapes import mean_of_neighbours

BOTTLENECK_EXPANSION = 4


class GroupBlock(nn.Module):
    """One residual block decomposed into K binary branches, with gates before and a merge after.

    in_i = σ(θ_i)·out_i + (1 − σ(θ_i))·merged, and merged = Σ_j λ_j·out_j or the mean over j
    (Zhuang et al. 2019, section 3.2; θ and λ start at U(0, 1) as in the released code).

    A group may be several blocks: only its first one has gates and only its last one has λ. Between
    them each branch reads its own predecessor, and merged is the mean over the branches, which a
    head may read at a stage's end, but no block.

    With layer-wise decomposition there is one branch, and nothing to gate or to merge.

    Args:
        options: see `GroupNetOptions`.
        in_channels, out_channels: of one branch.
        stride: of the first 3×3 convolution.
        first: the block after the stem, which all branches see ungated.
        starts, ends: whether a group starts, and ends, with this block.
    """

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        first: bool,
        starts: bool = True,
        ends: bool = True,
    ) -> None:
        super().__init__()
        bases = options.branches
        self.bases = bases
        self.shortcut_each = options.shortcut == "conv"
        self.shared_input = first or bases == 1 or (starts and options.gates == "none")
        self.downsample = (
            GroupDownsample(options, in_channels, out_channels, stride)
            if stride > 1 or in_channels != out_channels
            else None
        )
        self.theta: nn.Parameter | None = None
        if starts and not self.shared_input:
            self.theta = nn.Parameter(torch.rand(bases if options.gates == "per_branch" else 1))
        self.lambdas = create_lambdas(bases, options.merge) if ends else None

    def forward(self, branches: Tensor, merged: Tensor) -> tuple[Tensor, Tensor]:
        """Branches (N, K·C, H, W) and merged (N, C, H, W) to the same pair after the block."""
        x = merged if self.shared_input else self._gate(branches, merged)
        shortcut = x
        if self.downsample is not None:
            shortcut = self.downsample(x, 1 if self.shared_input else self.bases)
        out = self._branches(x, self._spread(shortcut))
        return out, merge_bases(out, self.bases, self.lambdas)

    def _branches(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """The block's input and its shortcut (N, K·C_out, H', W') to the branches' outputs."""
        raise NotImplementedError

    def _spread(self, x: Tensor) -> Tensor:
        """A map made from the block's input, once for each base."""
        return x.repeat(1, self.bases, 1, 1) if self.shared_input and self.bases > 1 else x

    def _gate(self, branches: Tensor, merged: Tensor) -> Tensor:
        if self.theta is None:
            return branches
        return gate_branches(branches, merged, self.theta, self.bases)


class BasicGroupBlock(GroupBlock):
    """Two 3×3 convolutions, both at the base's dilation; `place` as in `GroupBlock`."""

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilations: Sequence[int],
        **place: bool,
    ) -> None:
        super().__init__(options, in_channels, out_channels, stride=stride, **place)
        unit = partial(ConvUnit, options, kernel_size=3, dilations=dilations)
        self.unit1 = unit(in_channels, out_channels, stride=stride, shared_input=self.shared_input)
        self.unit2 = unit(out_channels, out_channels)
        self.after1 = after_shortcut(options, out_channels)
        self.after2 = after_shortcut(options, out_channels)

    def _branches(self, x: Tensor, shortcut: Tensor) -> Tensor:
        out = self.unit1(x)
        if self.shortcut_each:
            shortcut = out = self.after1(out + shortcut)
        else:
            out = self.after1(out)
        return self.after2(self.unit2(out) + shortcut)


class BottleneckGroupBlock(GroupBlock):
    """1×1, 3×3 at the base's dilation, and 1×1 to four times as many channels.

    With a shortcut around each convolution, the one around the narrowing 1×1 is the mean of the
    channels that meet in one, and around a strided 3×3 it is average pooling: no parameters.
    `place` is as in `GroupBlock`.
    """

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilations: Sequence[int],
        **place: bool,
    ) -> None:
        super().__init__(options, in_channels, out_channels, stride=stride, **place)
        middle = out_channels // BOTTLENECK_EXPANSION
        unit = partial(ConvUnit, options)
        self.narrowing = in_channels // middle
        self.unit1 = unit(in_channels, middle, 1, shared_input=self.shared_input)
        self.unit2 = unit(middle, middle, 3, stride=stride, dilations=dilations)
        self.unit3 = unit(middle, out_channels, 1)
        self.after1 = after_shortcut(options, middle)
        self.after2 = after_shortcut(options, middle)
        self.after3 = after_shortcut(options, out_channels)
        self.pool = average_pool(stride)

    def _branches(self, x: Tensor, shortcut: Tensor) -> Tensor:
        out = self.unit1(x)
        if self.shortcut_each:
            out = out + self._spread(mean_of_neighbours(x, self.narrowing))
        before = out = self.after1(out)
        out = self.unit2(out)
        if self.shortcut_each:
            out = out + self.pool(before)
        return self.after3(self.unit3(self.after2(out)) + shortcut)
