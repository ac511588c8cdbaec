"""Group-Net with group-wise decomposition (GBD), soft gates and BPAC, and its real-valued twin.

Source: Zhuang et al. 2019, "Structured Binary Neural Networks for Accurate Image Classification
and Semantic Segmentation" (CVPR, arXiv 1811.10413), sections 3.2 (GBD and soft connections) and
3.3 (BPAC); the journal version is arXiv 1909.09934.

The K bases of a block lie one after another along the channels of one tensor (N, K·C, H, W), so
that a block is a few large convolutions and not a Python loop over K small ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.activations import ActivationGradient
from binseg.nn.backbones.registry import Backbone, register_backbone
from binseg.nn.backbones.stems import Stem, create_stem
from binseg.nn.binarize import WeightGradient, WeightScale
from binseg.nn.layers import BinaryConv2d

Precision = Literal["binary", "full"]
Gates = Literal["shared", "per_branch", "none"]
Merge = Literal["learnt", "mean"]
Shortcut = Literal["block", "conv"]
Nonlinearity = Literal["relu", "tanh", "prelu"]
Downsample = Literal["binary", "real"]
Atrous = Literal["bpac", "one_rate", "off"]

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_BOTTLENECK_EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class GroupNetOptions:
    """What makes one Group-Net differ from another; the defaults are the paper's Group-Net.

    Attributes:
        depth: 18 or 34 (basic blocks), 50 (bottlenecks).
        precision: "binary", or "full" for the twin: the same topology, one branch, real weights
            and activations, ReLU for tanh, zero padding, ordinary dilation.
        bases: K, 1 to 8.
        width: channels of the first stage; 64 in the paper.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32.
        gates: how the input of a branch mixes its own predecessor and the merged one: one gate
            for a block ("shared", the released code), one for each branch (the paper), or "none":
            every branch reads the merged map.
        merge: branches are summed with learnt λ (conference) or averaged (journal).
        shortcut: around the block, or around each convolution (Group-Net**).
        nonlinearity: after each convolution.
        downsample: the 1×1 convolution of a block's shortcut.
        stem: 7×7, or three 3×3 of which two are grouped.
        atrous: in stages 3 and 4, base i at its own rate ("bpac"), all at the rate of the last
            base ("one_rate", the ablation), or ordinary dilation ("off").
        rates: rate of base 0 in stages 3 and 4 at output stride 8; base i has rate r + i.
        padding_value: border of the binary convolutions.
        scale: scale factor of the binary weights.
        weight_gradient: gradient of the weights' sign.
        gradient: surrogate gradient of the activations' sign.
    """

    depth: int = 18
    precision: Precision = "binary"
    bases: int = 5
    width: int = 64
    output_stride: int = 8
    gates: Gates = "per_branch"
    merge: Merge = "learnt"
    shortcut: Shortcut = "block"
    nonlinearity: Nonlinearity = "relu"
    downsample: Downsample = "binary"
    stem: Stem = "conv7"
    atrous: Atrous = "off"
    rates: tuple[int, int] = (2, 6)
    padding_value: float = 1.0
    scale: WeightScale = "layer"
    weight_gradient: WeightGradient = "identity"
    gradient: ActivationGradient = "approx"

    def __post_init__(self) -> None:
        if self.depth not in _BLOCKS:
            raise BinsegError(f"Group-Net has depth 18, 34 or 50, not {self.depth}")
        if not 1 <= self.bases <= 8:
            raise BinsegError(f"Group-Net takes 1 to 8 bases, not {self.bases}")
        if self.output_stride not in (8, 16, 32):
            raise BinsegError(f"the output stride must be 8, 16 or 32, not {self.output_stride}")
        multiple = 16 if self.stem == "grouped3" else 4
        if not multiple <= self.width <= 1024 or self.width % multiple:
            raise BinsegError(
                f"the width must be a multiple of {multiple} up to 1024, not {self.width}"
            )
        if min(self.rates) < 1 or len(self.rates) != 2:
            raise BinsegError(f"two rates of at least 1 are needed, not {self.rates}")
        for kind, name, options in (
            ("precision", self.precision, Precision),
            ("gates", self.gates, Gates),
            ("merge", self.merge, Merge),
            ("shortcut", self.shortcut, Shortcut),
            ("nonlinearity", self.nonlinearity, Nonlinearity),
            ("downsample", self.downsample, Downsample),
            ("atrous", self.atrous, Atrous),
            ("activation gradient", self.gradient, ActivationGradient),
            ("weight gradient", self.weight_gradient, WeightGradient),
        ):
            if name not in get_args(options):
                raise unknown_name(kind, name, get_args(options))


def stage_dilations(options: GroupNetOptions, stage: int) -> tuple[int, ...]:
    """Dilation of each base in `stage` (1 to 4), in pixels of that stage's grid.

    The paper's rates hold at output stride 8, where stages 3 and 4 lie on the grid of stride 8. On
    the coarser grids of output strides 16 and 32 the first rate shrinks with the stride, so that a
    rate covers the same distance in the picture: 2 and 6 become 1 and 3, then 1 and 1.
    """
    grid = min(options.output_stride, 2 ** (stage + 1))
    ordinary = 2 ** (stage + 1) // grid
    if stage < 3 or options.atrous == "off":
        return (ordinary,) * options.bases
    first = max(1, options.rates[stage - 3] * 8 // grid)
    rates = tuple(first + base for base in range(options.bases))
    return rates if options.atrous == "bpac" else (rates[-1],) * options.bases


def _pool(stride: int) -> nn.Module:
    """Average pooling to ⌈size / stride⌉, as a strided convolution with a border gives it."""
    if stride == 1:
        return nn.Identity()
    return nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)


def _nonlinearity(name: Nonlinearity, channels: int) -> nn.Module:
    if name == "prelu":
        return nn.PReLU(channels)
    return nn.ReLU(inplace=True) if name == "relu" else nn.Tanh()


class _ConvUnit(nn.Sequential):
    """(sign →) convolution → nonlinearity → BatchNorm, for all bases."""

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilations: Sequence[int] | None = None,
        shared_input: bool = False,
    ) -> None:
        bases = options.bases
        channels = bases * out_channels
        dilations = tuple(dilations or (1,) * bases)
        conv: nn.Module
        if options.precision == "full":
            border = dilations[0] * (kernel_size - 1) // 2
            conv = nn.Conv2d(
                in_channels, channels, kernel_size, stride, border, dilations[0], bias=False
            )
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        else:
            conv = BinaryConv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                dilation=dilations,
                bases=bases,
                shared_input=shared_input,
                padding_value=options.padding_value,
                scale=options.scale,
                weight_gradient=options.weight_gradient,
                gradient=options.gradient,
            )
        super().__init__(
            conv, _nonlinearity(options.nonlinearity, channels), nn.BatchNorm2d(channels)
        )


class _Downsample(nn.Module):
    """The 1×1 convolution of a block's shortcut; its weights and BatchNorm serve all branches.

    Real: average pooling, 1×1 convolution, BatchNorm. Binary: as any binary unit, with the stride
    in the convolution. The branches ride in the batch while they share it.
    """

    def __init__(
        self, options: GroupNetOptions, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        if options.downsample == "binary" and options.precision == "binary":
            self.layers: nn.Module = _ConvUnit(
                replace(options, bases=1), in_channels, out_channels, 1, stride=stride
            )
        else:
            conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="linear")
            self.layers = nn.Sequential(_pool(stride), conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor, branches: int) -> Tensor:
        """(N, branches·C_in, H, W) → (N, branches·C_out, ⌈H / stride⌉, ⌈W / stride⌉)."""
        if branches == 1:
            return self.layers(x)
        folded = x.unflatten(1, (branches, -1)).flatten(0, 1)
        return self.layers(folded).unflatten(0, (-1, branches)).flatten(1, 2)


class GroupBlock(nn.Module):
    """One residual block decomposed into K binary branches, with gates before and a merge after.

    in_i = σ(θ_i)·out_i + (1 − σ(θ_i))·merged, and merged = Σ_j λ_j·out_j or the mean over j
    (Zhuang et al. 2019, section 3.2; θ and λ start at U(0, 1) as in the released code).

    Args:
        options: see `GroupNetOptions`.
        in_channels, out_channels: of one branch.
        stride: of the first 3×3 convolution.
        first: the block after the stem, which all branches see ungated.
    """

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        first: bool,
    ) -> None:
        super().__init__()
        bases = options.bases
        self.bases = bases
        self.shortcut_each = options.shortcut == "conv"
        self.shared_input = first or options.gates == "none" or bases == 1
        self.downsample = (
            _Downsample(options, in_channels, out_channels, stride)
            if stride > 1 or in_channels != out_channels
            else None
        )
        self.theta: nn.Parameter | None = None
        if not self.shared_input:
            self.theta = nn.Parameter(torch.rand(bases if options.gates == "per_branch" else 1))
        self.lambdas: nn.Parameter | None = None
        if bases > 1 and options.merge == "learnt":
            self.lambdas = nn.Parameter(torch.rand(bases))

    def forward(self, branches: Tensor, merged: Tensor) -> tuple[Tensor, Tensor]:
        """Branches (N, K·C, H, W) and merged (N, C, H, W) to the same pair after the block."""
        x = merged if self.shared_input else self._gate(branches, merged)
        shortcut = x
        if self.downsample is not None:
            shortcut = self.downsample(x, 1 if self.shared_input else self.bases)
        out = self._branches(x, self._spread(shortcut))
        return out, self._merge(out)

    def _branches(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """The block's input and its shortcut (N, K·C_out, H', W') to the branches' outputs."""
        raise NotImplementedError

    def _spread(self, x: Tensor) -> Tensor:
        """A map made from the block's input, once for each base."""
        return x.repeat(1, self.bases, 1, 1) if self.shared_input and self.bases > 1 else x

    def _gate(self, branches: Tensor, merged: Tensor) -> Tensor:
        assert self.theta is not None
        gate = torch.sigmoid(self.theta).view(1, -1, 1, 1, 1).to(branches.dtype)
        own = branches.unflatten(1, (self.bases, -1))
        return torch.lerp(merged.unsqueeze(1).to(own.dtype), own, gate).flatten(1, 2)

    def _merge(self, out: Tensor) -> Tensor:
        if self.bases == 1:
            return out
        stacked = out.unflatten(1, (self.bases, -1))
        if self.lambdas is None:
            return stacked.mean(dim=1)
        return (stacked * self.lambdas.view(1, -1, 1, 1, 1).to(out.dtype)).sum(dim=1)


