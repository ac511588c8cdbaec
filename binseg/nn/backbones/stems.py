"""Stems: from the image to the first stage's grid at stride 4, in real numbers."""

from typing import get_args

from torch import Tensor, nn

from binseg.errors import unknown_name
from binseg.network_options import Stem


def stem_multiple(name: Stem) -> int:
    """What a stem's output channels must be a multiple of."""
    return 16 if name == "grouped3" else 4


def stem_stride(name: Stem) -> int:
    """Input pixels to one pixel of a stem's map."""
    return 1 if name == "conv3" else 4


def create_stem(name: Stem, width: int) -> nn.Sequential:
    """Build a stem, (N, 3, H, W) → (N, width, ⌈H / 4⌉, ⌈W / 4⌉), or H × W for "conv3".

    "conv7": 7×7 stride 2, max-pool, BatchNorm and no ReLU, so that the first sign sees values of
    both signs (released code of Group-Net). "conv7_bn": the BatchNorm before the pool (Bi-Real
    Net). "conv7_relu": 7×7 stride 2, BatchNorm, ReLU, max-pool, and a BatchNorm for the same reason
    (ResNetE). "grouped3": 3×3 stride 2 to width/2, 3×3 in 4 groups, 3×3 in 8 groups to width, each
    with BatchNorm and ReLU, then max-pool (Bethge et al. 2019, "Back to Simplicity", section 4.1:
    30 % fewer operations), and that BatchNorm. "conv3": 3×3 and BatchNorm at the image's own
    size, for small images (CIFAR).

    Args:
        width: output channels, a multiple of `stem_multiple`.
    """
    if name == "conv7":
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.MaxPool2d(3, 2, 1),
            nn.BatchNorm2d(width),
        ]
    elif name == "conv7_bn":
        layers = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.MaxPool2d(3, 2, 1),
        ]
    elif name == "conv7_relu":
        layers = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            nn.BatchNorm2d(width),
        ]
    elif name == "conv3":
        layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)]
    elif name == "grouped3":
        half = width // 2
        layers = [
            *_conv_bn_relu(3, half, stride=2, groups=1),
            *_conv_bn_relu(half, half, stride=1, groups=4),
            *_conv_bn_relu(half, width, stride=1, groups=8),
            nn.MaxPool2d(3, 2, 1),
            nn.BatchNorm2d(width),
        ]
    else:
        raise unknown_name("stem", name, get_args(Stem))
    return nn.Sequential(*layers)


def _conv_bn_relu(
    in_channels: int, out_channels: int, *, stride: int, groups: int
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class StridedStem(nn.Module):
    """Three 3×3 convolutions of stride 2, each with BatchNorm; a ReLU after the first two.

    No ReLU follows the last, so that the first sign sees values of both signs. At 8 bits it costs
    0.17 GMAC at 360 × 480 with 128 channels, less than a 7×7 of 32 channels at stride 2, and there
    is nothing to pool.

    Args:
        channels: of the result.

    Attributes:
        fine_channels: of the map at stride 4, a quarter of them, but 8 at least.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine_channels = max(8, channels // 4)
        half = self.fine_channels // 2
        self.fine = nn.Sequential(
            *_conv_bn_relu(3, half, stride=2, groups=1),
            *_conv_bn_relu(half, self.fine_channels, stride=2, groups=1),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(self.fine_channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to the map at stride 4 and the one at stride 8, (N, channels, …)."""
        fine = self.fine(x)
        return fine, self.coarse(fine)
