"""XNOR-Net and BWN (binary weights, real activations) on residual networks, and their twins.

Source: Rastegari et al. 2016, "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
Networks", sections 3.1 (BWN), 3.2 (XNOR-Net) and 4.2 (ResNet-18 with 1×1 convolutions in the
shortcuts). The first layer is real. Latent weights are centered and clamped after each step.

XNOR-Net turns a block's order round: BatchNorm → sign → convolution, so that the sign sees values
of both signs and the convolution's range is not cut. The sum of all blocks is therefore not
normalised; as in the released AlexNet, whose last binary layer is followed by BatchNorm and ReLU,
the last stage's map goes through both before it leaves the backbone. The twin is the
pre-activation network of He et al. 2016, "Identity Mappings in Deep Residual Networks".
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.network_options import ActivationGradient, Stem, WeightGradient, WeightScale
from binseg.nn.backbones.options import check_choices, check_clip, check_width
from binseg.nn.backbones.registry import register_backbone
from binseg.nn.backbones.stages import BlockPlan, StagedBackbone, plan_stages, real_downsample
from binseg.nn.backbones.stems import create_stem, stem_multiple, stem_stride
from binseg.nn.layers import BinaryConv2d

_DEPTHS = (18, 34)


@dataclass(frozen=True, kw_only=True)
class BinaryWeights:
    """What BWN does to a convolution.

    Attributes:
        precision: "binary", or "full" for the twin with the same topology.
        scale: factor of the signs; α = ‖W‖₁ / n of each filter in the paper.
        weight_gradient: of α·sign(W); "xnor" goes through α too.
        clip: where the gradients of the signs end.
    """

    precision: Literal["binary", "full"] = "binary"
    scale: WeightScale = "filter"
    weight_gradient: WeightGradient = "xnor"
    clip: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_clip(self.clip)


@dataclass(frozen=True, kw_only=True)
class BinaryWeightsAndInputs(BinaryWeights):
    """What XNOR-Net does to a convolution.

    Attributes:
        padding_value: border of the signs, +1, −1 or 0.
        gradient: surrogate gradient of the activations' sign.
        input_scale: multiply with the map K of the input's magnitudes (section 3.2). The released
            code does not.
    """

    padding_value: float = 1.0
    gradient: ActivationGradient = "ste"
    input_scale: bool = False


@dataclass(frozen=True, kw_only=True)
class _Residual(BinaryWeights):
    depth: int = 18
    width: int = 64
    output_stride: int = 8
    downsample: Literal["binary", "real"] = "real"
    stem: Stem = "conv7_relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in _DEPTHS:
            raise BinsegError(f"XNOR-Net and BWN have depth 18 or 34, not {self.depth}")
        check_width(self.width, stem_multiple(self.stem))


@dataclass(frozen=True, kw_only=True)
class BWNOptions(_Residual):
    """A residual network of binary weights; the defaults are the paper's.

    Attributes:
        depth: 18 or 34.
        width: channels of the first stage.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32.
        downsample: the 1×1 convolution of a block's shortcut.
        stem: see `binseg.nn.backbones.stems.create_stem`.
    """


@dataclass(frozen=True, kw_only=True)
class XnorNetOptions(_Residual, BinaryWeightsAndInputs):
    """A residual network of binary weights and activations; the attributes of `BWNOptions` too."""


def convolution(
    options: BinaryWeights,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> BinaryConv2d | nn.Conv2d:
    """A convolution of "same" size at stride 1: binary as the options say, or the twin's."""
    if options.precision == "full":
        border = dilation * (kernel_size - 1) // 2
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, border, dilation, bias=False
        )
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return conv
    binary = partial(
        BinaryConv2d,
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        dilation=dilation,
        scale=options.scale,
        weight_gradient=options.weight_gradient,
        clip=options.clip,
        centered_weight=True,
    )
    if not isinstance(options, BinaryWeightsAndInputs):
        return binary(real_input=True)
    return binary(
        padding_value=options.padding_value,
        gradient=options.gradient,
        input_scale=options.input_scale,
    )


