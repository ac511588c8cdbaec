"""The operators under `torch.ops.binseg`: schema, checks and results of each, declared once.

Maps are NHWC: real ones float32 (N, H, W, K·C_out), base by base; bits as `weights` describes. What
they compute is docs/program.md; kernels for CUDA are registered by csrc/binding.cpp, the CPU's are
`reference`. None is differentiable. Wrong arguments raise `BinsegError` on the CPU and under fake
tensors; on CUDA what would make a kernel leave its memory is a RuntimeError.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from binseg.errors import BinsegError
from binseg.program.cuda import reference
from binseg.program.cuda.weights import blocks, words
from binseg.program.sizes import windows_over

Result = tuple[tuple[int, ...], torch.dtype]
"""Size and dtype of something that is returned."""

_CONV = (
    "int in_channels, int out_channels, int[2] kernel, int stride, int[] dilations, int padding, "
    "int[] plan"
)
"""`plan`: number of the engine, rows of a tile and bytes of shared memory, where 0 chooses."""
_WINDOW = "int[2] kernel, int[2] stride, int[4] pads, int[2] dilation"

_NOTHING: Result = ((0,), torch.float32)
_NO_BITS: Result = ((0,), torch.int32)

_LARGEST = 2**31 - 1
_DECLARED: list[tuple[str, Callable[..., Any]]] = []


def _operator(schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an operator by its schema and a function that checks the arguments and gives the
    `Result`, or a tuple of them."""

    def declare(results: Callable[..., Any]) -> Callable[..., Any]:
        _DECLARED.append((schema, results))
        return results

    return declare


def register(namespace: str, *, cpu: bool = True) -> torch.library.Library:
    """Define all operators under `torch.ops.<namespace>`.

    Args:
        namespace: a free one.
        cpu: whether the CPU's implementations are registered, too.
    """
    library = torch.library.Library(namespace, "FRAGMENT")
    for schema, results in _DECLARED:
        name = schema.split("(")[0]
        library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.register_fake(f"{namespace}::{name}", _fake(results), lib=library)
        if cpu:
            library.impl(name, _on_cpu(getattr(reference, name), results), "CPU")
    return library


def _fake(results: Callable[..., Any]) -> Callable[..., Any]:
    def allocate(first: Tensor, *rest: Any) -> Any:
        found = results(first, *rest)
        many = isinstance(found[0][0], tuple)
        made = tuple(
            first.new_empty(size, dtype=dtype) for size, dtype in (found if many else (found,))
        )
        return made if many else made[0]

    return allocate


def _on_cpu(run: Callable[..., Any], results: Callable[..., Any]) -> Callable[..., Any]:
    allocate = _fake(results)

    def call(first: Tensor, *rest: Any) -> Any:
        empty = allocate(first, *rest)  # checks, too
        if not first.numel():
            return empty
        arguments = [_as_array(each) if isinstance(each, Tensor) else each for each in rest]
        made = run(_as_array(first), *arguments)
        if isinstance(made, tuple):
            return tuple(map(_as_tensor, made))
        return _as_tensor(made)

    return call


def _as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _as_array(tensor: Tensor) -> Any:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


# Checks


def _expect(name: str, tensor: Tensor | None, dtype: torch.dtype, *size: int) -> None:
    if tensor is not None and (tensor.dtype != dtype or tuple(tensor.shape) != size):
        raise BinsegError(
            f"{name} must be {dtype} {size}, not {tensor.dtype} {tuple(tensor.shape)}"
        )


def _expect_map(name: str, x: Tensor, *dtypes: torch.dtype) -> None:
    if x.ndim != 4 or x.dtype not in dtypes:
        raise BinsegError(
            f"{name} must be {' or '.join(map(str, dtypes))} (N, H, W, C), not {x.dtype} "
            f"{tuple(x.shape)}"
        )


