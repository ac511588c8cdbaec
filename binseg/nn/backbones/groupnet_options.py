"""The options of a Group-Net, and what follows from them for a block."""

from dataclasses import dataclass
from typing import Literal

from binseg.errors import BinsegError
from binseg.network_options import (
    ActivationGradient,
    Atrous,
    Decomposition,
    Downsample,
    Gates,
    Merge,
    Shortcut,
    Stem,
    Threshold,
    WeightGradient,
    WeightScale,
)
from binseg.nn.backbones.options import check_choices, check_output_stride, check_width
from binseg.nn.backbones.stages import BLOCKS
from binseg.nn.backbones.stems import stem_multiple

Precision = Literal["binary", "full"]
Nonlinearity = Literal["relu", "tanh", "prelu", "rprelu"]

STAGE_BLOCKS = {18: BLOCKS[18], 34: BLOCKS[34], 50: BLOCKS[34]}
"""Depth → blocks of each stage; those of depth 50 are bottlenecks (He et al. 2016, table 1)."""


@dataclass(frozen=True, kw_only=True)
class GroupNetOptions:
    """What makes one Group-Net differ from another; the defaults are the paper's Group-Net.

    Attributes:
        depth: 18 or 34 (basic blocks), 50 (bottlenecks).
        precision: "binary", or "full" for the twin: the same topology, one branch, real weights
            and activations, ReLU for tanh, zero padding, ordinary dilation.
        decomposition: what becomes K branches: a group of blocks ("group", GBD), or each binary
            convolution, summed at once ("layer", LBD), which leaves nothing to gate.
        group_blocks: blocks to a group: 1 (GBD v1 and Group-Net), 2 (GBD v2), or 0 for the whole
            network in one (GBD v3). Groups end with their stage, so a stage of an odd number of
            blocks ends with a group of one; that of v3 ends with the network.
        bases: K, 1 to 8.
        width: channels of the first stage; 64 in the paper.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32.
        gates: how the input of a group's branch mixes its own predecessor and the merged one: one
            gate for a group ("shared", the released code), one for each branch (the paper), or
            "none": every branch reads the merged map.
        merge: branches are summed with learnt λ (conference) or averaged (journal).
        shortcut: around the block, or around each convolution (Group-Net**).
        nonlinearity: after each convolution, with LBD after each sum of K; "rprelu" follows the
            shortcut's sum instead (Liu et al. 2020, "ReActNet", section 4.2).
        threshold: what the activations are compared with before each binary convolution.
        downsample: the 1×1 convolution of a block's shortcut; LBD decomposes a binary one too.
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
    decomposition: Decomposition = "group"
    group_blocks: int = 1
    bases: int = 5
    width: int = 64
    output_stride: int = 8
    gates: Gates = "per_branch"
    merge: Merge = "learnt"
    shortcut: Shortcut = "block"
    nonlinearity: Nonlinearity = "relu"
    threshold: Threshold = "zero"
    downsample: Downsample = "binary"
    stem: Stem = "conv7"
    atrous: Atrous = "off"
    rates: tuple[int, int] = (2, 6)
    padding_value: float = 1.0
    scale: WeightScale = "layer"
    weight_gradient: WeightGradient = "identity"
    gradient: ActivationGradient = "approx"

    def __post_init__(self) -> None:
        if self.depth not in STAGE_BLOCKS:
            raise BinsegError(f"Group-Net has depth 18, 34 or 50, not {self.depth}")
        if not 1 <= self.bases <= 8:
            raise BinsegError(f"Group-Net takes 1 to 8 bases, not {self.bases}")
        check_output_stride(self.output_stride)
        check_width(self.width, stem_multiple(self.stem))
        if min(self.rates) < 1 or len(self.rates) != 2:
            raise BinsegError(f"two rates of at least 1 are needed, not {self.rates}")
        if self.group_blocks not in (0, 1, 2):
            raise BinsegError(
                f"a group has 1 or 2 blocks, or 0 for the whole network, not {self.group_blocks}"
            )
        if self.decomposition == "layer" and self.group_blocks != 1:
            raise BinsegError('the decomposition "layer" has no groups; leave group_blocks at 1')
        check_choices(self)
        if self.stem == "conv3":
            raise BinsegError(
                "Group-Net's dilations are for a stem of stride 4; choose another than conv3"
            )

    @property
    def branches(self) -> int:
        """Maps side by side between the layers: K, or 1 where each layer sums its bases."""
        return self.bases if self.decomposition == "group" else 1


def stage_dilations(options: GroupNetOptions, stage: int) -> tuple[int, ...]:
    """Dilation of each base in `stage` (1 to 4), in pixels of that stage's grid.

    The paper's rates hold at output stride 8, where stages 3 and 4 lie on the grid of stride 8. On
    the coarser grids of output strides 16 and 32 the first rate shrinks with the stride, so that a
    rate covers the same distance in the image: 2 and 6 become 1 and 3, then 1 and 1.
    """
    grid = min(options.output_stride, 2 ** (stage + 1))
    ordinary = 2 ** (stage + 1) // grid
    if stage < 3 or options.atrous == "off":
        return (ordinary,) * options.bases
    first = max(1, options.rates[stage - 3] * 8 // grid)
    rates = tuple(first + base for base in range(options.bases))
    return rates if options.atrous == "bpac" else (rates[-1],) * options.bases


def group_borders(options: GroupNetOptions, stage: int, index: int) -> tuple[bool, bool]:
    """Whether a group starts with, and ends with, block `index` (from 0) of `stage` (1 to 4)."""
    depths = STAGE_BLOCKS[options.depth]
    last = index == depths[stage - 1] - 1
    if options.group_blocks == 0:
        return stage == 1 and index == 0, stage == len(depths) and last
    place = index % options.group_blocks
    return place == 0, last or place == options.group_blocks - 1
