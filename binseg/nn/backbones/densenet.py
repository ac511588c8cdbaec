"""BinaryDenseNet 28, 37, 45 and 37-dilated, and their real-valued twins.

Source: Bethge et al. 2019, "Back to Simplicity: How to Train Accurate BNNs from Scratch?" (arXiv
1906.08637), section 4 and the released code: no scaling factors, no bottlenecks, the plain sign
with the clipped straight-through gradient, and real 1×1 convolutions between the stages.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.network_options import ActivationGradient, Stem, WeightGradient, WeightScale
from binseg.nn.backbones.groupnet import Precision
from binseg.nn.backbones.options import (
    check_choices,
    check_clip,
    check_output_stride,
    check_width,
)
from binseg.nn.backbones.registry import Backbone, register_backbone
from binseg.nn.backbones.stems import create_stem, stem_multiple, stem_stride
from binseg.nn.layers import BinaryConv2d

_LAYERS = {28: (6, 6, 6, 5), 37: (6, 8, 12, 6), 45: (6, 12, 14, 8)}
_REDUCTIONS = {28: (2.7, 2.7, 2.2), 37: (3.3, 3.3, 4.0), 45: (2.7, 3.3, 4.0)}


@dataclass(frozen=True, kw_only=True)
class DenseNetOptions:
    """What makes one BinaryDenseNet differ from another; the defaults are the paper's.

    Attributes:
        depth: 28, 37 or 45.
        precision: "binary", or "full" for the twin: the same topology, real weights, ReLU for the
            sign and zero padding.
        width: channels of the stem and of each layer (the growth rate); 64 in the paper.
        output_stride: input pixels to one pixel of the last stage, 8, 16 or 32. Where it is
            reached, transitions do not pool and the stages after them are dilated instead.
        dilated: output stride 8, whatever was asked for: the paper's 37-dilated, whose classifier
            has dilations 1, 1, 2 and 4, too.
        stem: see `create_stem`; without the BatchNorm at its end, as each layer begins with one.
        padding_value: border of the binary convolutions.
        scale: scale factor of the binary weights; the paper finds that it does harm.
        weight_gradient: gradient of the weights' sign.
        gradient: surrogate gradient of the activations' sign.
        clip: where the clipped gradients of activations and weights end.
    """

    depth: int = 28
    precision: Precision = "binary"
    width: int = 64
    output_stride: int = 32
    dilated: bool = False
    stem: Stem = "conv7_relu"
    padding_value: float = 1.0
    scale: WeightScale = "none"
    weight_gradient: WeightGradient = "clip"
    gradient: ActivationGradient = "ste"
    clip: float = 1.3

    def __post_init__(self) -> None:
        if self.depth not in _LAYERS:
            raise BinsegError(f"BinaryDenseNet has depth 28, 37 or 45, not {self.depth}")
        check_output_stride(self.output_stride)
        check_width(self.width, stem_multiple(self.stem))
        check_clip(self.clip)
        check_choices(self)


class DenseLayer(nn.Module):
    """BatchNorm → sign → binary 3×3 convolution, laid beside what came in.

    The twin has a ReLU in place of the sign and real weights.

    Args:
        options: see `DenseNetOptions`.
        in_channels: of the map so far.
        dilation: of the convolution.

    Shapes:
        x: (N, in_channels, H, W).
        returns (N, in_channels + width, H, W), x first.
    """

    def __init__(self, options: DenseNetOptions, in_channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        if options.precision == "full":
            self.activation: nn.Module = nn.ReLU(inplace=True)
            self.conv: nn.Module = nn.Conv2d(
                in_channels, options.width, 3, padding=dilation, dilation=dilation, bias=False
            )
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        else:
            self.activation = nn.Identity()  # the convolution takes the sign itself
            self.conv = BinaryConv2d(
                in_channels,
                options.width,
                3,
                dilation=dilation,
                padding_value=options.padding_value,
                scale=options.scale,
                weight_gradient=options.weight_gradient,
                gradient=options.gradient,
                clip=options.clip,
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.activation(self.norm(x)))], dim=1)


class Transition(nn.Sequential):
    """BatchNorm → 2×2 max-pooling → ReLU → real 1×1 convolution, from stage to stage.

    Args:
        in_channels, out_channels: of the convolution.
        stride: 2, or 1 for no pooling.

    Shapes:
        x: (N, in_channels, H, W).
        returns (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.MaxPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
            nn.ReLU(inplace=True),
            conv,
        )


class DenseNet(Backbone):
    """The stem and four stages of dense layers, with a transition between two stages.

    A stage's map is everything its layers laid side by side, as the transition after it reads it:
    not normalised. After the last stage come a BatchNorm and a ReLU, so that heads and classifiers
    read a normalised map.

    Shapes:
        x: (N, 3, H, W), normalised.
        returns four maps (N, `channels[i]`, ⌈H / `strides[i]`⌉, ⌈W / `strides[i]`⌉).
    """

    def __init__(self, options: DenseNetOptions) -> None:
        super().__init__()
        if options.dilated:
            options = replace(options, output_stride=8)
        self.options = options
        self.stem = _create_stem(options)
        self.stages = nn.ModuleList()
        self.ends = nn.ModuleList()  # what follows each stage: transitions, then BatchNorm and ReLU
        self.channels: list[int] = []
        self.strides: list[int] = []
        undilated = stem_stride(options.stem)  # the stride, if every transition pooled
        channels, stride = options.width, undilated
        for depth, reduction in zip(
            _LAYERS[options.depth], (*_REDUCTIONS[options.depth], None), strict=True
        ):
            layers = nn.Sequential()
            for _ in range(depth):
                layers.append(DenseLayer(options, channels, dilation=undilated // stride))
                channels += options.width
            self.stages.append(layers)
            self.channels.append(channels)
            self.strides.append(stride)
            if reduction is None:
                self.ends.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
                break
            reduced = reduced_channels(channels, reduction, options.width)
            pooling = 2 if stride < options.output_stride else 1
            self.ends.append(Transition(channels, reduced, pooling))
            channels, stride, undilated = reduced, stride * pooling, undilated * 2

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage, end in zip(self.stages, self.ends, strict=True):
            x = stage(x)
            features.append(x)
            x = end(x)
        return [*features[:-1], x]


def reduced_channels(channels: int, reduction: float, width: int) -> int:
    """Output channels of a transition: channels / reduction, to the nearest multiple of 32.

    For other widths than 64 to that of width / 2, so that all channels of the network
    keep their proportions.
    """
    multiple = width // 2
    return round(channels / reduction / multiple) * multiple


def _create_stem(options: DenseNetOptions) -> nn.Sequential:
    layers = list(create_stem(options.stem, options.width))
    return nn.Sequential(*(layers[:-1] if isinstance(layers[-1], nn.BatchNorm2d) else layers))


def _register(name: str, **defaults: Any) -> None:
    @register_backbone(name, options=DenseNetOptions, source="Bethge et al. 2019, BinaryDenseNet")
    def build(**overrides: Any) -> DenseNet:
        return DenseNet(DenseNetOptions(**{**defaults, **overrides}))


for _depth in _LAYERS:
    _register(f"binarydensenet{_depth}", depth=_depth)
_register("binarydensenet37_dilated", depth=37, dilated=True)
