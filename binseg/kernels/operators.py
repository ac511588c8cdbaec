"""Definitions of the operators under `torch.ops.binseg`: schemas, checks, fake implementations.

`binseg.kernels.ops` calls them and says what they do.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from binseg.errors import BinsegError
from binseg.kernels import results
from binseg.kernels.checks import (
    check_affine,
    check_conv,
    check_int8,
    check_range,
    check_residual,
    expect,
    same_device,
)
from binseg.kernels.dispatch import backend_of
from binseg.kernels.shape import MOST_BASES, ConvShape

_SHAPE = (
    "int in_channels, int out_channels, int[2] kernel, int stride, int[] dilations, "
    "int padding_value"
)
_CONV = f"Tensor bits, Tensor weight, {_SHAPE}"
_INT8 = f"Tensor x, Tensor weight, {_SHAPE}, int zero_point, Tensor curve"

_library = torch.library.Library("binseg", "DEF")


def numbers(shape: ConvShape) -> tuple[int, int, tuple[int, int], int, tuple[int, ...], int]:
    """A convolution's shape as the operators take it."""
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


@_operator("pack_sign(Tensor x, Tensor? affine) -> Tensor")
def _pack_sign(x: Tensor, affine: Tensor | None) -> Any:
    if x.ndim != 5 or x.dtype not in (torch.float32, torch.bfloat16):
        raise BinsegError(
            f"x must be float32 or bfloat16 (N, H, W, bases, C), not {x.dtype} {tuple(x.shape)}"
        )
    check_range(*x.shape)
    if affine is not None:
        check_affine(affine, x)
        affine = affine.contiguous()
    return (x, affine), lambda: results.pack_sign(x)


@_operator(f"conv_sum({_CONV}, ScalarType dtype) -> Tensor")
def _conv_sum(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, dtype = _shape(rest[:6]), rest[6]
    check_conv(bits, weight, shape)
    if dtype not in (torch.int32, torch.int16) or (dtype == torch.int16 and shape.terms >= 2**15):
        raise BinsegError(f"sums up to {shape.terms} cannot be {dtype}; use torch.int32")
    return (bits, weight, shape, dtype), lambda: results.conv_sum(bits, shape, dtype)


@_operator(f"conv_bits({_CONV}, Tensor low, Tensor span) -> Tensor")
def _conv_bits(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (low, span) = _shape(rest[:6]), rest[6:]
    check_conv(bits, weight, shape)
    for name, tensor in (("low", low), ("span", span)):
        expect(name, tensor, torch.int32, (shape.bases * shape.out_channels,))
    same_device(bits, low, span)
    return (bits, weight, shape, low, span), lambda: results.conv_bits(bits, shape)


@_operator(
    f"conv_real({_CONV}, Tensor curve, bool tanh, Tensor? residual, bool pack, Tensor? post) "
    "-> (Tensor, Tensor)"
)
def _conv_real(bits: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (curve, tanh, residual, pack, post) = _shape(rest[:6]), rest[6:]
    size = check_conv(bits, weight, shape)
    expect("curve", curve, torch.float32, (3, shape.bases * shape.out_channels))
    check_residual(residual, size, shape)
    if post is not None:
        expect("post", post, torch.float32, (4, shape.bases * shape.out_channels))
    same_device(bits, curve, residual, post)
    call = (bits, weight, shape, curve, tanh, residual, pack, post)
    return call, lambda: results.conv_real(bits, shape, pack)


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
    call = (bits, weight, shape, curve, tanh, residual, lambdas, gates, keep_merged, pack)
    return call, lambda: results.conv_merge(bits, shape, gates is not None, keep_merged, pack)


@_operator("quantize(Tensor x, float inverse_scale, int zero_point) -> Tensor")
def _quantize(x: Tensor, inverse_scale: float, zero_point: int) -> Any:
    if x.ndim != 4 or x.dtype != torch.float32:
        raise BinsegError(f"x must be float32 (N, H, W, C), not {x.dtype} {tuple(x.shape)}")
    if not 0 < inverse_scale < float("inf") or not 0 <= zero_point <= 255:
        raise BinsegError(
            f"an inverse scale > 0 and a zero point in [0, 255] are needed, not {inverse_scale} "
            f"and {zero_point}"
        )
    check_range(*x.shape[:3], x.shape[3] + -x.shape[3] % 4)
    return (x, inverse_scale, zero_point), lambda: results.quantize(x)


@_operator(f"conv_int8({_INT8}, bool relu) -> Tensor")
def _conv_int8(x: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (zero_point, curve, relu) = _shape(rest[:6]), rest[6:]
    check_int8(x, weight, shape, zero_point, curve)
    return (x, weight, shape, zero_point, curve, relu), lambda: results.conv_int8(x, shape)


@_operator(f"conv_int8_pool({_INT8}) -> (Tensor, Tensor)")
def _conv_int8_pool(x: Tensor, weight: Tensor, *rest: Any) -> Any:
    shape, (zero_point, curve) = _shape(rest[:6]), rest[6:]
    check_int8(x, weight, shape, zero_point, curve)
    return (x, weight, shape, zero_point, curve), lambda: results.conv_int8_pool(x, shape)


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
    return (scores, height, width), lambda: results.upsample_argmax(scores, height, width)
