"""The 1-bit operators under `torch.ops.binseg`: schemas, fake implementations, checks.

Maps are NHWC with the K bases side by side: packed maps int32 (N, H, W, bases, words), see
`binseg.kernels.layout`; real maps float32 (N, H, W, bases, C). sign(x) = +1 where x ≥ 0. All
integer results are exact on every backend; real results are computed in float32.

The functions below are what binseg calls. None is differentiable. All raise `BinsegError` where
shapes, dtypes or devices do not fit together, before a kernel sees them.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from binseg.errors import BinsegError
from binseg.kernels.checks import (
    check_conv,
    check_int8,
    check_range,
    check_residual,
    expect,
    same_device,
)
from binseg.kernels.dispatch import backend_of
from binseg.kernels.shape import MOST_BASES, ConvShape, words

_SHAPE = (
    "int in_channels, int out_channels, int[2] kernel, int stride, int[] dilations, "
    "int padding_value"
)
_CONV = f"Tensor bits, Tensor weight, {_SHAPE}"
_INT8 = f"Tensor x, Tensor weight, {_SHAPE}, int zero_point, Tensor curve"

_library = torch.library.Library("binseg", "DEF")


def pack_sign(x: Tensor) -> Tensor:
    """Signs of a real map as bits.

    Args:
        x: float32 or bfloat16 (N, H, W, bases, C) of any strides, so that an NCHW tensor comes as
            the view `nhwc(x, bases)`.

    Returns:
        int32 (N, H, W, bases, ⌈C / 32⌉); 1 where x ≥ 0; nan gives 0.
    """
    return torch.ops.binseg.pack_sign(x)


def nhwc(x: Tensor, bases: int = 1) -> Tensor:
    """(N, bases·C, H, W) seen as (N, H, W, bases, C), without a copy."""
    return x.unflatten(1, (bases, -1)).permute(0, 3, 4, 1, 2)


def nchw(x: Tensor) -> Tensor:
    """(N, H, W, bases, C) seen as (N, bases·C, H, W); channels_last memory, without a copy."""
    return x.flatten(3).permute(0, 3, 1, 2)


def conv_sum(
    bits: Tensor, weight: Tensor, shape: ConvShape, *, dtype: torch.dtype = torch.int32
) -> Tensor:
    """Binary convolution: s[o] = Σ over taps and channels of x·w, all ±1.

    Args:
        bits: int32 (N, H, W, K, ⌈C_in / 32⌉), or (N, H, W, 1, …) read by all K bases.
        weight: from `layout.pack_weight`, int32 (K, ⌈C_out / 64⌉, taps, ⌈C_in / 32⌉, 64).
        shape: sizes, dilations, padding.
        dtype: torch.int32, or torch.int16 where `shape.terms` is below 2¹⁵.

    Returns:
        (N, H', W', K, C_out).
    """
    return torch.ops.binseg.conv_sum(bits, weight, *_ints(shape), dtype)


def conv_bits(bits: Tensor, weight: Tensor, shape: ConvShape, low: Tensor, span: Tensor) -> Tensor:
    """Binary convolution, then a threshold: bit = (s − low) mod 2³² ≤ span, both read as unsigned.

    One comparison serves every shape of "f(s) ≥ 0" that has at most two sign changes: s ≥ t is
    (t, 2³¹ − 1 − t), s ≤ t is (−2³¹, t + 2³¹), outside an interval wraps around.

    Args:
        bits, weight, shape: see `conv_sum`.
        low, span: int32 (K·C_out,).

    Returns:
        int32 (N, H', W', K, ⌈C_out / 32⌉).
    """
    return torch.ops.binseg.conv_bits(bits, weight, *_ints(shape), low, span)


def conv_real(
    bits: Tensor,
    weight: Tensor,
    shape: ConvShape,
    curve: Tensor,
    *,
    tanh: bool = False,
    residual: Tensor | None = None,
    pack: bool = True,
) -> tuple[Tensor, Tensor]:
    """Binary convolution, nonlinearity, BatchNorm and shortcut, then the next layer's sign.

    f(s) = curve₀·max(s, 0) + curve₁·min(s, 0) + curve₂, or curve₀·tanh(curve₁·s) + curve₂.

    Args:
        bits, weight, shape: see `conv_sum`.
        curve: float32 (3, K·C_out).
        tanh: which f.
        residual: float32 (N, H', W', K or 1, C_out), added to f(s); 1 serves all bases.
        pack: whether the sign of the result is wanted.

    Returns:
        float32 (N, H', W', K, C_out), and its signs as int32 (N, H', W', K, ⌈C_out / 32⌉), or an
        empty tensor.
    """
    return torch.ops.binseg.conv_real(bits, weight, *_ints(shape), curve, tanh, residual, pack)


def conv_merge(
    bits: Tensor,
    weight: Tensor,
    shape: ConvShape,
    curve: Tensor,
    residual: Tensor,
    lambdas: Tensor,
    *,
    gates: Tensor | None = None,
    tanh: bool = False,
    keep_merged: bool = True,
    pack: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """The last convolution of a group block, the merge of its K bases, and the next block's gates.

    out_k = f(s_k) + residual_k; merged = Σ_k λ_k·out_k; and what the next block's branches read is
    g_k·out_k + (1 − g_k)·merged, or merged itself without gates (Zhuang et al. 2019, section 3.2).

    Args:
        bits, weight, shape, curve, tanh: see `conv_real`.
        residual: float32 (N, H', W', K or 1, C_out).
        lambdas: float32 (K,).
        gates: float32 (K,), or None where the next block reads the merged map.
        keep_merged: whether `merged` is wanted beside the gated maps; without gates it always is.
        pack: whether the signs of what the next block reads are wanted.

    Returns:
        The gated maps float32 (N, H', W', K, C_out), empty without gates; merged float32
        (N, H', W', 1, C_out) or empty; the signs of what the next block reads, int32
        (N, H', W', K with gates or else 1, ⌈C_out / 32⌉), or empty.
    """
    return torch.ops.binseg.conv_merge(
        bits, weight, *_ints(shape), curve, tanh, residual, lambdas, gates, keep_merged, pack
    )


def quantize(x: Tensor, inverse_scale: float, zero_point: int) -> Tensor:
    """Eight bits for a real map: clamp(round(x·inverse_scale) + zero_point, 0, 255), ties to even.

    Args:
        x: float32 (N, H, W, C) of any strides.
        inverse_scale: positive; rounded to float32.
        zero_point: 0 to 255.

    Returns:
        uint8 (N, H, W, 4·⌈C / 4⌉); channels past C are 0; nan gives 0.
    """
    return torch.ops.binseg.quantize(x, inverse_scale, zero_point)


def conv_int8(
    x: Tensor,
    weight: Tensor,
    shape: ConvShape,
    zero_point: int,
    curve: Tensor,
    *,
    relu: bool = False,
) -> Tensor:
    """8-bit convolution: curve₀·Σ x·w + curve₁, then ReLU if asked for. The sums are exact.

    Args:
        x: uint8 (N, H, W, 4·⌈C_in / 4⌉), from `quantize`.
        weight: from `layout.pack_int8_weight`, int32 (⌈C_out / 64⌉, taps, ⌈C_in / 4⌉, 64).
        shape: one base; its padding value is not used.
        zero_point: the byte that stands for 0 and fills the border.
        curve: float32 (2, C_out); the second row holds what the zero point adds, too.

    Returns:
        float32 (N, H', W', C_out).
    """
    return torch.ops.binseg.conv_int8(x, weight, *_ints(shape), zero_point, curve, relu)


def conv_int8_pool(
    x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor
) -> tuple[Tensor, Tensor]:
    """8-bit convolution, 3×3 max-pooling with stride 2 and border 1 of its sums, scale and sign.

    Args: see `conv_int8`.

    Returns:
        curve₀·max Σ x·w + curve₁ as float32 (N, ⌈H' / 2⌉, ⌈W' / 2⌉, 1, C_out), and its signs as
        int32 (N, ⌈H' / 2⌉, ⌈W' / 2⌉, 1, ⌈C_out / 32⌉).
    """
    return torch.ops.binseg.conv_int8_pool(x, weight, *_ints(shape), zero_point, curve)


def upsample_argmax(scores: Tensor, height: int, width: int) -> Tensor:
    """The class with the largest bilinearly interpolated score at each pixel.

    Equal to `F.interpolate(…, mode="bilinear", align_corners=False).argmax` up to rounding; of
    equal scores the lowest id wins.

    Args:
        scores: float32 (N, h, w, C) of any strides, C at most 255.
        height, width: of the result, in pixels.

    Returns:
        uint8 (N, height, width).
    """
    return torch.ops.binseg.upsample_argmax(scores, height, width)


def _ints(shape: ConvShape) -> tuple[int, int, tuple[int, int], int, tuple[int, ...], int]:
    return (
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        shape.stride,
        shape.dilations,
        shape.padding_value,
    )


def _shape(arguments: tuple[Any, ...]) -> ConvShape:
    in_channels, out_channels, kernel, stride, dilations, padding_value = arguments
    return _known_shape(
        in_channels, out_channels, tuple(kernel), stride, tuple(dilations), padding_value
    )


_known_shape = functools.lru_cache(maxsize=1024)(ConvShape)  # a network has few, and calls often


def _operator(schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Define an operator from its checks.

    The function takes the operator's arguments, raises if they do not fit, and returns what the
    backend's function of the same name is called with, and a maker of empty results.
    """
    name = schema.split("(")[0]
    dense = name in _DENSE

    def define(prepare: Callable[..., Any]) -> Callable[..., Any]:
        _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))

        def run(first: Tensor, *rest: Any) -> Any:
            call, _ = prepare(first, *rest)
            if dense:
                call = [a.contiguous() if isinstance(a, Tensor) else a for a in call]
            return getattr(backend_of(first.device), name)(*call)

        _library.impl(name, run, "CompositeExplicitAutograd")
        torch.library.register_fake(
            f"binseg::{name}", lambda *arguments: prepare(*arguments)[1](), lib=_library
        )
        return prepare

    return define