class BasicGroupBlock(GroupBlock):
    """Two 3×3 convolutions, both at the base's dilation."""

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilations: Sequence[int],
        first: bool,
    ) -> None:
        super().__init__(options, in_channels, out_channels, stride=stride, first=first)
        unit = partial(_ConvUnit, options, kernel_size=3, dilations=dilations)
        self.unit1 = unit(in_channels, out_channels, stride=stride, shared_input=self.shared_input)
        self.unit2 = unit(out_channels, out_channels)

    def _branches(self, x: Tensor, shortcut: Tensor) -> Tensor:
        out = self.unit1(x)
        if self.shortcut_each:
            shortcut = out = out + shortcut
        return self.unit2(out) + shortcut


class BottleneckGroupBlock(GroupBlock):
    """1×1, 3×3 at the base's dilation, and 1×1 to four times as many channels.

    With a shortcut around each convolution, the one around the narrowing 1×1 is the mean of the
    channels that meet in one, and around a strided 3×3 it is average pooling: no parameters.
    """

    def __init__(
        self,
        options: GroupNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilations: Sequence[int],
        first: bool,
    ) -> None:
        super().__init__(options, in_channels, out_channels, stride=stride, first=first)
        middle = out_channels // _BOTTLENECK_EXPANSION
        unit = partial(_ConvUnit, options)
        self.narrowing = in_channels // middle
        self.unit1 = unit(in_channels, middle, 1, shared_input=self.shared_input)
        self.unit2 = unit(middle, middle, 3, stride=stride, dilations=dilations)
        self.unit3 = unit(middle, out_channels, 1)
        self.pool = _pool(stride)

    def _branches(self, x: Tensor, shortcut: Tensor) -> Tensor:
        out = self.unit1(x)
        if self.shortcut_each:
            out = out + self._spread(x.unflatten(1, (-1, self.narrowing)).mean(dim=2))
        before, out = out, self.unit2(out)
        if self.shortcut_each:
            out = out + self.pool(before)
        return self.unit3(out) + shortcut


