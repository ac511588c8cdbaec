"""The CPU kernels: portable C++, AVX2, AVX-512 and NEON behind the functions of `reference`.

Results are allocated by `results`; the shared object (csrc/cpu) fills them, with as many threads as
`torch.get_num_threads()` says. Arguments are checked in `ops`.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from binseg.kernels import build, isa, results
from binseg.kernels.shape import ConvShape


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

    def pack_sign(self, x: Tensor, affine: Tensor | None = None) -> Tensor:
        out = results.pack_sign(x)
        torch.ops.binseg_cpu.pack_sign(self.NAME, x, x.dtype == torch.bfloat16, affine, out)
        return out

    def conv_sum(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, dtype: torch.dtype
    ) -> Tensor:
        out = results.conv_sum(bits, shape, dtype)
        torch.ops.binseg_cpu.conv_sum(
            self.NAME, bits, weight, _ints(shape), dtype == torch.int16, out
        )
        return out

    def conv_bits(
        self, bits: Tensor, weight: Tensor, shape: ConvShape, low: Tensor, span: Tensor
    ) -> Tensor:
        out = results.conv_bits(bits, shape)
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
        post: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        out, signs = results.conv_real(bits, shape, pack)
        torch.ops.binseg_cpu.conv_real(
            self.NAME, bits, weight, _ints(shape), curve, tanh, residual, post, out, _asked(signs)
        )
        return out, signs

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
        made = results.conv_merge(bits, shape, gates is not None, keep_merged, pack)
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
            *map(_asked, made),
        )
        return made

    def quantize(self, x: Tensor, inverse_scale: float, zero_point: int) -> Tensor:
        out = results.quantize(x)
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
        out = results.conv_int8(x, shape)
        ints = _ints(shape, zero_point)
        torch.ops.binseg_cpu.conv_int8(self.NAME, x, weight, ints, curve, relu, out)
        return out

    def conv_int8_pool(
        self, x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor
    ) -> tuple[Tensor, Tensor]:
        out, signs = results.conv_int8_pool(x, shape)
        ints = _ints(shape, zero_point)
        torch.ops.binseg_cpu.conv_int8_pool(self.NAME, x, weight, ints, curve, out, signs)
        return out, signs

    def upsample_argmax(self, scores: Tensor, height: int, width: int) -> Tensor:
        out = results.upsample_argmax(scores, height, width)
        torch.ops.binseg_cpu.upsample_argmax(self.NAME, scores.contiguous(), out)
        return out


def _asked(result: Tensor) -> Tensor | None:
    """A result that is to be filled, or None for the kernels where it is empty."""
    return result if result.numel() else None


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
