"""The CPU kernels: portable C++, AVX2, AVX-512 and NEON behind the functions of `reference`.

Results are allocated here; the shared object (csrc/cpu) fills them, with as many threads as
`torch.get_num_threads()` says. Arguments are checked in `ops`.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from binseg.kernels import build, isa
from binseg.kernels.shape import ConvShape, words


def backend(name: str | None = None) -> "CpuBackend":
    """The kernels of the instruction set called `name`, or of the best one of this processor.

    Raises:
        BuildError: they cannot be built, or this processor lacks the instruction set.
    """
    return _backend(name or isa.supported()[-1])


@cache
def _backend(name: str) -> "CpuBackend":
    if name not in isa.supported():
        raise build.BuildError(
            f"this processor cannot run the '{name}' kernels, only {', '.join(isa.supported())}"
        )
    build.load("cpu")
    return CpuBackend(name)


@dataclass(frozen=True)
class CpuBackend:
    """Functions of `reference`, run by the kernels of one instruction set.

    Attributes:
        NAME: the instruction set.
    """

    NAME: str

    def pack_sign(self, x: Tensor) -> Tensor:
        out = x.new_empty((*x.shape[:4], words(x.shape[4])), dtype=torch.int32)
        torch.ops.binseg_cpu.pack_sign(self.NAME, x, x.dtype == torch.bfloat16, out)
        return out

    def conv_sum(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, dtype: torch.dtype
    ) -> Tensor:
        out = bits.new_empty((*_size(bits, shape), shape.bases, shape.out_channels), dtype=dtype)
        torch.ops.binseg_cpu.conv_sum(
            self.NAME, bits, weight, _ints(shape), dtype == torch.int16, out
        )
        return out

    def conv_bits(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, low: Tensor, span: Tensor
    ) -> Tensor:
        out = bits.new_empty((*_size(bits, shape), shape.bases, words(shape.out_channels)))
        torch.ops.binseg_cpu.conv_bits(self.NAME, bits, weight, _ints(shape), low, span, out)
        return out

    def conv_real(
        self,
        bits: Tensor,
        weight: Tensor,
        shape: ConvShape,
        curve: Tensor,
        tanh: bool,
        residual: Tensor | None,
        pack: bool,
    ) -> tuple[Tensor, Tensor]:
        size = _size(bits, shape)
        out = curve.new_empty((*size, shape.bases, shape.out_channels))
        signs = _signs(bits, size, shape.bases, shape.out_channels) if pack else None
        torch.ops.binseg_cpu.conv_real(
            self.NAME, bits, weight, _ints(shape), curve, tanh, residual, out, signs
        )
        return out, bits.new_empty(0) if signs is None else signs

    def conv_merge(
        self,
        bits: Tensor,
        weight: Tensor,
        shape: ConvShape,
        curve: Tensor,
        tanh: bool,
        residual: Tensor,
        lambdas: Tensor,
        gates: Tensor | None,
        keep_merged: bool,
        pack: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = _size(bits, shape)
        channels = shape.out_channels
        branches = merged = signs = None
        if gates is not None:
            branches = curve.new_empty((*size, shape.bases, channels))
        if keep_merged or gates is None:
            merged = curve.new_empty((*size, 1, channels))
        if pack:
            signs = _signs(bits, size, 1 if gates is None else shape.bases, channels)
        torch.ops.binseg_cpu.conv_merge(
            self.NAME,
            bits,
            weight,
            _ints(shape),
            curve,
            tanh,
            residual,
            lambdas,
            gates,
            branches,
            merged,
            signs,
        )
        return (
            curve.new_empty(0) if branches is None else branches,
            curve.new_empty(0) if merged is None else merged,
            bits.new_empty(0) if signs is None else signs,
        )

    def quantize(self, x: Tensor, inverse_scale: float, zero_point: int) -> Tensor:
        out = x.new_empty((*x.shape[:3], x.shape[3] + -x.shape[3] % 4), dtype=torch.uint8)
        torch.ops.binseg_cpu.quantize(self.NAME, x, inverse_scale, zero_point, out)
        return out

    def conv_int8(
        self,
        x: Tensor,
        weight: Tensor,
        shape: ConvShape,
        zero_point: int,
        curve: Tensor,
        relu: bool,
    ) -> Tensor:
        out = curve.new_empty((*_size(x, shape), shape.out_channels))
        ints = _ints(shape, zero_point)
        torch.ops.binseg_cpu.conv_int8(self.NAME, x, weight, ints, curve, relu, out)
        return out

    def conv_int8_pool(
        self, x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor
    ) -> tuple[Tensor, Tensor]:
        number, height, width = _size(x, shape)
        size = (number, -(-height // 2), -(-width // 2))
        out = curve.new_empty((*size, 1, shape.out_channels))
        signs = curve.new_empty((*size, 1, words(shape.out_channels)), dtype=torch.int32)
        ints = _ints(shape, zero_point)
        torch.ops.binseg_cpu.conv_int8_pool(self.NAME, x, weight, ints, curve, out, signs)
        return out, signs

    def upsample_argmax(self, scores: Tensor, height: int, width: int) -> Tensor:
        out = scores.new_empty((scores.shape[0], height, width), dtype=torch.uint8)
        torch.ops.binseg_cpu.upsample_argmax(self.NAME, scores.contiguous(), out)
        return out


def _size(x: Tensor, shape: ConvShape) -> tuple[int, int, int]:
    return (x.shape[0], *shape.output_size(x.shape[1], x.shape[2]))


def _signs(bits: Tensor, size: tuple[int, int, int], bases: int, channels: int) -> Tensor:
    return bits.new_empty((*size, bases, words(channels)))


def _ints(shape: ConvShape, padding: int | None = None) -> list[int]:
    """The order in which csrc/cpu/binding.cpp reads them."""
    return [
        shape.in_channels,
        shape.out_channels,
        *shape.kernel,
        shape.stride,
        shape.padding_value if padding is None else padding,
        *shape.dilations,
    ]
