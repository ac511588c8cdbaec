"""The packed stem: from the picture to the first real map and its signs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.kernels import ops
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine, Int8Conv, MaxPool, folded, rest_layers
from binseg.packed.thresholds import norm_affine

_POOLED: list[list[type[nn.Module]]] = [[nn.MaxPool2d], [nn.MaxPool2d, nn.BatchNorm2d]]
"""How a stem may end whose last convolution has its pooling in one operator."""


class PackedStem(nn.Module):
    """A stem of convolutions, BatchNorms, ReLUs and max-pooling.

    In int8 the last convolution and the max-pooling behind it are one operator, whatever stands
    between them, and grouped convolutions run as dense ones: integer sums cost less than bfloat16
    groups.

    Args:
        stem: the trained layers; on the meta device only sizes are taken.
        folding: see `Folding`.
        pack: whether the signs are read.

    Raises:
        BinsegError: a layer of another kind.
    """

    def __init__(self, stem: nn.Sequential, folding: Folding, *, pack: bool = True) -> None:
        super().__init__()
        self.pack = pack
        layers = list(stem)
        self.steps = nn.ModuleList()
        self.ending: Int8ConvPool | None = None
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.Conv2d):
                norm = _next(layers, nn.BatchNorm2d)
                relu = _next(layers, nn.ReLU) is not None
                if folding.rest == "int8" and [type(rest) for rest in layers] in _POOLED:
                    _check_pool(layers[0])
                    after = layers[1] if len(layers) == 2 else None
                    self.ending = Int8ConvPool.of(layer, norm, after, folding, relu=relu)
                    break
                self.steps.append(rest_layers(layer, norm, folding, relu=relu))
            elif isinstance(layer, nn.MaxPool2d):
                _check_pool(layer)
                self.steps.append(MaxPool())
            elif isinstance(layer, nn.BatchNorm2d):
                self.steps.append(Affine.of(layer))
            else:
                raise BinsegError(f"a {type(layer).__name__} in the stem cannot be packed")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A picture (N, 3, H, W) to float32 (N, H', W', 1, C) and its signs, or anything in their
        place where nobody reads them."""
        y = x.permute(0, 2, 3, 1)
        for step in self.steps:
            y = step(y)
        if self.ending is not None:
            return self.ending.pooled(y, pack=self.pack)
        real = y.float().unsqueeze(3)
        return real, ops.pack_sign(real) if self.pack else real.new_empty(0)


class Int8ConvPool(Int8Conv):
    """8-bit convolution (→ BatchNorm (→ ReLU)) → max-pooling (→ BatchNorm), and the signs.

    The maximum is taken of the integer sums. What stands before it is monotonous, so it may as
    well come after, where there are four times fewer numbers.
    """

    norm: Affine | None

    @classmethod
    def of(
        cls,
        conv: nn.Conv2d,
        before: nn.Module | None,
        after: nn.Module | None,
        folding: Folding,
        *,
        relu: bool = False,
    ) -> "Int8ConvPool":
        """Trained layers; on the meta device only sizes are taken.

        Args:
            conv: the convolution.
            before, after: the BatchNorms on both sides of the pooling, or None.
            folding: see `Folding`.
            relu: whether a ReLU stands before the pooling.
        """
        packed = cls(conv, relu=relu, name=folding.name(conv))
        packed.norm = None
        if relu and after is not None:
            assert isinstance(after, nn.BatchNorm2d)
            packed.norm, after = Affine.of(after), None
        if conv.weight.is_meta:
            return packed
        kernels, bias = folded(conv)
        gain = torch.ones_like(bias)
        if before is not None:
            gain, shift = norm_affine(before)
            # a negative gain before the maximum would make it a minimum
            kernels = kernels * torch.where(gain < 0, -1, 1).view(-1, 1, 1, 1)
            gain, bias = gain.abs(), bias * gain + shift
        if after is not None:
            outer, shift = norm_affine(after)
            gain, bias = gain * outer, bias * outer + shift
        packed.fold(kernels, gain, bias, folding.ranges[conv], conv.groups)
        return packed

    def pooled(self, x: Tensor, *, pack: bool) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) to float32 (N, H', W', 1, C_out) and its signs."""
        levels = ops.quantize(x, self.inverse_scale, self.zero_point)
        real, bits = ops.conv_int8_pool(
            levels, self.weight, self.shape, self.zero_point, self.curve
        )
        if not self.relu:
            return real, bits
        real = F.relu_(real)
        if self.norm is not None:
            real = self.norm(real)
        return real, ops.pack_sign(real) if pack else bits


def _next(layers: list[nn.Module], kind: type[nn.Module]) -> nn.Module | None:
    """Take the first layer if it is one of `kind`."""
    return layers.pop(0) if layers and isinstance(layers[0], kind) else None


def _check_pool(pool: nn.Module) -> None:
    assert isinstance(pool, nn.MaxPool2d)
    if (pool.kernel_size, pool.stride, pool.padding) != (3, 2, 1):
        raise BinsegError(f"only 3×3 max-pooling with stride 2 can be packed, not {pool}")
