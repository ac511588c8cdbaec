"""The packed stem: from the picture to the first real map and its signs."""

from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.kernels import ops
from binseg.packed.folding import Folding
from binseg.packed.rest import Affine, Int8Conv, MaxPool, folded, rest_layers
from binseg.packed.thresholds import norm_affine


class PackedStem(nn.Module):
    """A stem of convolutions, BatchNorms, ReLUs and max-pooling.

    In int8 the pattern convolution → max-pool → BatchNorm at its end is one operator, and grouped
    convolutions run as dense ones: integer sums cost less than bfloat16 groups.

    Args:
        stem: the trained layers; on the meta device only sizes are taken.
        folding: see `Folding`.

    Raises:
        BinsegError: a layer of another kind.
    """

    def __init__(self, stem: nn.Sequential, folding: Folding) -> None:
        super().__init__()
        layers = list(stem)
        self.steps = nn.ModuleList()
        self.ending: Int8ConvPool | None = None
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.Conv2d):
                if folding.rest == "int8" and [type(after) for after in layers] == [
                    nn.MaxPool2d,
                    nn.BatchNorm2d,
                ]:
                    _check_pool(layers[0])
                    self.ending = Int8ConvPool.of(layer, layers[1], folding)
                    break
                norm = _next(layers, nn.BatchNorm2d)
                relu = _next(layers, nn.ReLU) is not None
                self.steps.append(rest_layers(layer, norm, folding, relu=relu))
            elif isinstance(layer, nn.MaxPool2d):
                _check_pool(layer)
                self.steps.append(MaxPool())
            elif isinstance(layer, nn.BatchNorm2d):
                self.steps.append(Affine.of(layer))
            else:
                raise BinsegError(f"a {type(layer).__name__} in the stem cannot be packed")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A picture (N, 3, H, W) to float32 (N, H', W', 1, C) and its signs."""
        y = x.permute(0, 2, 3, 1)
        for step in self.steps:
            y = step(y)
        if self.ending is not None:
            return self.ending.pooled(y)
        real = y.float().unsqueeze(3)
        return real, ops.pack_sign(real)


class Int8ConvPool(Int8Conv):
    """8-bit convolution, max-pooling, BatchNorm and sign in one."""

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.Module, folding: Folding) -> "Int8ConvPool":
        """Trained layers; on the meta device only sizes are taken."""
        packed = cls(conv, name=folding.name(conv))
        if not conv.weight.is_meta:
            kernels, bias = folded(conv)
            gain, shift = norm_affine(norm)
            # the maximum is taken of the sums, so a negative gain must come after it
            packed.fold(kernels, gain, bias * gain + shift, folding.ranges[conv], conv.groups)
        return packed

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, C) to float32 (N, H', W', 1, C_out) and its signs."""
        levels = ops.quantize(x, self.inverse_scale, self.zero_point)
        return ops.conv_int8_pool(levels, self.weight, self.shape, self.zero_point, self.curve)


def _next(layers: list[nn.Module], kind: type[nn.Module]) -> nn.Module | None:
    """Take the first layer if it is one of `kind`."""
    return layers.pop(0) if layers and isinstance(layers[0], kind) else None


def _check_pool(pool: nn.Module) -> None:
    assert isinstance(pool, nn.MaxPool2d)
    if (pool.kernel_size, pool.stride, pool.padding) != (3, 2, 1):
        raise BinsegError(f"only 3×3 max-pooling with stride 2 can be packed, not {pool}")
