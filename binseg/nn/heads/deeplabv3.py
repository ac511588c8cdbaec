"""DeepLabV3's head: atrous spatial pyramid pooling (ASPP), real or of binary group branches.

Source: Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation" (arXiv
1706.05587), section 3.3. The dropout and the 3×3 convolution after the projection are those of
torchvision. Branches of binary convolutions: Zhuang et al. 2019 (arXiv 1811.10413).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.bases import create_lambdas, merge_bases
from binseg.nn.layers import BinaryConv2d

Aspp = Literal["binary", "real"]

_CHANNELS = 256


class DeepLabV3Head(nn.Module):
    """ASPP, 1×1 projection, 3×3 convolution and 1×1 scores on the last stage's map.

    All but the binary branches is real: projection and 3×3 convolution with BatchNorm and ReLU,
    dropout between the two. Each has 256 channels, or as many as the map if that has fewer.

    Args:
        channels: channels of the backbone's stages, finest first.
        num_classes: C of the logits.
        output_stride: input pixels to one of the last map.
        precision: of the backbone; a "full" one has real branches, whatever `aspp` says.
        aspp: "binary" or "real", see `BinaryASPP` and `RealASPP`.
        bases: K of each binary branch, 1 to 8.
        rates: dilations of the three 3×3 branches at output stride 8; on coarser grids they shrink
            with the stride, so that they reach equally far in the image (the paper's 6, 12, 18
            at output stride 16).
        dropout: probability.

    Shapes:
        features: list of (N, C_i, H_i, W_i), finest first; in training N is at least 2.
        returns logits (N, num_classes, H, W) on the grid of the last map.

    Raises:
        BinsegError: an unknown kind of branches, a value out of range, or training with one
            image, from whose image pooling BatchNorm cannot learn.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        output_stride: int = 8,
        precision: str = "binary",
        aspp: Aspp = "binary",
        bases: int = 1,
        rates: Sequence[int] = (12, 24, 36),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if aspp not in get_args(Aspp):
            raise unknown_name("ASPP", aspp, get_args(Aspp))
        if not 1 <= bases <= 8:
            raise BinsegError(f"ASPP takes 1 to 8 bases, not {bases}")
        if len(rates) != 3 or min(rates) < 1:
            raise BinsegError(f"ASPP needs three rates of at least 1, not {tuple(rates)}")
        if not 0 <= dropout < 1:
            raise BinsegError(f"the head's dropout must be in [0, 1), not {dropout}")
        own_rates = [max(1, rate * 8 // output_stride) for rate in rates]
        middle = min(_CHANNELS, channels[-1])
        self.aspp: BinaryASPP | RealASPP
        if aspp == "binary" and precision != "full":
            self.aspp = BinaryASPP(channels[-1], middle, own_rates, bases)
        else:
            self.aspp = RealASPP(channels[-1], middle, own_rates)
        self.project = _unit(5 * middle, middle, 1)
        self.dropout = nn.Dropout(dropout)
        self.refine = _unit(middle, middle, 3)
        self.scores = nn.Conv2d(middle, num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        if self.training and len(x) == 1:
            raise BinsegError(
                "BatchNorm cannot learn from the image pooling of one image: raise "
                "data.batch_size to 2 or more"
            )
        return self.scores(self.refine(self.dropout(self.project(self.aspp(x)))))


class RealASPP(nn.Module):
    """Five branches, each convolution → BatchNorm → ReLU, laid side by side.

    A 1×1, three 3×3 at the `rates`, and a 1×1 of the map's mean over all pixels.

    Shapes: (N, in_channels, H, W) → (N, 5·channels, H, W).
    """

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                _unit(in_channels, channels, 1),
                *(_unit(in_channels, channels, 3, rate) for rate in rates),
            ]
        )
        self.pooling = _unit(in_channels, channels, 1, norm=PooledNorm)

    def forward(self, x: Tensor) -> Tensor:
        return _side_by_side(x, self.branches, self.pooling)


class BinaryASPP(nn.Module):
    """The same five branches as groups of K binary convolutions.

    The map that a backbone gives is neither centred nor normalised, so one BatchNorm before all
    branches makes its signs mean something. The pooling branch is binary like the others: it costs
    no time, but its real weights would take more bytes than all bits of a small network.

    Shapes: (N, in_channels, H, W) → (N, 5·channels, H, W).
    """

    def __init__(self, in_channels: int, channels: int, rates: Sequence[int], bases: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.branches = nn.ModuleList(
            [
                BinaryBranch(in_channels, channels, 1, 1, bases),
                *(BinaryBranch(in_channels, channels, 3, rate, bases) for rate in rates),
            ]
        )
        self.pooling = BinaryBranch(in_channels, channels, 1, 1, bases, PooledNorm)

    def forward(self, x: Tensor) -> Tensor:
        return _side_by_side(self.norm(x), self.branches, self.pooling)


class BinaryBranch(nn.Module):
    """Σ_i λ_i · BN_i(ReLU(BinConv_i(sign(x)))), λ learnt; without λ for one base.

    The unit and the merge of a Group-Net block (Zhuang et al. 2019, section 3.2), λ starting at
    U(0, 1) as there.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        dilation: int,
        bases: int,
        norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.bases = bases
        self.unit = nn.Sequential(
            BinaryConv2d(
                in_channels,
                channels,
                kernel_size,
                dilation=dilation,
                bases=bases,
                shared_input=True,
            ),
            nn.ReLU(inplace=True),
            norm(bases * channels),
        )
        self.lambdas = create_lambdas(bases, "learnt")

    def forward(self, x: Tensor) -> Tensor:
        return merge_bases(self.unit(x), self.bases, self.lambdas)


class PooledNorm(nn.BatchNorm2d):
    """BatchNorm of one pixel an image.

    One image alone has no variance; there it takes the running statistics, so that a last batch
    of one does not end the re-estimation of BatchNorms.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


def _unit(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    dilation: int = 1,
    norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
) -> nn.Sequential:
    border = dilation * (kernel_size - 1) // 2
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=border, dilation=dilation, bias=False
        ),
        norm(out_channels),
        nn.ReLU(inplace=True),
    )


def _side_by_side(x: Tensor, branches: nn.ModuleList, pooling: nn.Module) -> Tensor:
    """The branches of x, and its image pooling spread over all pixels."""
    pooled = pooling(x.mean(dim=(2, 3), keepdim=True))
    spread = pooled.expand(-1, -1, x.shape[2], x.shape[3])
    return torch.cat([*(branch(x) for branch in branches), spread], dim=1)
