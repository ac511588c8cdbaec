"""Group-Net blocks from stride 8 on: an encoder shaped by what 1-bit convolutions cost.

A popcount convolution is cheap where a map has 64 channels or more, and the maps between the layers
cost more than the bits where it has few on a fine grid. So this encoder has no binary stage at
stride 4: three strided 8-bit convolutions lead to stride 8, and the bits begin there, wide. The map
at stride 4 is kept for the head's edges. The blocks are those of Group-Net (Zhuang et al. 2019,
arXiv 1811.10413, section 3.2) with their K bases, gates and BPAC.
"""

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.network_options import Atrous, Gates, Merge, Threshold
from binseg.nn.backbones.group_blocks import BasicGroupBlock
from binseg.nn.backbones.groupnet_options import GroupNetOptions, Nonlinearity, Precision
from binseg.nn.backbones.options import check_choices, check_output_stride, check_width
from binseg.nn.backbones.registry import Backbone, register_backbone
from binseg.nn.backbones.stems import StridedStem

BLOCKS = (2, 2, 2)
"""Blocks of two convolutions at strides 8, 16 and 32."""


@dataclass(frozen=True, kw_only=True)
class GroupNetS8Options:
    """What makes one of these encoders differ from another.

    Attributes:
        precision: "binary", or "full" for the twin: the same topology with one branch, real weights
            and activations, zero padding and ordinary dilation.
        width: channels of the first stage, a multiple of 4 (kernels like multiples of 64); the
            second has one and a half times as many, the last twice as many.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32; a stage that would
            be coarser dilates instead.
        bases: K, 1 to 8.
        gates: see `GroupNetOptions`.
        merge: see `GroupNetOptions`.
        nonlinearity: see `GroupNetOptions`.
        threshold: what the activations are compared with before each binary convolution.
        atrous: in the last two stages, base i at its own rate ("bpac"), all at the rate of the last
            base ("one_rate"), or none ("off").
        rates: rate of base 0 in the last two stages, in pixels of their own grids.
        padding_value: border of the binary convolutions.
    """

    precision: Precision = "binary"
    width: int = 128
    output_stride: int = 32
    bases: int = 1
    gates: Gates = "per_branch"
    merge: Merge = "learnt"
    nonlinearity: Nonlinearity = "rprelu"
    threshold: Threshold = "learnt"
    atrous: Atrous = "off"
    rates: tuple[int, int] = (1, 1)
    padding_value: float = 1.0

    def __post_init__(self) -> None:
        check_width(self.width, 4)
        check_output_stride(self.output_stride)
        check_choices(self)
        if not 1 <= self.bases <= 8:
            raise BinsegError(f"Group-Net takes 1 to 8 bases, not {self.bases}")
        if len(self.rates) != 2 or min(self.rates) < 1:
            raise BinsegError(f"two rates of at least 1 are needed, not {self.rates}")

    @property
    def block_options(self) -> GroupNetOptions:
        """What the blocks are built from."""
        full = self.precision == "full"
        return GroupNetOptions(
            precision=self.precision,
            bases=1 if full else self.bases,
            gates=self.gates,
            merge=self.merge,
            shortcut="conv",
            nonlinearity=self.nonlinearity,
            threshold=self.threshold,
            downsample="real",
            padding_value=self.padding_value,
        )

    def dilations(self, stage: int) -> tuple[int, ...]:
        """Dilation of each base in `stage` (0 to 2), in pixels of its grid."""
        bases = self.block_options.bases
        ordinary = max(1, 8 * 2**stage // self.output_stride)
        if stage == 0 or self.atrous == "off" or self.precision == "full":
            return (ordinary,) * bases
        rates = tuple(ordinary * (self.rates[stage - 1] + base) for base in range(bases))
        return rates if self.atrous == "bpac" else (rates[-1],) * bases


class GroupNetS8(Backbone):
    """A strided stem, and three stages of Group-Net blocks at strides 8, 16 and 32.

    Shapes:
        x: (N, 3, H, W), normalised.
        returns four maps (N, `channels[i]`, ⌈H / `strides[i]`⌉, ⌈W / `strides[i]`⌉): the stem's at
            stride 4 and the merged maps of the stages.
    """

    def __init__(self, options: GroupNetS8Options) -> None:
        super().__init__()
        self.options = options
        block_options = options.block_options
        width = options.width
        self.stem = StridedStem(width)
        self.stages = nn.ModuleList()
        self.channels = [self.stem.fine_channels]
        self.strides = [4]
        in_channels, grid = width, 8
        for stage, depth in enumerate(BLOCKS):
            out_channels = width * (2 + stage) // 2
            stride = 2 if stage and grid < options.output_stride else 1
            grid *= stride
            blocks = nn.ModuleList()
            for index in range(depth):
                blocks.append(
                    BasicGroupBlock(
                        block_options,
                        in_channels,
                        out_channels,
                        stride=stride if index == 0 else 1,
                        dilations=options.dilations(stage),
                        first=stage == 0 and index == 0,
                    )
                )
                in_channels = out_channels
            self.stages.append(blocks)
            self.channels.append(out_channels)
            self.strides.append(grid)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine, merged = self.stem(x)
        branches, features = merged, [fine]
        for blocks in self.stages:
            for block in cast(nn.ModuleList, blocks):
                branches, merged = block(branches, merged)
            features.append(merged)
        return features


@register_backbone(
    "groupnet_s8",
    options=GroupNetS8Options,
    source="blocks of Zhuang et al. 2019, Group-Net, from stride 8 on",
)
def build(**overrides: Any) -> GroupNetS8:
    """The encoder with these options."""
    return GroupNetS8(GroupNetS8Options(**overrides))
