"""Fully convolutional heads: FCN-32s, FCN-16s, FCN-8s, FCN-4s and the dilated FCN head.

Source: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 4.2
for the skip sums (FCN-4s goes on with them to the first stage, for what is a few pixels wide);
3×3 convolution to a quarter of the channels as in torchvision's FCN.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError


class FCNHead(nn.Module):
    """3×3 convolution to C/4, BatchNorm, ReLU, dropout and 1×1 scores, plus scores of skips.

    Each skip is a 1×1 convolution of an earlier stage's map; the coarser sum is brought to its
    size bilinearly and added, coarse to fine.

    Args:
        channels: channels of the backbone's stages, finest first.
        num_classes: C of the logits.
        skips: how many earlier stages add their scores: 0 (FCN-32s and the dilated head), 1
            (FCN-16s), 2 (FCN-8s) or 3 (FCN-4s).
        kernel_size: of the first convolution, 3 or 1.
        dropout: probability.

    Shapes:
        features: list of (N, C_i, H_i, W_i), finest first.
        returns logits (N, num_classes, H, W) on the grid of the finest map it reads.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        skips: int = 0,
        kernel_size: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if kernel_size not in (1, 3):
            raise BinsegError(f"the head's kernel size must be 1 or 3, not {kernel_size}")
        if not 0 <= dropout < 1:
            raise BinsegError(f"the head's dropout must be in [0, 1), not {dropout}")
        middle = max(1, channels[-1] // 4)
        self.score = nn.Sequential(
            nn.Conv2d(channels[-1], middle, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(middle, num_classes, 1),
        )
        earlier = list(channels[:-1])[::-1][:skips]
        # A merged map is neither normalised nor of a fixed scale, so each skip begins with a
        # BatchNorm; without it the skips drown the coarse scores.
        self.skips = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.Conv2d(c, num_classes, 1)) for c in earlier
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        logits = self.score(features[-1])
        for skip, feature in zip(self.skips, features[-2::-1], strict=False):
            logits = resize_logits(logits, feature.shape[-2:]) + skip(feature)
        return logits


def resize_logits(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (N, C, h, w) to (N, C, *size), pixel centres aligned as in OpenCV."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
