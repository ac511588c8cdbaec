"""The sum over K bases that lie one after another along the channels.

Source: Zhuang et al. 2019, "Structured Binary Neural Networks" (arXiv 1811.10413), section 3.2; the
mean over the bases is the journal version's (arXiv 1909.09934).
"""

import torch
from torch import Tensor, nn

from binseg.network_options import Merge


def create_lambdas(bases: int, merge: Merge) -> nn.Parameter | None:
    """λ of a merge, (bases,), starting at U(0, 1) as in the released code; None for the mean, and
    for one base."""
    return nn.Parameter(torch.rand(bases)) if bases > 1 and merge == "learnt" else None


def merge_bases(x: Tensor, bases: int, lambdas: Tensor | None) -> Tensor:
    """Σ_i λ_i·x_i of (N, bases·C, H, W), or the mean over i without λ: (N, C, H, W)."""
    if bases == 1:
        return x
    stacked = x.unflatten(1, (bases, -1))
    if lambdas is None:
        return stacked.mean(dim=1)
    return (stacked * lambdas.view(1, -1, 1, 1, 1).to(x.dtype)).sum(dim=1)


def gate_branches(branches: Tensor, merged: Tensor, theta: Tensor, bases: int) -> Tensor:
    """σ(θ_i)·x_i + (1 − σ(θ_i))·merged for each base i (section 3.2; soft connections).

    Args:
        branches: x, (N, bases·C, H, W).
        merged: (N, C, H, W).
        theta: θ, (bases,), or (1,) for all bases.
        bases: K.

    Returns:
        (N, bases·C, H, W).
    """
    gate = torch.sigmoid(theta).view(1, -1, 1, 1, 1).to(branches.dtype)
    own = branches.unflatten(1, (bases, -1))
    return torch.lerp(merged.unsqueeze(1).to(own.dtype), own, gate).flatten(1, 2)


def part_branches(x: Tensor, branches: int) -> Tensor:
    """(N, branches·C, H, W) → (N·branches, C, H, W), for a layer that serves all branches."""
    return x.unflatten(1, (branches, -1)).flatten(0, 1)


def join_branches(x: Tensor, branches: int) -> Tensor:
    """The inverse of `part_branches`."""
    return x.unflatten(0, (-1, branches)).flatten(1, 2)


class BaseSum(nn.Module):
    """`merge_bases` as a layer: where layer-wise decomposition sums the bases of a convolution.

    Attributes:
        lambdas: λ, (bases,), or None for the mean.
    """

    def __init__(self, bases: int, merge: Merge) -> None:
        super().__init__()
        self.bases = bases
        self.lambdas = create_lambdas(bases, merge)

    def forward(self, x: Tensor) -> Tensor:
        """(N, bases·C, H, W) → (N, C, H, W)."""
        return merge_bases(x, self.bases, self.lambdas)

    def extra_repr(self) -> str:
        return f"bases={self.bases}"
