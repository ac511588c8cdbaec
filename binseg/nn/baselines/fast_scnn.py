"""Fast-SCNN: a shallow branch at stride 8, a deep one at stride 32, and their fusion.

Source: Poudel et al. 2019, "Fast-SCNN: Fast Semantic Segmentation Network" (arXiv 1902.04502),
section 3 and table 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.nn.backbones.registry import Backbone
from binseg.nn.baselines.layers import conv_unit, depthwise_unit
from binseg.nn.heads.fcn import resize_logits

_BINS = (1, 2, 3, 6)
_CHANNELS = 128


class FastSCNNBackbone(Backbone):
    """Learning to downsample, and the global feature extractor on its result.

    Shapes:
        x: (N, 3, H, W).
        returns (N, 64, ⌈H / 8⌉, ⌈W / 8⌉) and (N, 128, ⌈H / 32⌉, ⌈W / 32⌉).
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = [64, _CHANNELS], [8, 32]
        self.downsample = nn.Sequential(
            conv_unit(3, 32, 3, stride=2), *_separable(32, 48, 2), *_separable(48, 64, 2)
        )
        plan = [(64, 2), (64, 1), (64, 1), (96, 2), (96, 1), (96, 1), (128, 1), (128, 1), (128, 1)]
        blocks, in_channels = [], 64
        for channels, stride in plan:
            blocks.append(Bottleneck(in_channels, channels, stride))
            in_channels = channels
        self.features = nn.Sequential(*blocks)
        self.pyramid = PyramidPooling(in_channels, _CHANNELS)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.downsample(x)
        return [fine, self.pyramid(self.features(fine))]


class Bottleneck(nn.Module):
    """MobileNetV2's block with expansion 6 (Sandler et al. 2018, section 3.3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        middle = 6 * in_channels
        self.layers = nn.Sequential(
            conv_unit(in_channels, middle, 1),
            depthwise_unit(middle, stride),
            nn.Conv2d(middle, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.keeps_shape = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.keeps_shape else y


class PyramidPooling(nn.Module):
    """Means over 1, 2, 3 and 6 cells a side, brought back to the map's size beside it (Zhao et al.
    2017, "PSPNet", section 3.2).

    Its BatchNorms see one pixel an image in the coarsest cell, so training needs batches of two.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter = in_channels // len(_BINS)
        self.levels = nn.ModuleList(conv_unit(in_channels, quarter, 1) for _ in _BINS)
        self.project = conv_unit(in_channels + quarter * len(_BINS), out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for cells, level in zip(_BINS, self.levels, strict=True):
            pooled = level(F.adaptive_avg_pool2d(x, cells))
            maps.append(resize_logits(pooled, x.shape[-2:]))
        return self.project(torch.cat(maps, dim=1))


class FastSCNNHead(nn.Module):
    """Feature fusion and classifier.

    Args:
        num_classes: C of the logits.
        dropout: probability, before the scores.

    Shapes:
        features: see `FastSCNNBackbone`.
        returns logits (N, num_classes, ⌈H / 8⌉, ⌈W / 8⌉).
    """

    def __init__(self, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            depthwise_unit(_CHANNELS, dilation=4),
            nn.Conv2d(_CHANNELS, _CHANNELS, 1, bias=False),
            nn.BatchNorm2d(_CHANNELS),
        )
        self.fine = nn.Sequential(
            nn.Conv2d(64, _CHANNELS, 1, bias=False), nn.BatchNorm2d(_CHANNELS)
        )
        self.classifier = nn.Sequential(
            *_separable(_CHANNELS, _CHANNELS, 1),
            *_separable(_CHANNELS, _CHANNELS, 1),
            nn.Dropout(dropout),
            nn.Conv2d(_CHANNELS, num_classes, 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, deep = features
        deep = self.deep(resize_logits(deep, fine.shape[-2:]))
        return self.classifier(F.relu(deep + self.fine(fine)))


def _separable(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    return [depthwise_unit(in_channels, stride), conv_unit(in_channels, out_channels, 1)]
