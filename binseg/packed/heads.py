"""Packed heads: from the maps that a head reads to class scores."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.nn.heads.fcn import FCNHead
from binseg.packed.folding import Folding
from binseg.packed.rest import rest_conv, score_conv


class PackedFCNHead(nn.Module):
    """`FCNHead` with its BatchNorms folded, and no dropout.

    Args:
        head: the trained head; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, head: FCNHead, folding: Folding) -> None:
        super().__init__()
        conv, norm, _, _, scores = head.score
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(scores, nn.Conv2d)
        self.middle = rest_conv(conv, folding, norm=norm, relu=True)
        self.scores = score_conv(scores)
        self.skips = nn.ModuleList()
        for skip in head.skips:
            assert isinstance(skip, nn.Sequential)
            assert isinstance(skip[1], nn.Conv2d)
            self.skips.append(score_conv(skip[1], before=skip[0]))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """float32 maps (N, H_i, W_i, C_i) of the stages that are read, finest first, to scores
        float32 (N, h, w, classes) on the grid of the first."""
        scores = self.scores(self.middle(maps[-1]).float()).float()
        for skip, finer in zip(self.skips, maps[-2::-1], strict=True):
            scores = _resized(scores, finer.shape[1:3]) + skip(finer).float()
        return scores


def stages_read(head: nn.Module, stages: int) -> frozenset[int]:
    """Which of a backbone's stages, counted from 0, the head reads."""
    assert isinstance(head, FCNHead)
    return frozenset(range(stages - 1 - len(head.skips), stages))


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    wide = F.interpolate(
        x.permute(0, 3, 1, 2), size=tuple(size), mode="bilinear", align_corners=False
    )
    return wide.permute(0, 2, 3, 1)
