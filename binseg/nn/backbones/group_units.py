"""Parts of blocks of branches: the binary unit and the downsampling."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from binseg.nn.activations import RPReLU
from binseg.nn.backbones.groupnet_options import GroupNetOptions, Nonlinearity
from binseg.nn.backbones.stages import real_downsample
from binseg.nn.bases import BaseSum, join_branches, part_branches
from binseg.nn.layers import BinaryConv2d


class ConvUnit(nn.Sequential):
    """(sign →) convolution → nonlinearity → BatchNorm, for all bases.

    The nonlinearity "rprelu" is not part of it: see `after_shortcut`.

    With layer-wise decomposition all bases read one map, and a `BaseSum` follows the convolution:
    y = Σ_i λ_i·BinConv_i(sign(x)) (Zhuang et al. 2019, section 3.2).
    """

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
        channels = options.branches * out_channels
        dilations = tuple(dilations or (1,) * bases)
        layers: list[nn.Module]
        if options.precision == "full":
            border = dilations[0] * (kernel_size - 1) // 2
            conv = nn.Conv2d(
                in_channels, channels, kernel_size, stride, border, dilations[0], bias=False
            )
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers = [conv]
        else:
            layers = [
                BinaryConv2d(
                    in_channels,
                    out_channels,
                    kernel_size,
                    stride=stride,
                    dilation=dilations,
                    bases=bases,
                    shared_input=shared_input or options.decomposition == "layer",
                    padding_value=options.padding_value,
                    scale=options.scale,
                    weight_gradient=options.weight_gradient,
                    gradient=options.gradient,
                    threshold=options.threshold,
                )
            ]
        if options.decomposition == "layer" and bases > 1:
            layers.append(BaseSum(bases, options.merge))
        if options.nonlinearity != "rprelu":
            layers.append(_nonlinearity(options.nonlinearity, channels))
        super().__init__(*layers, nn.BatchNorm2d(channels))


class GroupDownsample(nn.Module):
    """The 1×1 convolution of a block's shortcut; its weights and BatchNorm serve all branches.

    Real: average pooling, 1×1 convolution, BatchNorm. Binary: as any binary unit, with the stride
    in the convolution; one base, or with layer-wise decomposition a sum of K like any other layer.
    The branches ride in the batch while they share it.
    """

    def __init__(
        self, options: GroupNetOptions, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        if options.downsample == "binary" and options.precision == "binary":
            own = options if options.decomposition == "layer" else replace(options, bases=1)
            self.layers: nn.Module = ConvUnit(own, in_channels, out_channels, 1, stride=stride)
        else:
            self.layers = real_downsample(in_channels, out_channels, stride)

    def forward(self, x: Tensor, branches: int) -> Tensor:
        """(N, branches·C_in, H, W) → (N, branches·C_out, ⌈H / stride⌉, ⌈W / stride⌉)."""
        if branches == 1:
            return self.layers(x)
        return join_branches(self.layers(part_branches(x, branches)), branches)


def after_shortcut(options: GroupNetOptions, channels: int) -> nn.Module:
    """What follows the sum of a unit of `channels` to a branch and its shortcut."""
    if options.nonlinearity == "rprelu":
        return RPReLU(options.branches * channels)
    return nn.Identity()


def _nonlinearity(name: Nonlinearity, channels: int) -> nn.Module:
    if name == "prelu":
        return nn.PReLU(channels)
    return nn.ReLU(inplace=True) if name == "relu" else nn.Tanh()
