"""Packed heads: from the maps that a head reads to class scores."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.nn.heads.deeplabv3 import BinaryASPP, DeepLabV3Head
from binseg.nn.heads.fcn import FCNHead
from binseg.packed.aspp import PackedBinaryASPP, PackedRealASPP, folded_unit
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


class PackedDeepLabV3Head(nn.Module):
    """`DeepLabV3Head` with binary or real branches, and no dropout.

    Args:
        head: the trained head; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, head: DeepLabV3Head, folding: Folding) -> None:
        super().__init__()
        aspp = head.aspp
        self.aspp: PackedBinaryASPP | PackedRealASPP = (
            PackedBinaryASPP(aspp, folding)
            if isinstance(aspp, BinaryASPP)
            else PackedRealASPP(aspp, folding)
        )
        self.project = folded_unit(head.project, folding)
        self.refine = folded_unit(head.refine, folding)
        self.scores = score_conv(head.scores)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """As `PackedFCNHead`; only the last map is read."""
        refined: Tensor = self.refine(self.project(self.aspp(maps[-1])))
        return self.scores(refined.float()).float()


def stages_read(head: nn.Module, stages: int) -> frozenset[int]:
    """Which of a backbone's stages, counted from 0, the head reads."""
    skips = len(head.skips) if isinstance(head, FCNHead) else 0
    return frozenset(range(stages - 1 - skips, stages))


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    wide = F.interpolate(
        x.permute(0, 3, 1, 2), size=tuple(size), mode="bilinear", align_corners=False
    )
    return wide.permute(0, 2, 3, 1)
