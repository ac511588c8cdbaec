"""Layers of the full-precision baselines."""

from torch import nn


def conv_unit(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Sequential:
    """Convolution → BatchNorm → ReLU, with a border that keeps the size at stride 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def depthwise_unit(channels: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3×3 convolution of each channel alone → BatchNorm → ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