def _expect_small(*sizes: int) -> None:
    if any(not isinstance(size, int) for size in sizes):
        return  # of any batch, when a network is traced; the kernels look again
    if math.prod(sizes) > _LARGEST:
        raise BinsegError(f"a map of {sizes} is too large; use smaller images or batches")


class _Conv:
    """A convolution over bits, its first arguments checked."""

    def __init__(
        self,
        bits: Tensor,
        weight: Tensor,
        table: Tensor,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int],
        stride: int,
        dilations: Sequence[int],
        padding: int,
        plan: Sequence[int],
    ) -> None:
        numbers = (in_channels, out_channels, *kernel, stride, *dilations)
        if min(numbers) < 1 or not dilations or len(kernel) != 2 or padding not in (-1, 0, 1):
            raise BinsegError(f"there is no such convolution: {numbers}, padding {padding}")
        if len(plan) != 3:
            raise BinsegError(f"a plan is three numbers, not {tuple(plan)}")
        self.bases, self.out_channels = len(dilations), out_channels
        self.channels = self.bases * out_channels
        if bits.ndim != 5 or bits.shape[3] not in (1, self.bases):
            raise BinsegError(
                f"bits must be int32 (N, H, W, bases, words) with 1 or {self.bases} bases, not "
                f"{bits.dtype} {tuple(bits.shape)}"
            )
        taps, length = kernel[0] * kernel[1], words(in_channels)
        _expect("bits", bits, torch.int32, *bits.shape[:4], length)
        columns, steps = blocks(out_channels), -(-taps * length // 8)
        _expect("weight", weight, torch.int32, self.bases, columns, steps, 512)
        rows = 1 + (0 if padding == -1 else (kernel[0] + 1) * (kernel[1] + 1))
        _expect("table", table, torch.int32, self.bases, rows, 64 * columns)
        self.size = (bits.shape[0], -(-bits.shape[1] // stride), -(-bits.shape[2] // stride))
        _expect_small(*self.size, self.channels)

    def expect_residual(self, residual: Tensor | None) -> None:
        if residual is not None:
            one = residual.shape[-1] == self.out_channels
            channels = self.out_channels if one else self.channels
            _expect("residual", residual, torch.float32, *self.size, channels)

    def real(self, channels: int) -> Result:
        return (*self.size, channels), torch.float32

    def bits(self, bases: int) -> Result:
        return (*self.size, bases, words(self.out_channels)), torch.int32


# Operators


@_operator(
    "conv_bits(Tensor bits, Tensor weight, Tensor table, Tensor low, Tensor span, "
    f"{_CONV}) -> Tensor"
)
def _conv_bits(
    bits: Tensor, weight: Tensor, table: Tensor, low: Tensor, span: Tensor, *shape: Any
) -> Any:
    conv = _Conv(bits, weight, table, *shape)
    _expect("low", low, torch.int32, conv.channels)
    _expect("span", span, torch.int32, conv.channels)
    return conv.bits(conv.bases)


@_operator(
    "conv_real(Tensor bits, Tensor weight, Tensor table, Tensor curve, bool tanh, "
    f"Tensor? residual, Tensor? post, bool keep, bool pack, {_CONV}) -> (Tensor, Tensor)"
)
def _conv_real(
    bits: Tensor,
    weight: Tensor,
    table: Tensor,
    curve: Tensor,
    tanh: bool,
    residual: Tensor | None,
    post: Tensor | None,
    keep: bool,
    pack: bool,
    *shape: Any,
) -> Any:
    """f(s), the residual, then with `post` (before, slope, after, threshold) RPReLU; of that the
    real map if `keep`, and the signs, `threshold` added before, if `pack`."""
    conv = _Conv(bits, weight, table, *shape)
    _expect("curve", curve, torch.float32, 3, conv.channels)
    conv.expect_residual(residual)
    _expect("post", post, torch.float32, 4, conv.channels)
    return (
        conv.real(conv.channels) if keep else _NOTHING,
        conv.bits(conv.bases) if pack else _NO_BITS,
    )


@_operator(
    "conv_merge(Tensor bits, Tensor weight, Tensor table, Tensor curve, bool tanh, "
    "Tensor? residual, Tensor? post, Tensor lambdas, Tensor? gates, Tensor? threshold, bool keep, "
    f"bool pack, {_CONV}) -> (Tensor, Tensor, Tensor)"
)
def _conv_merge(
    bits: Tensor,
    weight: Tensor,
    table: Tensor,
    curve: Tensor,
    tanh: bool,
    residual: Tensor | None,
    post: Tensor | None,
    lambdas: Tensor,
    gates: Tensor | None,
    threshold: Tensor | None,
    keep: bool,
    pack: bool,
    *shape: Any,
) -> Any:
    """As conv_real, `post` (before, slope, after) of each branch; then the branches with gates, the
    merged map if `keep`, and if `pack` the signs of the former, or of the latter without gates."""
    conv = _Conv(bits, weight, table, *shape)
    _expect("curve", curve, torch.float32, 3, conv.channels)
    conv.expect_residual(residual)
    _expect("post", post, torch.float32, 3, conv.channels)
    _expect("lambdas", lambdas, torch.float32, conv.bases)
    _expect("gates", gates, torch.float32, conv.bases)
    bases = 1 if gates is None else conv.bases
    _expect("threshold", threshold, torch.float32, bases * conv.out_channels)
    return (
        _NOTHING if gates is None else conv.real(conv.channels),
        conv.real(conv.out_channels) if keep else _NOTHING,
        conv.bits(bases) if pack else _NO_BITS,
    )


@_operator("pack_sign(Tensor x, Tensor? affine, int bases) -> Tensor")
def _pack_sign(x: Tensor, affine: Tensor | None, bases: int) -> Any:
    """Signs of x, or of fma(x, affine₀, affine₁)."""
    _expect_map("x", x, torch.float32, torch.bfloat16)
    if bases < 1 or x.shape[3] % bases:
        raise BinsegError(f"cannot make {bases} bases of {x.shape[3]} channels")
    _expect("affine", affine, torch.float32, 2, x.shape[3])
    _expect_small(*x.shape)
    return (*x.shape[:3], bases, words(x.shape[3] // bases)), torch.int32


def _window(x: Tensor, window: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """(N, H', W') of what is seen through a window."""
    attributes = dict(zip(("kernel", "stride", "pads", "dilation"), window, strict=True))
    size = windows_over(attributes, (x.shape[1], x.shape[2]))
    if min(size) < 1:
        raise BinsegError(f"{tuple(x.shape)}: the map is too small, no pixel would be left")
    return (x.shape[0], *size)


@_operator(
    "conv_int8(Tensor x, Tensor weight, Tensor border, Tensor curve, bool pool, "
    f"{_WINDOW}) -> Tensor"
)
def _conv_int8(
    x: Tensor, weight: Tensor, border: Tensor, curve: Tensor, pool: bool, *window: Any
) -> Any:
    """fma(s, curve₀, curve₁) of bytes; `pool`ed over 3 × 3, stride 2 first, if asked for."""
    _expect_map("x", x, torch.uint8)
    fours, outputs = -(-x.shape[3] // 4), curve.shape[-1]
    _expect("curve", curve, torch.float32, 2, outputs)
    taps = window[0][0] * window[0][1]
    _expect("weight", weight, torch.int32, blocks(outputs), taps, fours, 64)
    _expect("border", border, torch.uint8, 4 * fours)
    number, height, width = _window(x, window)
    _expect_small(number, height, width, outputs)
    if pool:
        height, width = (height + 1) // 2, (width + 1) // 2
    return (number, height, width, outputs), torch.float32


@_operator(
    "conv_float(Tensor x, Tensor weight, Tensor? bias, int out_channels, int groups, "
    f"{_WINDOW}) -> Tensor"
)
def _conv_float(
    x: Tensor, weight: Tensor, bias: Tensor | None, out_channels: int, groups: int, *window: Any
) -> Any:
    """`conv` of docs/program.md, `out_channels` for each group."""
    _expect_map("x", x, torch.float32)
    if groups < 1 or x.shape[3] % groups:
        raise BinsegError(f"cannot make {groups} groups of {x.shape[3]} channels")
    length = window[0][0] * window[0][1] * (x.shape[3] // groups)
    _expect("weight", weight, torch.float32, groups, blocks(out_channels), length, 64)
    _expect("bias", bias, torch.float32, groups * out_channels)
    size = *_window(x, window), groups * out_channels
    _expect_small(*size)
    return size, torch.float32


@_operator("fma(Tensor a, Tensor b, Tensor c) -> Tensor")
def _fma(a: Tensor, b: Tensor, c: Tensor) -> Any:
    """a·b + c, rounded once; b and c are broadcast to a."""
    if {a.dtype, b.dtype, c.dtype} != {torch.float32}:
        raise BinsegError(f"fma takes float32, not {a.dtype}, {b.dtype} and {c.dtype}")
    for other in (b, c):
        pairs = zip(reversed(other.shape), reversed(a.shape), strict=False)
        if other.ndim > a.ndim or any(own not in (1, size) for own, size in pairs):
            raise BinsegError(f"fma: {tuple(other.shape)} cannot be broadcast to {tuple(a.shape)}")
    return tuple(a.shape), torch.float32


@_operator("tanh(Tensor x, bool sigmoid) -> Tensor")
def _tanh(x: Tensor, sigmoid: bool) -> Any:
    """tanh, or sigmoid, of docs/program.md, part 3."""
    _expect("x", x, torch.float32, *x.shape)
    return tuple(x.shape), torch.float32


@_operator("quantize(Tensor x, float inverse_scale, int zero_point) -> Tensor")
def _quantize(x: Tensor, inverse_scale: float, zero_point: int) -> Any:
    _expect("x", x, torch.float32, *x.shape)
    if not 0 < inverse_scale < float("inf") or not 0 <= zero_point <= 255:
        raise BinsegError(
            f"an inverse scale > 0 and a zero point in [0, 255] are needed, not {inverse_scale} "
            f"and {zero_point}"
        )
    return tuple(x.shape), torch.uint8


@_operator("ordered_sum(Tensor x) -> Tensor")
def _ordered_sum(x: Tensor) -> Any:
    """(outer, n, inner) → (outer, inner), one number after the other."""
    if x.ndim != 3 or x.dtype not in (torch.float32, torch.float64):
        raise BinsegError(f"ordered_sum takes (outer, n, inner), not {x.dtype} {tuple(x.shape)}")
    return (x.shape[0], x.shape[2]), x.dtype


@_operator("resize(Tensor x, int height, int width, bool bilinear, bool align_corners) -> Tensor")
def _resize(x: Tensor, height: int, width: int, bilinear: bool, align_corners: bool) -> Any:
    _expect_map("x", x, torch.float32)
    _expect_sides(x, height, width)
    return (x.shape[0], height, width, x.shape[3]), torch.float32


@_operator("upsample_argmax(Tensor scores, int height, int width) -> Tensor")
def _upsample_argmax(scores: Tensor, height: int, width: int) -> Any:
    _expect_map("scores", scores, torch.float32)
    if not 1 <= scores.shape[3] <= 255:
        raise BinsegError(f"1 to 255 classes fit a class map, not {scores.shape[3]}")
    _expect_sides(scores, height, width)
    return (scores.shape[0], height, width), torch.uint8


def _expect_sides(x: Tensor, height: int, width: int) -> None:
    if min(height, width, *x.shape[1:3]) < 1:
        raise BinsegError(f"cannot resize {tuple(x.shape)} to {height} × {width}")
    _expect_small(x.shape[0], height, width, x.shape[3])


_LIBRARY = register("binseg")