_DENSE = frozenset(
    {"conv_sum", "conv_bits", "conv_real", "conv_merge", "conv_int8", "conv_int8_pool"}
)
"""Operators whose backends get contiguous tensors; the others read any strides."""


@_operator("pack_sign(Tensor x) -> Tensor")
def _pack_sign(x: Tensor) -> Any:
    if x.ndim != 5 or x.dtype not in (torch.float32, torch.bfloat16):
        raise BinsegError(
            f"x must be float32 or bfloat16 (N, H, W, bases, C), not {x.dtype} {tuple(x.shape)}"
        )
    check_range(*x.shape)
    return (x,), lambda: x.new_empty((*x.shape[:4], words(x.shape[4])), dtype=torch.int32)


@_operator(f"conv_sum({_CONV}, ScalarType dtype) -> Tensor")
def _conv_sum(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, dtype = _shape(rest[:6]), rest[6]
    size = check_conv(bits, weight, shape)
    if dtype not in (torch.int32, torch.int16) or (dtype == torch.int16 and shape.terms >= 2**15):
        raise BinsegError(f"sums up to {shape.terms} cannot be {dtype}; use torch.int32")
    return (bits, weight, shape, dtype), lambda: bits.new_empty(
        (*size, shape.bases, shape.out_channels), dtype=dtype
    )


@_operator(f"conv_bits({_CONV}, Tensor low, Tensor span) -> Tensor")
def _conv_bits(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (low, span) = _shape(rest[:6]), rest[6:]
    size = check_conv(bits, weight, shape)
    for name, tensor in (("low", low), ("span", span)):
        expect(name, tensor, torch.int32, (shape.bases * shape.out_channels,))
    same_device(bits, low, span)
    return (bits, weight, shape, low, span), lambda: bits.new_empty(
        (*size, shape.bases, words(shape.out_channels))
    )


@_operator(
    f"conv_real({_CONV}, Tensor curve, bool tanh, Tensor? residual, bool pack) -> (Tensor, Tensor)"
)
def _conv_real(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (curve, tanh, residual, pack) = _shape(rest[:6]), rest[6:]
    size = check_conv(bits, weight, shape)
    expect("curve", curve, torch.float32, (3, shape.bases * shape.out_channels))
    check_residual(residual, size, shape)
    same_device(bits, curve, residual)

    def empty() -> tuple[Tensor, Tensor]:
        values = curve.new_empty((*size, shape.bases, shape.out_channels))
        signs = (*size, shape.bases, words(shape.out_channels)) if pack else (0,)
        return values, bits.new_empty(signs)

    return (bits, weight, shape, curve, tanh, residual, pack), empty


@_operator(
    f"conv_merge({_CONV}, Tensor curve, bool tanh, Tensor residual, Tensor lambdas, "
    "Tensor? gates, bool keep_merged, bool pack) -> (Tensor, Tensor, Tensor)"
)
def _conv_merge(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape = _shape(rest[:6])
    curve, tanh, residual, lambdas, gates, keep_merged, pack = rest[6:]
    size = check_conv(bits, weight, shape)
    expect("curve", curve, torch.float32, (3, shape.bases * shape.out_channels))
    check_residual(residual, size, shape)
    if shape.bases > MOST_BASES:
        raise BinsegError(f"at most {MOST_BASES} bases can be merged, not {shape.bases}")
    expect("lambdas", lambdas, torch.float32, (shape.bases,))
    if gates is not None:
        expect("gates", gates, torch.float32, (shape.bases,))
    same_device(bits, curve, residual, lambdas, gates)

    def empty() -> tuple[Tensor, Tensor, Tensor]:
        channels = shape.out_channels
        bases = shape.bases if gates is not None else 1
        return (
            curve.new_empty((*size, bases, channels) if gates is not None else (0,)),
            curve.new_empty((*size, 1, channels) if keep_merged or gates is None else (0,)),
            bits.new_empty((*size, bases, words(channels)) if pack else (0,)),
        )

    call = (bits, weight, shape, curve, tanh, residual, lambdas, gates, keep_merged, pack)
    return call, empty


@_operator("quantize(Tensor x, float inverse_scale, int zero_point) -> Tensor")
def _quantize(x: Tensor, inverse_scale: float, zero_point: int) -> Any:
    if x.ndim != 4 or x.dtype != torch.float32:
        raise BinsegError(f"x must be float32 (N, H, W, C), not {x.dtype} {tuple(x.shape)}")
    if not 0 < inverse_scale < float("inf") or not 0 <= zero_point <= 255:
        raise BinsegError(
            f"an inverse scale > 0 and a zero point in [0, 255] are needed, not {inverse_scale} "
            f"and {zero_point}"
        )
    channels = x.shape[3] + -x.shape[3] % 4
    check_range(*x.shape[:3], channels)
    return (x, inverse_scale, zero_point), lambda: x.new_empty(
        (*x.shape[:3], channels), dtype=torch.uint8
    )


@_operator(f"conv_int8({_INT8}, bool relu) -> Tensor")
def _conv_int8(x: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (zero_point, curve, relu) = _shape(rest[:6]), rest[6:]
    size = check_int8(x, weight, shape, zero_point, curve)
    return (x, weight, shape, zero_point, curve, relu), lambda: curve.new_empty(
        (*size, shape.out_channels)
    )


@_operator(f"conv_int8_pool({_INT8}) -> (Tensor, Tensor)")
def _conv_int8_pool(x: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (zero_point, curve) = _shape(rest[:6]), rest[6:]
    number, height, width = check_int8(x, weight, shape, zero_point, curve)
    size = (number, -(-height // 2), -(-width // 2), 1)
    return (x, weight, shape, zero_point, curve), lambda: (
        curve.new_empty((*size, shape.out_channels)),
        curve.new_empty((*size, words(shape.out_channels)), dtype=torch.int32),
    )


@_operator("upsample_argmax(Tensor scores, int height, int width) -> Tensor")
def _upsample_argmax(scores: Tensor, height: int, width: int) -> Any:
    if scores.ndim != 4 or scores.dtype != torch.float32 or not 1 <= scores.shape[3] <= 255:
        raise BinsegError(
            f"scores must be float32 (N, h, w, C) with 1 to 255 classes, not {scores.dtype} "
            f"{tuple(scores.shape)}"
        )
    if min(height, width, *scores.shape[1:3]) < 1:
        raise BinsegError(f"cannot resize {tuple(scores.shape)} to {height} × {width}")
    check_range(scores.shape[0], height, width)
    return (scores, height, width), lambda: scores.new_empty(
        (scores.shape[0], height, width), dtype=torch.uint8
    )
