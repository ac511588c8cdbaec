"""STDC1: short-term dense concatenation, with attention on the way up and a fusion at stride 8.

Source: Fan et al. 2021, "Rethinking BiSeNet For Real-time Semantic Segmentation" (arXiv
2104.13188), sections 3.1 and 3.2 and table 1 (STDC1). Its detail loss and auxiliary heads serve
training alone and are left out, so that all networks are trained by one recipe. "Seg50" is its
name for images at half their size.
"""

import torch
from torch import Tensor, nn

from binseg.nn.backbones.registry import Backbone
from binseg.nn.baselines.layers import conv_unit
from binseg.nn.heads.fcn import resize_logits

_MIDDLE = 128
_FUSED = 256


class STDC1Backbone(Backbone):
    """STDC1 without its classifier: two strided convolutions and three stages of two modules.

    Shapes:
        x: (N, 3, H, W).
        returns maps of 256, 512 and 1024 channels at strides 8, 16 and 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.strides = [256, 512, 1024], [8, 16, 32]
        self.stem = nn.Sequential(conv_unit(3, 32, 3, stride=2), conv_unit(32, 64, 3, stride=2))
        stages, in_channels = [], 64
        for channels in self.channels:
            stages.append(
                nn.Sequential(
                    STDCModule(in_channels, channels, stride=2), STDCModule(channels, channels)
                )
            )
            in_channels = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class STDCModule(nn.Module):
    """Four convolutions in a row of 1/2, 1/4, 1/8 and 1/8 of the channels; all results side by
    side. With stride 2 the second convolution shrinks the map, and the first result is averaged."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        half, quarter, eighth = (out_channels // n for n in (2, 4, 8))
        self.first = conv_unit(in_channels, half, 1)
        self.shrink: nn.Module = nn.Identity()
        self.pool: nn.Module = nn.Identity()
        if stride == 2:
            self.shrink = nn.Sequential(
                nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False), nn.BatchNorm2d(half)
            )
            self.pool = nn.AvgPool2d(3, 2, 1)
        self.rest = nn.ModuleList(
            [
                conv_unit(half, quarter, 3),
                conv_unit(quarter, eighth, 3),
                conv_unit(eighth, eighth, 3),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        maps, x = [self.pool(first)], self.shrink(first)
        for layer in self.rest:
            x = layer(x)
            maps.append(x)
        return torch.cat(maps, dim=1)


class STDCHead(nn.Module):
    """BiSeNet's way up: attention refinement at strides 32 and 16, feature fusion at stride 8.

    Args:
        num_classes: C of the logits.

    Shapes:
        features: see `STDC1Backbone`.
        returns logits (N, num_classes, ⌈H / 8⌉, ⌈W / 8⌉).
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.pooled = conv_unit(1024, _MIDDLE, 1)
        self.refine32, self.refine16 = _Attention(1024), _Attention(512)
        self.up32, self.up16 = (conv_unit(_MIDDLE, _MIDDLE, 3) for _ in range(2))
        self.fuse = conv_unit(256 + _MIDDLE, _FUSED, 1)
        self.weigh = nn.Sequential(
            nn.Conv2d(_FUSED, _FUSED // 4, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(_FUSED // 4, _FUSED, 1, bias=False),
            nn.Sigmoid(),
        )
        self.scores = nn.Sequential(
            conv_unit(_FUSED, _FUSED, 3), nn.Conv2d(_FUSED, num_classes, 1, bias=False)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, middle, deep = features
        x = self.refine32(deep) + self.pooled(deep.mean(dim=(2, 3), keepdim=True))
        x = self.up32(resize_logits(x, middle.shape[-2:]))
        x = self.up16(resize_logits(self.refine16(middle) + x, fine.shape[-2:]))
        x = self.fuse(torch.cat([fine, x], dim=1))
        return self.scores(x + x * self.weigh(x.mean(dim=(2, 3), keepdim=True)))


class _Attention(nn.Module):
    """Attention refinement: channels weighed by their own means over the image."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = conv_unit(in_channels, _MIDDLE, 3)
        self.weigh = nn.Sequential(
            nn.Conv2d(_MIDDLE, _MIDDLE, 1, bias=False), nn.BatchNorm2d(_MIDDLE), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.weigh(x.mean(dim=(2, 3), keepdim=True))
