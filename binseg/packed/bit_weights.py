"""Convolutions of real maps with weights of 1 bit (BWN): bits in a file, numbers when they run.

No kernel multiplies real numbers with bits, so that the weights are unpacked once: to ± the scale
in float32 or bfloat16, or to ±127 in 8 bits.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from binseg.nn.binarize import sign, weight_scale
from binseg.nn.layers import BinaryConv2d
from binseg.packed.conv import bits_to_bytes, bytes_to_bits
from binseg.packed.folding import Folding
from binseg.packed.rest import Int8Conv, RealConv
from binseg.packed.stored import Expected
from binseg.packed.thresholds import norm_affine


class BitWeightConv(RealConv):
    """A binary convolution of a real map and what follows it, in float32 or bfloat16.

    Args:
        conv: the trained layer, for the sizes.
        dtype, relu: see `RealConv`.

    Attributes:
        scale: float32 (C_out,); `weight` is ± this.
    """

    scale: Tensor

    def __init__(self, conv: BinaryConv2d, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__(_real(conv), dtype, relu=relu)
        self.declare("scale", (conv.out_channels,), torch.float32)

    @property
    def binary_weights(self) -> int:
        """How many weights of 1 bit there are."""
        return self.weight.numel()

    def fold(self, signs: Tensor, scale: Tensor, bias: Tensor) -> None:
        """Take ±1 (C_out, C_in, k, k), and the affine map per channel that follows the sums."""
        self.fill("scale", scale)
        self.fill("weight", signs * self.scale.view(-1, 1, 1, 1))
        self.fill("bias", bias)

    def expected(self) -> dict[str, Expected]:
        found = super().expected()
        del found["weight"]
        return {"bits": _expected_bits(self.binary_weights), **found}

    def give(self) -> dict[str, Tensor]:
        found = super().give()
        # a scale of 0 leaves no signs, and needs none
        signs = found.pop("weight").float() * sign(found["scale"]).view(-1, 1, 1, 1)
        return {"bits": _to_bytes(signs), **found}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        signs = _to_signs(tensors["bits"], tuple(self.weight.shape))
        self.fold(signs, tensors["scale"], tensors["bias"])


class Int8BitWeightConv(Int8Conv):
    """A binary convolution of a real map and what follows it: of bytes, with weights of ±127.

    Args:
        conv: the trained layer, for the sizes.
        relu, name: see `Int8Conv`.
    """

    def __init__(self, conv: BinaryConv2d, *, relu: bool = False, name: str = "") -> None:
        super().__init__(_real(conv), relu=relu, name=name)

    @property
    def binary_weights(self) -> int:
        """How many weights of 1 bit there are."""
        return self.shape.out_channels * self.shape.terms

    def expected(self) -> dict[str, Expected]:
        found = super().expected()
        del found["weight"]
        return {"bits": _expected_bits(self.binary_weights), **found}

    def give(self) -> dict[str, Tensor]:
        found = super().give()
        return {"bits": _to_bytes(found.pop("weight")), **found}

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        shape = self.shape
        size = (shape.out_channels, shape.in_channels, *shape.kernel)
        weight = _to_signs(tensors["bits"], size) * torch.iinfo(torch.int8).max
        super().take({**tensors, "weight": weight.to(torch.int8)})


def bit_weight_conv(
    conv: BinaryConv2d, norm: nn.Module, folding: Folding, *, relu: bool = False
) -> BitWeightConv | Int8BitWeightConv:
    """A trained binary convolution of a real map and the BatchNorm after it, folded.

    Args:
        conv, norm: on the meta device only sizes are taken.
        folding: see `Folding`; its `rest` is the arithmetic.
        relu: whether ReLU follows.
    """
    name = folding.name(conv)
    if folding.rest == "int8":
        eight = Int8BitWeightConv(conv, relu=relu, name=name)
        if not conv.weight.is_meta:
            eight.fold(*_folded(conv, norm), folding.ranges[conv])
        return eight
    dtype = torch.bfloat16 if folding.rest == "bf16" else torch.float32
    real = BitWeightConv(conv, dtype, relu=relu)
    if not conv.weight.is_meta:
        real.fold(*_folded(conv, norm))
    return real


def _folded(conv: BinaryConv2d, norm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Signs, scale and bias in float64."""
    weight = conv.latent_weight.detach().cpu()
    gain, bias = norm_affine(norm)
    factor = weight_scale(weight, conv.scale)
    if factor is not None:
        gain = gain * factor.double().flatten()
    return sign(weight).double(), gain, bias


def _real(conv: BinaryConv2d) -> nn.Conv2d:
    """A real convolution of the same sizes, without values."""
    dilation = conv.dilations[0]
    border = dilation * (conv.kernel_size - 1) // 2
    return nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        border,
        dilation,
        device="meta",
    )


def _expected_bits(count: int) -> Expected:
    return Expected((-(-count // 8),), (torch.uint8,))


def _to_bytes(weight: Tensor) -> Tensor:
    """Signs of (C_out, C_in, kh, kw) in the order of `PackedConv`."""
    return bits_to_bytes(weight.permute(0, 2, 3, 1) >= 0)


def _to_signs(stored: Tensor, size: tuple[int, ...]) -> Tensor:
    """The inverse of `_to_bytes`: ±1, float32."""
    rows, columns, height, width = size
    bits = bytes_to_bits(stored, rows * columns * height * width)
    return bits.view(rows, height, width, columns).permute(0, 3, 1, 2).float().mul_(2).sub_(1)
