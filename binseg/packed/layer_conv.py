"""`PackedLayerConv`: K binary convolutions of one map, summed, and what follows the sum."""

from typing import cast

import torch
from torch import Tensor, nn

from binseg.kernels import ops
from binseg.nn.bases import BaseSum
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import PackedConv
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine
from binseg.packed.stored import Stored


class PackedLayerConv(Stored):
    """A trained unit of layer-wise decomposition, with the calls `bits` and `real` of `PackedConv`.

    The bases are scaled, weighted and summed in one operator. Nonlinearity and BatchNorm come after
    the sum, so neither thresholds nor the operator's own curve can stand for them.

    Args:
        unit: binary convolution → `BaseSum` → nonlinearity → BatchNorm; on the meta device only
            sizes are taken.
        folding: see `Folding`.

    Attributes:
        conv: the weights' bits, and their scale as a straight curve.
        lambdas: float32 (K,), the weights of the sum.
        slope: float32 (C_out,), of PReLU.
        norm: BatchNorm.
    """

    lambdas: Tensor
    slope: Tensor

    def __init__(self, unit: nn.Sequential, folding: Folding) -> None:
        super().__init__()
        conv, total, middle, norm = unit
        assert isinstance(conv, BinaryConv2d)
        assert isinstance(total, BaseSum)
        self.conv = PackedConv.of(nn.Sequential(conv), folding)
        self.declare("lambdas", (total.bases,), torch.float32)
        if total.lambdas is None:
            self.fill("lambdas", torch.full((total.bases,), 1 / total.bases))
        elif not total.lambdas.is_meta:
            self.fill("lambdas", total.lambdas.cpu())
        self.middle = type(middle)
        if isinstance(middle, nn.PReLU):
            self.declare("slope", (conv.out_channels,), torch.float32)
            if not middle.weight.is_meta:
                self.fill("slope", middle.weight.cpu())
        self.norm = Affine.of(cast(nn.BatchNorm2d, norm))

    def bits(self, x: Tensor) -> Tensor:
        """The packed map `x`, int32 (N, H, W, 1, words), to the signs of the unit's result."""
        return ops.pack_sign(self._result(x))

    def real(
        self, x: Tensor, residual: Tensor | None = None, *, pack: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The unit's result plus `residual`, float32 (N, H', W', 1, C_out), and its signs, or an
        empty tensor."""
        y = self._result(x)
        if residual is not None:
            y = y + residual
        return y, ops.pack_sign(y) if pack else x.new_empty(0)

    def _result(self, x: Tensor) -> Tensor:
        shape = self.conv.shape
        size = (x.shape[0], *shape.output_size(x.shape[1], x.shape[2]), 1, shape.out_channels)
        _, y, _ = self.conv.merge(
            x,
            self.norm.bias.new_zeros(size),
            self.lambdas,
            gates=None,
            keep_merged=True,
            pack=False,
        )
        return self.norm(self._bent(y))

    def _bent(self, y: Tensor) -> Tensor:
        if self.middle is nn.PReLU:
            return torch.where(y >= 0, y, self.slope * y)
        return y.tanh() if self.middle is nn.Tanh else y.relu()


class LayerDownsample(nn.Module):
    """A shortcut's binary 1×1 convolution, a sum of K."""

    def __init__(self, layers: nn.Sequential, folding: Folding) -> None:
        super().__init__()
        self.conv = PackedLayerConv(layers, folding)

    def forward(self, real: Tensor, bits: Tensor) -> Tensor:
        return self.conv.real(bits, pack=False)[0]


def packed_unit(
    unit: nn.Sequential, folding: Folding, *, threshold: bool = False
) -> PackedConv | PackedLayerConv:
    """A trained unit of either decomposition, folded; `threshold` where only bits are wanted."""
    if isinstance(unit[1], BaseSum):
        return PackedLayerConv(unit, folding)
    return PackedConv.of(unit, folding, threshold=threshold)
