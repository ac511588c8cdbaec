"""Group-Net with group-wise decomposition (GBD), soft gates and BPAC, its layer-wise relative
(LBD), and their real-valued twin.

Source: Zhuang et al. 2019, "Structured Binary Neural Networks for Accurate Image Classification
and Semantic Segmentation" (CVPR, arXiv 1811.10413), sections 3.2 (LBD, GBD and soft
connections) and 3.3 (BPAC); the journal version is arXiv 1909.09934.
"""

from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from binseg.network_options import Atrous, Decomposition, Downsample, Gates, Merge, Shortcut
from binseg.nn.backbones.group_blocks import (
    BOTTLENECK_EXPANSION,
    BasicGroupBlock,
    BottleneckGroupBlock,
    GroupBlock,
)
from binseg.nn.backbones.groupnet_options import (
    STAGE_BLOCKS,
    GroupNetOptions,
    Nonlinearity,
    Precision,
    group_borders,
    stage_dilations,
)
from binseg.nn.backbones.registry import Backbone, register_backbone
from binseg.nn.backbones.stems import create_stem

# This file is the family's door: others import its blocks and options from here.
__all__ = [
    "Atrous",
    "BasicGroupBlock",
    "BottleneckGroupBlock",
    "Decomposition",
    "Downsample",
    "Gates",
    "GroupBlock",
    "GroupNet",
    "GroupNetOptions",
    "Merge",
    "Nonlinearity",
    "Precision",
    "Shortcut",
    "stage_dilations",
]


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
            options = replace(
                options,
                decomposition="group",
                group_blocks=1,
                bases=1,
                atrous="off",
                nonlinearity=real,
            )
        self.options = options
        bottleneck = options.depth >= 50
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        block = BottleneckGroupBlock if bottleneck else BasicGroupBlock
        self.stem = create_stem(options.stem, options.width)

        self.stages = nn.ModuleList()
        self.channels: list[int] = []
        self.strides: list[int] = []
        in_channels, stride_so_far = options.width, 4
        for stage, depth in enumerate(STAGE_BLOCKS[options.depth], start=1):
            out_channels = options.width * 2 ** (stage - 1) * expansion
            stride = 2 if stage > 1 and stride_so_far < options.output_stride else 1
            stride_so_far *= stride
            blocks = nn.ModuleList()
            for index in range(depth):
                starts, ends = group_borders(options, stage, index)
                blocks.append(
                    block(
                        options,
                        in_channels,
                        out_channels,
                        stride=stride if index == 0 else 1,
                        dilations=stage_dilations(options, stage),
                        first=stage == 1 and index == 0,
                        starts=starts,
                        ends=ends,
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


def _register(name: str, title: str, **defaults: Any) -> None:
    @register_backbone(name, options=GroupNetOptions, source=f"Zhuang et al. 2019, {title}")
    def build(**overrides: Any) -> GroupNet:
        return GroupNet(GroupNetOptions(**{**defaults, **overrides}))


for _depth in STAGE_BLOCKS:
    _register(f"groupnet{_depth}", "Group-Net", depth=_depth)
    # Group-Net**: a shortcut around every convolution, and tanh (section 4 of the paper).
    _register(
        f"groupnet{_depth}_star",
        "Group-Net**",
        depth=_depth,
        shortcut="conv",
        nonlinearity="tanh",
    )

# What the paper compares Group-Net with (its ablations on ImageNet).
for _depth in (18, 34):
    _register(f"lbd{_depth}", "layer-wise decomposition (LBD)", depth=_depth, decomposition="layer")
    for _version, _blocks in enumerate((1, 2, 0), start=1):
        _register(
            f"gbd{_depth}_v{_version}",
            f"group-wise decomposition (GBD v{_version})",
            depth=_depth,
            group_blocks=_blocks,
            gates="none",
        )
