"""The residual block that the binary ResNets share, put together from options."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.network_options import (
    ActivationGradient,
    Downsample,
    Shortcut,
    Stem,
    Threshold,
    WeightGradient,
    WeightScale,
)
from binseg.nn.activations import RPReLU
from binseg.nn.backbones.groupnet_options import Precision
from binseg.nn.backbones.options import check_choices, check_clip, check_width
from binseg.nn.backbones.stages import BlockPlan, real_downsample
from binseg.nn.backbones.stems import stem_multiple
from binseg.nn.layers import BinaryConv2d

Nonlinearity = Literal["none", "relu", "hardtanh", "prelu", "rprelu"]


@dataclass(frozen=True, kw_only=True)
class ResNetOptions:
    """What makes one binary ResNet differ from another.

    Attributes:
        depth: 18 or 34 (four stages), or 20 (three stages of three blocks, for small images).
        precision: "binary", or "full" for the twin: the same topology and names, real weights and
            activations, zero padding, and ReLU where the binary network has no nonlinearity or a
            hardtanh, which serve the sign.
        width: channels of the first stage.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32; at most that, with
            the stem "conv3".
        shortcut: around each block of two convolutions, or around each convolution.
        nonlinearity: what follows each BatchNorm, after the shortcut's sum where there is one.
        downsample: the 1×1 convolution of a shortcut that changes the map's size.
        stem: see `create_stem`; "conv3" starts at stride 1, the others at 4.
        padding_value: border of the binary convolutions.
        scale: scale factor of the binary weights.
        weight_gradient: gradient of the weights' sign.
        gradient: surrogate gradient of the activations' sign.
        clip: where the clipped gradients of activations and weights end.
        threshold: what the activations are compared with.
        reduction: of an adaptive threshold.
        shifted_weight: binarize weights with a learnt shift, see `shift_weight`.
        final_relu: whether a classifier puts a ReLU before its pooling.

    Raises:
        BinsegError: a value out of range, an unknown name (with the nearest one), or a ReLU before
            signs that it would leave at +1.
    """

    depth: int = 18
    precision: Precision = "binary"
    width: int = 64
    output_stride: int = 8
    shortcut: Shortcut = "conv"
    nonlinearity: Nonlinearity = "none"
    downsample: Downsample = "real"
    stem: Stem = "conv7_bn"
    padding_value: float = 1.0
    scale: WeightScale = "none"
    weight_gradient: WeightGradient = "clip"
    gradient: ActivationGradient = "approx"
    clip: float = 1.0
    threshold: Threshold = "zero"
    reduction: int = 8
    shifted_weight: bool = False
    final_relu: bool = False

    def __post_init__(self) -> None:
        check_width(self.width, stem_multiple(self.stem))
        check_choices(self)
        check_clip(self.clip)
        if (self.precision, self.nonlinearity) == ("binary", "relu") and self.threshold != "learnt":
            raise BinsegError(
                "after a ReLU every sign is +1; choose another nonlinearity or the threshold learnt"
            )


class ConvUnit(nn.Module):
    """nonlinearity(BN(convolution(x)) + residual); the binary convolution takes the sign of x."""

    def __init__(
        self,
        options: ResNetOptions,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        if options.precision == "full":
            self.conv: nn.Module = nn.Conv2d(
                in_channels, out_channels, 3, stride, dilation, dilation, bias=False
            )
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        else:
            self.conv = _binary_conv(
                options, in_channels, out_channels, 3, stride=stride, dilation=dilation
            )
        self.norm = nn.BatchNorm2d(out_channels)
        self.nonlinearity = _nonlinearity(options, out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.norm(self.conv(x))
        return self.nonlinearity(y if residual is None else y + residual)


class ResidualBlock(nn.Module):
    """One shortcut and what it goes around: two convolutions, or one (see the option `shortcut`).

    Shapes:
        x: (N, C_in, H, W).
        returns (N, C_out, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, options: ResNetOptions, plan: BlockPlan) -> None:
        super().__init__()
        self.units = nn.ModuleList()
        in_channels, stride = plan.in_channels, plan.stride
        for _ in range(2 if options.shortcut == "block" else 1):
            self.units.append(
                ConvUnit(
                    options, in_channels, plan.out_channels, stride=stride, dilation=plan.dilation
                )
            )
            in_channels, stride = plan.out_channels, 1
        self.downsample: nn.Sequential | None = None
        if plan.changes_shape:
            self.downsample = _downsample(options, plan)

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        *inner, last = self.units
        for unit in inner:
            x = unit(x)
        return last(x, residual)


def _binary_conv(
    options: ResNetOptions,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int,
    dilation: int = 1,
) -> BinaryConv2d:
    return BinaryConv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        dilation=dilation,
        padding_value=options.padding_value,
        scale=options.scale,
        weight_gradient=options.weight_gradient,
        gradient=options.gradient,
        clip=options.clip,
        threshold=options.threshold,
        reduction=options.reduction,
        shifted_weight=options.shifted_weight,
    )


def _nonlinearity(options: ResNetOptions, channels: int) -> nn.Module:
    name = options.nonlinearity
    if name == "prelu":
        return nn.PReLU(channels)
    if name == "rprelu":
        return RPReLU(channels)
    if name == "relu" or options.precision == "full":
        return nn.ReLU()
    return nn.Hardtanh() if name == "hardtanh" else nn.Identity()


def _downsample(options: ResNetOptions, plan: BlockPlan) -> nn.Sequential:
    if options.downsample == "real" or options.precision == "full":
        return real_downsample(plan.in_channels, plan.out_channels, plan.stride)
    conv = _binary_conv(options, plan.in_channels, plan.out_channels, 1, stride=plan.stride)
    return nn.Sequential(conv, nn.BatchNorm2d(plan.out_channels))
