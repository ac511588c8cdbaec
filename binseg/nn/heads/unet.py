"""A decoder of binary blocks that brings the deepest map back to stride 8, and edges from stride 4.

Source of the shape: Ronneberger et al. 2015, "U-Net", section 2, with sums for concatenations. The
blocks are Group-Net's (Zhuang et al. 2019, section 3.2) with one base.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.network_options import Threshold
from binseg.nn.backbones.group_blocks import BasicGroupBlock
from binseg.nn.backbones.groupnet_options import GroupNetOptions, Nonlinearity, Precision
from binseg.nn.heads.fcn import resize_logits

BLOCKS = (2, 1)
"""Binary blocks of two convolutions on the second map, at stride 8, and on each coarser one."""


class UNetHead(nn.Module):
    """From the coarsest map to the finest: project, upsample, add the finer map, binary blocks.

    The finest map has no binary blocks: there a real 3×3 convolution joins what comes from below
    with its edges. Projections are real 1×1 convolutions with BatchNorm.

    Args:
        channels: channels of the backbone's stages, finest first; three at least.
        num_classes: C of the logits.
        precision: "binary", or "full" for the twin.
        nonlinearity, threshold: of the blocks, see `GroupNetOptions`.
        dropout: probability, before the scores.

    Shapes:
        features: list of (N, C_i, H_i, W_i), finest first.
        returns logits (N, num_classes, H_0, W_0).
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        precision: Precision = "binary",
        nonlinearity: Nonlinearity = "rprelu",
        threshold: Threshold = "learnt",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(channels) < 3:
            raise BinsegError(f"the head unet needs three maps or more, not {len(channels)}")
        if not 0 <= dropout < 1:
            raise BinsegError(f"the head's dropout must be in [0, 1), not {dropout}")
        options = GroupNetOptions(
            precision=precision,
            bases=1,
            shortcut="conv",
            nonlinearity=nonlinearity,
            threshold=threshold,
        )
        self.projections = nn.ModuleList()
        self.stages = nn.ModuleList()
        finer = list(channels[:-1])
        for level in range(len(finer) - 1, -1, -1):
            self.projections.append(_projection(channels[level + 1], finer[level]))
            if level:
                self.stages.append(
                    nn.ModuleList(
                        BasicGroupBlock(
                            options,
                            finer[level],
                            finer[level],
                            stride=1,
                            dilations=(1,),
                            first=True,
                        )
                        for _ in range(BLOCKS[0] if level == 1 else BLOCKS[1])
                    )
                )
        fine = channels[0]
        self.norm = nn.BatchNorm2d(fine)
        self.score = nn.Sequential(
            nn.Conv2d(fine, fine, 3, padding=1, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(fine, num_classes, 1),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        finer = features[-2::-1]
        for projection, blocks, feature in zip(self.projections, self.stages, finer, strict=False):
            x = resize_logits(projection(x), feature.shape[-2:]) + feature
            for block in cast(nn.ModuleList, blocks):
                _, x = block(x, x)
        fine = features[0]
        x = resize_logits(self.projections[-1](x), fine.shape[-2:]) + self.norm(fine)
        return self.score(x)


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
    )
