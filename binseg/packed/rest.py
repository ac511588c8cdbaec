"""The layers of a packed network that are not binary, in float32, bfloat16 or 8 bits.

All take and give maps (N, H, W, C); a picture (N, 3, H, W) comes as the view of that shape.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.kernels import ops
from binseg.kernels.layout import pack_int8_weight
from binseg.kernels.shape import BLOCK, ConvShape, blocks
from binseg.packed.calibration import LEVELS, Range
from binseg.packed.folding import Folding
from binseg.packed.stored import Expected, Stored
from binseg.packed.thresholds import norm_affine

_LARGEST_INT8 = 127
_ROWS = 16
"""Results that the CPU's matrix product has side by side in a register of 512 bits."""


class RealConv(Stored):
    """A convolution in float32 or bfloat16, with bias, and ReLU if asked for.

    Args:
        conv: for the sizes.
        dtype: of weights, bias, arithmetic and result.
        relu: whether ReLU follows.

    Attributes:
        weight: (C_out, C_in / groups, kh, kw), BatchNorm folded in.
        bias: (C_out,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        assert not isinstance(conv.padding, str)
        self.padding = conv.padding
        self.relu = relu
        self.declare("weight", tuple(conv.weight.shape), dtype)
        self.declare("bias", (conv.out_channels,), dtype)
        self.plain = conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.groups == 1

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if self.plain:
            y = _linear(x, self.weight.flatten(1), self.bias)
        else:
            y = F.conv2d(
                x.permute(0, 3, 1, 2),
                self.weight,
                self.bias,
                self.stride,
                self.padding,
                self.dilation,
                self.groups,
            ).permute(0, 2, 3, 1)
        return F.relu_(y) if self.relu else y


class Int8Conv(Stored):
    """A convolution of bytes: the float32 map is rounded first, and float32 comes out.

    Args:
        conv: for the sizes; its groups become one with zeros between them.
        relu: whether ReLU follows.
        name: what an error calls the layer.

    Attributes:
        weight: int32, four weights to a word, see `layout.pack_int8_weight`.
        curve: float32 (2, C_out): scale of the sums and bias, the zero point's share included.
        inverse_scale, zero_point: of the input, see `ops.quantize`.
    """

    weight: Tensor
    curve: Tensor

    def __init__(self, conv: nn.Conv2d, *, relu: bool = False, name: str = "") -> None:
        super().__init__()
        size, dilation = (conv.kernel_size[0], conv.kernel_size[1]), conv.dilation[0]
        self.shape = ConvShape(
            conv.in_channels, conv.out_channels, size, conv.stride[0], (dilation,), 0
        )
        self.relu = relu
        self.inverse_scale, self.zero_point = 1.0, 0
        fours = -(-conv.in_channels // 4)
        if self.shape.taps * fours * 4 > 2**16:
            raise BinsegError(f"{name}: too many channels for 8 bits; use bf16")
        self.declare(
            "weight", (blocks(conv.out_channels), self.shape.taps, fours, BLOCK), torch.int32
        )
        self.declare("curve", (2, conv.out_channels), torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        levels = ops.quantize(x, self.inverse_scale, self.zero_point)
        return ops.conv_int8(
            levels, self.weight, self.shape, self.zero_point, self.curve, relu=self.relu
        )

    def fold(
        self, kernels: Tensor, gain: Tensor, bias: Tensor, seen: Range, groups: int = 1
    ) -> None:
        """Take float64 weights, and the affine map per channel that follows the convolution.

        Each output channel has a scale of its own, max|w| / 127.
        """
        kernels = _dense(kernels, groups)
        step = kernels.abs().amax(dim=(1, 2, 3)) / _LARGEST_INT8
        step = torch.where(step > 0, step, torch.ones_like(step))
        levels = (kernels / step.view(-1, 1, 1, 1)).round()
        scale = step * seen.scale * gain
        shift = bias - scale * seen.zero_point * levels.sum(dim=(1, 2, 3))
        self.fill("weight", pack_int8_weight(levels.to(torch.int8)))
        self.fill("curve", torch.stack([scale, shift]))
        self.inverse_scale, self.zero_point = 1 / seen.scale, seen.zero_point

    # --- files and state dicts ---

    def expected(self) -> dict[str, Expected]:
        shape = self.shape
        size = (shape.out_channels, shape.in_channels, *shape.kernel)
        return {
            "weight": Expected(size, (torch.int8,)),
            "curve": Expected((2, shape.out_channels), (torch.float32,)),
            "input": Expected((2,), (torch.float64,)),
        }

    def give(self) -> dict[str, Tensor]:
        shape, found = self.shape, super().give()
        rows = found["weight"].permute(0, 3, 1, 2).reshape(-1, shape.taps, found["weight"].shape[2])
        levels = rows.contiguous().view(torch.int8)[: shape.out_channels, :, : shape.in_channels]
        found["weight"] = levels.transpose(1, 2).unflatten(2, shape.kernel).contiguous()
        return {**found, "input": self.get_extra_state()}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        self.fill("weight", pack_int8_weight(tensors["weight"]))
        self.fill("curve", tensors["curve"])
        self.set_extra_state(tensors["input"])

    def get_extra_state(self) -> Tensor:
        """Inverse scale and zero point, float64 (2,): the operators want them as numbers."""
        return torch.tensor([self.inverse_scale, self.zero_point], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`.

        Raises:
            BinsegError: a number is out of range.
        """
        inverse_scale, zero_point = state.tolist()
        if not 0 < inverse_scale < 1e30 or zero_point not in range(LEVELS + 1):
            raise BinsegError(f"no scale and zero point: {inverse_scale:g}, {zero_point:g}")
        self.inverse_scale, self.zero_point = inverse_scale, int(zero_point)