def entry(options: BinaryWeights, channels: int) -> nn.Sequential:
    """What stands before a convolution of XNOR-Net, the sign left out: BatchNorm.

    The twin's ReLU takes the sign's place.
    """
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    if options.precision == "full":
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class XnorBlock(nn.Module):
    """x → BatchNorm → sign → convolution → BatchNorm → sign → convolution, + shortcut of x.

    A real shortcut reads x; a binary 1×1 convolution reads the signs that the first one reads.
    """

    def __init__(self, options: XnorNetOptions, plan: BlockPlan) -> None:
        super().__init__()
        build = partial(convolution, options)
        channels, stride, rate = plan.out_channels, plan.stride, plan.dilation
        self.entry1 = entry(options, plan.in_channels)
        self.conv1 = build(plan.in_channels, channels, 3, stride=stride, dilation=rate)
        self.entry2 = entry(options, channels)
        self.conv2 = build(channels, channels, 3, dilation=rate)
        self.real_downsample: nn.Sequential | None = None
        self.binary_downsample: nn.Module | None = None
        if plan.changes_shape:
            if options.downsample == "binary" and options.precision == "binary":
                self.binary_downsample = build(plan.in_channels, channels, 1, stride=stride)
            else:
                self.real_downsample = real_downsample(plan.in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.entry1(x)
        if self.real_downsample is not None:
            x = self.real_downsample(x)
        elif self.binary_downsample is not None:
            x = self.binary_downsample(inner)
        return self.conv2(self.entry2(self.conv1(inner))) + x


class BWNBlock(nn.Module):
    """x → convolution → BatchNorm → ReLU → convolution → BatchNorm, + shortcut of x, → ReLU."""

    def __init__(self, options: BWNOptions, plan: BlockPlan) -> None:
        super().__init__()
        build = partial(convolution, options)
        channels, stride, rate = plan.out_channels, plan.stride, plan.dilation
        self.conv1 = build(plan.in_channels, channels, 3, stride=stride, dilation=rate)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = build(channels, channels, 3, dilation=rate)
        self.norm2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if plan.changes_shape:
            if options.downsample == "binary" and options.precision == "binary":
                conv = build(plan.in_channels, channels, 1, stride=stride)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(channels))
            else:
                self.downsample = real_downsample(plan.in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.downsample is not None:
            x = self.downsample(x)
        return F.relu(inner + x)


class XnorNet(StagedBackbone):
    """XNOR-Net, or its pre-activation twin; the last map after BatchNorm and ReLU."""

    def __init__(self, options: XnorNetOptions) -> None:
        super().__init__(_stem(options), _plans(options), partial(XnorBlock, options))
        self.norm = nn.BatchNorm2d(self.channels[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        *earlier, last = super().forward(x)
        return [*earlier, F.relu(self.norm(last))]


class BWN(StagedBackbone):
    """A residual network of binary weights, or its ordinary twin."""

    def __init__(self, options: BWNOptions) -> None:
        super().__init__(_stem(options), _plans(options), partial(BWNBlock, options))


def _plans(options: _Residual) -> list[list[BlockPlan]]:
    return plan_stages(
        options.depth, options.width, options.output_stride, stem_stride=stem_stride(options.stem)
    )


def _stem(options: _Residual) -> nn.Sequential:
    """A stem, without the BatchNorm that follows a normalised map for the sake of a sign.

    The blocks of XNOR-Net have one of their own, and BWN has no such signs.
    """
    stem = create_stem(options.stem, options.width)
    has_relu = any(isinstance(layer, nn.ReLU) for layer in stem)
    return stem[:-1] if has_relu else stem


def _register(depth: int) -> None:
    @register_backbone(
        f"xnornet{depth}", options=XnorNetOptions, source="Rastegari et al. 2016, XNOR-Net"
    )
    def build_xnornet(**overrides: Any) -> XnorNet:
        return XnorNet(XnorNetOptions(**{"depth": depth, **overrides}))

    @register_backbone(f"bwn{depth}", options=BWNOptions, source="Rastegari et al. 2016, BWN")
    def build_bwn(**overrides: Any) -> BWN:
        return BWN(BWNOptions(**{"depth": depth, **overrides}))


for _depth in _DEPTHS:
    _register(_depth)
