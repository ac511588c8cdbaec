"""DeepLabV3's pyramid pooling, packed: bits where its branches are binary, real layers else."""

import torch
from torch import Tensor, nn

from binseg.nn.heads.deeplabv3 import BinaryASPP, BinaryBranch, RealASPP
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import rest_conv
from binseg.packed.signs import NormSigns
from binseg.packed.stored import Stored


class PackedBinaryASPP(NormSigns):
    """`BinaryASPP`: the normalised map's signs, taken once for four branches, and its mean's.

    Args:
        aspp: the trained layers; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, aspp: BinaryASPP, folding: Folding) -> None:
        super().__init__(aspp.norm)
        self.branches = nn.ModuleList(PackedBranch(each, folding) for each in aspp.branches)
        self.pooling = PackedBranch(aspp.pooling, folding)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, C) to the branches side by side, (N, H, W, 5·C_out)."""
        bits = super().forward(x)
        # the mean of the normalised map is the mean of the map, normalised
        pooled = self.pooling(super().forward(x.mean(dim=(1, 2), keepdim=True)))
        return _side_by_side([branch(bits) for branch in self.branches], pooled)


class PackedBranch(Stored):
    """`BinaryBranch`: K binary convolutions of one map and their weighted sum.

    Args:
        branch: the trained one; on the meta device only sizes are taken.
        folding: see `Folding`.

    Attributes:
        lambdas: float32 (K,), with K > 1.
    """

    lambdas: Tensor

    def __init__(self, branch: nn.Module, folding: Folding) -> None:
        super().__init__()
        assert isinstance(branch, BinaryBranch)
        self.conv = PackedConv.of(branch.unit, folding)
        self.bases = branch.bases
        if branch.lambdas is not None:
            self.declare("lambdas", (self.bases,), torch.float32)
            if not branch.lambdas.is_meta:
                self.fill("lambdas", branch.lambdas.cpu())

    def forward(self, bits: Tensor) -> Tensor:
        """Packed (N, H, W, 1, words) to float32 (N, H, W, C_out)."""
        if self.bases == 1:
            return self.conv.real(bits, pack=False)[0].squeeze(3)
        nothing = self.lambdas.new_zeros(*bits.shape[:3], 1, self.conv.shape.out_channels)
        _, merged, _ = self.conv.merge(
            bits, nothing, self.lambdas, gates=None, keep_merged=True, pack=False
        )
        return merged.squeeze(3)


class PackedRealASPP(nn.Module):
    """`RealASPP` with its BatchNorms folded.

    Args:
        aspp: the trained layers; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, aspp: RealASPP, folding: Folding) -> None:
        super().__init__()
        self.branches = nn.ModuleList(folded_unit(each, folding) for each in aspp.branches)
        self.pooling = folded_unit(aspp.pooling, folding)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, C) to the branches side by side, (N, H, W, 5·C_out)."""
        pooled = self.pooling(x.mean(dim=(1, 2), keepdim=True))
        return _side_by_side([branch(x) for branch in self.branches], pooled)


def folded_unit(unit: nn.Module, folding: Folding) -> nn.Module:
    """Convolution → BatchNorm → ReLU, the BatchNorm in the convolution's weights."""
    assert isinstance(unit, nn.Sequential)
    conv, norm, _ = unit
    assert isinstance(conv, nn.Conv2d)
    return rest_conv(conv, folding, norm=norm, relu=True)


def _side_by_side(branches: list[Tensor], pooled: Tensor) -> Tensor:
    return torch.cat([*branches, pooled.expand(-1, *branches[0].shape[1:3], -1)], dim=3)