class Affine(Stored):
    """A BatchNorm by itself: x·scale + bias in float32, rounded once, then ReLU if asked for."""

    scale: Tensor
    bias: Tensor

    def __init__(self, channels: int, *, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.declare("scale", (channels,), torch.float32)
        self.declare("bias", (channels,), torch.float32)

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, *, relu: bool = False) -> "Affine":
        """A trained BatchNorm; on the meta device only its size is taken."""
        packed = cls(norm.num_features, relu=relu)
        if not norm.weight.is_meta:
            scale, bias = norm_affine(norm)
            packed.fill("scale", scale)
            packed.fill("bias", bias)
        return packed

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addcmul(self.bias, x.float(), self.scale)
        return F.relu_(y) if self.relu else y


class MaxPool(nn.Module):
    """3×3 max-pooling with stride 2, border 1."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x.permute(0, 3, 1, 2), 3, 2, 1).permute(0, 2, 3, 1)


def rest_conv(
    conv: nn.Conv2d,
    folding: Folding,
    *,
    norm: nn.Module | None = None,
    relu: bool = False,
) -> RealConv | Int8Conv:
    """A trained convolution and the BatchNorm after it, in the arithmetic of `folding`."""
    name = folding.name(conv)
    if folding.rest == "int8":
        eight = Int8Conv(conv, relu=relu, name=name)
        if not conv.weight.is_meta:
            kernels, bias = folded(conv, norm)
            one = torch.ones_like(bias)
            eight.fold(kernels, one, bias, folding.ranges[conv], conv.groups)
        return eight
    real = RealConv(conv, torch.bfloat16 if folding.rest == "bf16" else torch.float32, relu=relu)
    _fill(real, conv, norm)
    return real


def rest_layers(
    conv: nn.Conv2d, norm: nn.Module | None, folding: Folding, *, relu: bool = False
) -> nn.Module:
    """A convolution and its BatchNorm before a sign: in float32 one after the other.

    Folding would change the last bits of the map, and with them the sign of what lies next to 0;
    one wrong bit spreads to a thousandth of a picture's classes.
    """
    if folding.rest != "fp32" or norm is None:
        return rest_conv(conv, folding, norm=norm, relu=relu)
    assert isinstance(norm, nn.BatchNorm2d)
    return nn.Sequential(rest_conv(conv, folding), Affine.of(norm, relu=relu))


def score_conv(conv: nn.Conv2d, *, before: nn.Module | None = None) -> RealConv:
    """A 1×1 convolution to class scores and a BatchNorm before it, always in float32.

    It costs a few hundredths of the time and decides between classes.
    """
    real = RealConv(conv, torch.float32)
    _fill(real, conv, None, before)
    return real


def folded(
    conv: nn.Conv2d, norm: nn.Module | None = None, before: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Weights and bias of BatchNorm → convolution → BatchNorm as one convolution, in float64.

    A BatchNorm before it can only be folded exactly if the convolution has no border.
    """
    kernels = conv.weight.detach().cpu().double()
    bias = kernels.new_zeros(len(kernels))
    if conv.bias is not None:
        bias = conv.bias.detach().cpu().double()
    if before is not None:
        assert conv.padding == (0, 0)
        gain, shift = norm_affine(before)
        bias = bias + (kernels * shift.view(1, -1, 1, 1)).sum(dim=(1, 2, 3))
        kernels = kernels * gain.view(1, -1, 1, 1)
    if norm is not None:
        gain, shift = norm_affine(norm)
        kernels, bias = kernels * gain.view(-1, 1, 1, 1), bias * gain + shift
    return kernels, bias


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x·Wᵀ + b; on the CPU with rows of zeros up to a full register.

    11 classes took three times as long as 16 (one thread, AVX-512, torch 2.15).
    """
    rows = len(weight)
    missing = -rows % _ROWS
    if x.is_cuda or rows <= _ROWS // 2 or not missing:
        return F.linear(x, weight, bias)
    wide = F.linear(x, F.pad(weight, (0, 0, 0, missing)), F.pad(bias, (0, missing)))
    return wide[..., :rows]


def _fill(
    real: RealConv, conv: nn.Conv2d, norm: nn.Module | None, before: nn.Module | None = None
) -> None:
    if conv.weight.is_meta:
        return
    kernels, bias = folded(conv, norm, before)
    real.fill("weight", kernels)
    real.fill("bias", bias)


def _dense(kernels: Tensor, groups: int) -> Tensor:
    """Weights of a grouped convolution as one group's, zeros between the groups."""
    if groups == 1:
        return kernels
    rows, columns = len(kernels) // groups, kernels.shape[1]
    dense = kernels.new_zeros(len(kernels), groups * columns, *kernels.shape[2:])
    for group in range(groups):
        own = slice(group * rows, (group + 1) * rows)
        dense[own, group * columns : (group + 1) * columns] = kernels[own]
    return dense