class GroupNet(Backbone):
    """The stem and four stages of blocks; features of every stage are the merged maps.

    Shapes:
        x: (N, 3, H, W), normalised.
        returns four maps (N, `channels[i]`, ⌈H / `strides[i]`⌉, ⌈W / `strides[i]`⌉).
    """

    def __init__(self, options: GroupNetOptions) -> None:
        super().__init__()
        if options.precision == "full":
            # tanh serves binary branches; a real-valued network would only lose by it
            real = "relu" if options.nonlinearity == "tanh" else options.nonlinearity
            options = replace(options, bases=1, atrous="off", nonlinearity=real)
        self.options = options
        bottleneck = options.depth >= 50
        expansion = _BOTTLENECK_EXPANSION if bottleneck else 1
        block = BottleneckGroupBlock if bottleneck else BasicGroupBlock
        self.stem = create_stem(options.stem, options.width)

        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        self.strides: list[int] = []
        in_channels, stride_so_far = options.width, 4
        for stage, depth in enumerate(_BLOCKS[options.depth], start=1):
            out_channels = options.width * 2 ** (stage - 1) * expansion
            stride = 2 if stage > 1 and stride_so_far < options.output_stride else 1
            stride_so_far *= stride
            blocks = nn.ModuleList()
            for index in range(depth):
                blocks.append(
                    block(
                        options,
                        in_channels,
                        out_channels,
                        stride=stride if index == 0 else 1,
                        dilations=stage_dilations(options, stage),
                        first=stage == 1 and index == 0,
                    )
                )
                in_channels = out_channels
            self.stages.append(blocks)
            self.channels.append(out_channels)
            self.strides.append(stride_so_far)

    def forward(self, x: Tensor) -> list[Tensor]:
        branches = merged = self.stem(x)
        features = []
        for blocks in self.stages:
            for block in cast(nn.ModuleList, blocks):
                branches, merged = block(branches, merged)
            features.append(merged)
        return features


def _register(name: str, **defaults: Any) -> None:
    @register_backbone(name, options=GroupNetOptions)
    def build(**overrides: Any) -> GroupNet:
        return GroupNet(GroupNetOptions(**{**defaults, **overrides}))


for _depth in _BLOCKS:
    _register(f"groupnet{_depth}", depth=_depth)
    # Group-Net**: a shortcut around every convolution, and tanh (section 4 of the paper).
    _register(f"groupnet{_depth}_star", depth=_depth, shortcut="conv", nonlinearity="tanh")
