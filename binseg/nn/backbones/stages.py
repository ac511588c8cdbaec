"""The stages of a residual network with basic blocks: channels, strides and dilations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.backbones.options import check_output_stride
from binseg.nn.backbones.registry import Backbone

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 20: (3, 3, 3)}
"""Depth → blocks of two 3×3 convolutions in each stage (He et al. 2016, table 1; depth 20, for
small images, section 4.2)."""


@dataclass(frozen=True)
class BlockPlan:
    """The numbers of one block.

    Attributes:
        in_channels, out_channels: of its maps.
        stride: of its first convolution.
        dilation: of its convolutions, in pixels of its own grid.
        grid: input pixels to one pixel of its result.
    """

    in_channels: int
    out_channels: int
    stride: int
    dilation: int
    grid: int

    @property
    def changes_shape(self) -> bool:
        """Whether its shortcut must shrink the map or widen it."""
        return self.stride > 1 or self.in_channels != self.out_channels


def plan_stages(
    depth: int, width: int, output_stride: int, *, stem_stride: int = 4
) -> list[list[BlockPlan]]:
    """The blocks of each stage; the channels double from stage to stage.

    A stage that would be coarser than `output_stride` keeps its grid and dilates instead, so that
    its kernels cover the same distance in the image.

    Args:
        depth: a key of `BLOCKS`.
        width: channels of the stem and of the first stage.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32.
        stem_stride: input pixels to one pixel of the stem's map.

    Raises:
        BinsegError: an unknown depth or output stride.
    """
    if depth not in BLOCKS:
        raise BinsegError(f"a residual network of basic blocks has depth 18, 20 or 34, not {depth}")
    check_output_stride(output_stride)
    stages: list[list[BlockPlan]] = []
    in_channels, grid = width, stem_stride
    for stage, number in enumerate(BLOCKS[depth]):
        out_channels, whole = width * 2**stage, stem_stride * 2**stage
        before, grid = grid, min(output_stride, whole)
        blocks = []
        for _ in range(number):
            blocks.append(BlockPlan(in_channels, out_channels, grid // before, whole // grid, grid))
            in_channels, before = out_channels, grid
        stages.append(blocks)
    return stages


class StagedBackbone(Backbone):
    """A stem and stages of blocks; the features are the stages' results.

    Args:
        stem: from the image to the first block's map.
        stages: see `plan_stages`.
        block: builds a block of these numbers.

    Shapes:
        x: (N, 3, H, W), normalised.
        returns a map of each stage, (N, `channels[i]`, ⌈H / `strides[i]`⌉, ⌈W / `strides[i]`⌉).
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stages: list[list[BlockPlan]],
        block: Callable[[BlockPlan], nn.Module],
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(
            nn.ModuleList(block(plan) for plan in plans) for plans in stages
        )
        self.channels = [plans[-1].out_channels for plans in stages]
        self.strides = [plans[-1].grid for plans in stages]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for blocks in self.stages:
            for block in cast(nn.ModuleList, blocks):
                x = block(x)
            features.append(x)
        return features


def average_pool(stride: int) -> nn.Module:
    """Average pooling to ⌈size / stride⌉, of the pixels that a strided convolution covers."""
    if stride == 1:
        return nn.Identity()
    return nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)


def real_downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A shortcut in real numbers: average pooling, 1×1 convolution, BatchNorm."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="linear")
    return nn.Sequential(average_pool(stride), conv, nn.BatchNorm2d(out_channels))
