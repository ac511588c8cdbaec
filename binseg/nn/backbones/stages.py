"""The four stages of a residual network with basic blocks: channels, strides and dilations."""

from dataclasses import dataclass

from torch import nn

from binseg.errors import BinsegError

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Depth → blocks of two 3×3 convolutions in each stage (He et al. 2016, table 1)."""


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
    its kernels cover the same distance in the picture.

    Args:
        depth: a key of `BLOCKS`.
        width: channels of the stem and of the first stage.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32.
        stem_stride: input pixels to one pixel of the stem's map.

    Raises:
        BinsegError: an unknown depth or output stride.
    """
    if depth not in BLOCKS:
        raise BinsegError(f"a residual network of basic blocks has depth 18 or 34, not {depth}")
    if output_stride not in (8, 16, 32):
        raise BinsegError(f"the output stride must be 8, 16 or 32, not {output_stride}")
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


def real_downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A shortcut in real numbers: average pooling to ⌈size / stride⌉, 1×1 convolution, BatchNorm.

    The pooling covers the pixels that a strided convolution with a border covers.
    """
    pool: nn.Module = nn.Identity()
    if stride > 1:
        pool = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="linear")
    return nn.Sequential(pool, conv, nn.BatchNorm2d(out_channels))
