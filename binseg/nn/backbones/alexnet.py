"""The paper's AlexNet as XNOR-Net and as BWN, for classification only, and their twins.

Source: Rastegari et al. 2016, "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
Networks", section 4.1, and the released models. They have no groups and BatchNorm in place of
local response normalisation; the first and the last layer are real. XNOR-Net's convolutions follow
BatchNorm → sign and have no ReLU; BWN's are followed by BatchNorm → ReLU. Fully connected layers
are 1×1 convolutions on a map of one pixel.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.backbones.options import check_width
from binseg.nn.backbones.registry import Backbone, register_backbone
from binseg.nn.backbones.xnornet import (
    BinaryWeights,
    BinaryWeightsAndInputs,
    convolution,
    entry,
)
from binseg.nn.shapes import check_sides, flatten_pixels

_WIDTH = 96
_SIDE = 6
_SMALLEST, _LARGEST = 223, 254  # pixels a side whose last map is 6×6

# output channels at width 96, kernel size, and whether max-pooling follows
_CONVOLUTIONS = ((256, 5, True), (384, 3, False), (384, 3, False), (256, 3, True))
_HIDDEN = 4096


@dataclass(frozen=True, kw_only=True)
class XnorAlexNetOptions(BinaryWeightsAndInputs):
    """AlexNet of binary weights and activations.

    Attributes:
        width: channels of the first convolution; all others are in proportion.
    """

    width: int = _WIDTH

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width, 3)


@dataclass(frozen=True, kw_only=True)
class BWNAlexNetOptions(BinaryWeights):
    """AlexNet of binary weights.

    Attributes:
        width: channels of the first convolution; all others are in proportion.
        dropout: probability before the two fully connected layers, of whole channels; 0.1 in the
            released recipe, which has none for XNOR-Net.
    """

    width: int = _WIDTH
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width, 3)
        if not 0 <= self.dropout < 1:
            raise BinsegError(f"the dropout must be in [0, 1), not {self.dropout}")


class AlexNetLayer(nn.Module):
    """A convolution with what comes before it, what follows it, and max-pooling.

    Args:
        before: layers, BatchNorm first in XNOR-Net.
        conv: of the map, or with `flat` of a map of one pixel.
        after: layers.
        pool: whether 3×3 max-pooling with stride 2 and no border follows the convolution and
            `after`.
        flat: whether the map (N, C, H, W) becomes (N, H·W·C, 1, 1) in front of the convolution.
    """

    def __init__(
        self,
        before: nn.Sequential,
        conv: nn.Module,
        after: nn.Sequential,
        *,
        pool: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__()
        self.before, self.conv, self.after = before, conv, after
        self.pool, self.flat = pool, flat

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        if self.flat:
            x = flatten_pixels(x)
        x = self.after(self.conv(x))
        return F.max_pool2d(x, 3, 2) if self.pool else x


class AlexNet(Backbone):
    """From an image to the map of one pixel that the last linear layer reads.

    Shapes:
        x: (N, 3, H, W), normalised, 223 to 254 pixels a side (the paper: 224).
        returns one map (N, `channels[0]`, 1, 1).
    """

    def __init__(self, options: XnorAlexNetOptions | BWNAlexNetOptions) -> None:
        super().__init__()
        width = options.width
        hidden = _scaled(_HIDDEN, width)
        self.channels, self.strides = [hidden], [_SMALLEST]
        first = nn.Conv2d(3, width, 11, 4, 2, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_in", nonlinearity="relu")
        self.stem = AlexNetLayer(nn.Sequential(), first, _norm_relu(width), pool=True)
        self.layers = nn.ModuleList()
        channels = width
        for number, kernel_size, pool in _CONVOLUTIONS:
            following = _scaled(number, width)
            self.layers.append(_layer(options, channels, following, kernel_size, pool=pool))
            channels = following
        self.layers.append(_layer(options, channels, hidden, 1, side=_SIDE))
        self.layers.append(_layer(options, hidden, hidden, 1, side=1))
        signs = isinstance(options, XnorAlexNetOptions)
        self.end = _norm_relu(hidden) if signs else nn.Sequential()

    def forward(self, x: Tensor) -> list[Tensor]:
        check_sides(x, _SMALLEST, _LARGEST, "AlexNet")
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return [self.end(x)]


def check_image(x: Tensor) -> None:
    """Refuse images (N, 3, H, W) whose last map is not 6×6."""
    check_sides(x, _SMALLEST, _LARGEST, "AlexNet")


def _layer(
    options: XnorAlexNetOptions | BWNAlexNetOptions,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    pool: bool = False,
    side: int = 0,
) -> AlexNetLayer:
    """A layer in XNOR-Net's order or in BWN's; a fully connected one with a `side`."""
    conv = convolution(options, in_channels * (side**2 or 1), out_channels, kernel_size)
    if isinstance(options, XnorAlexNetOptions):
        before, after = entry(options, in_channels), nn.Sequential()
    else:
        before, after = nn.Sequential(), _norm_relu(out_channels)
        if side and options.dropout:
            before = nn.Sequential(nn.Dropout2d(options.dropout))
    return AlexNetLayer(before, conv, after, pool=pool, flat=bool(side))


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _scaled(channels: int, width: int) -> int:
    return channels * width // _WIDTH


def _register(name: str, options: Any, title: str) -> None:
    source = f"Rastegari et al. 2016, {title} on AlexNet"

    @register_backbone(name, options=options, dense=False, source=source)
    def build(**given: Any) -> AlexNet:
        return AlexNet(options(**given))


_register("xnornet_alexnet", XnorAlexNetOptions, "XNOR-Net")
_register("bwn_alexnet", BWNAlexNetOptions, "BWN")
