"""The operators of `operators` on the CPU, in numpy: what the CUDA kernels are compared with.

Each function takes the arguments of the operator of its name, tensors as arrays, at least one
image; the arithmetic is the reference interpreter's.
"""

from collections.abc import Sequence

import numpy as np

from binseg.program import arithmetic
from binseg.program.activations import prelu
from binseg.program.arithmetic import fma as _fma
from binseg.program.convolution import Window, integer_sums, max_pool, real_sums
from binseg.program.cuda.weights import (
    ENGINES,
    pack_bits,
    restore_bits,
    restore_bytes,
    restore_floats,
    unpack_bits,
)
from binseg.program.sizes import Size, windows_over
from binseg.program.step import signs

Array = np.ndarray
Numbers = Sequence[int]

_NOTHING = np.empty(0, np.float32)
_NO_BITS = np.empty(0, np.int32)


def conv_bits(
    bits: Array, weight: Array, table: Array, low: Array, span: Array, *shape: object
) -> Array:
    sums = _bit_sums(bits, weight, *shape).astype(np.int64)  # type: ignore[arg-type]
    low, span = (row.reshape(sums.shape[3:]).astype(np.int64) for row in (low, span))
    return pack_bits(((sums - low) & 0xFFFFFFFF) <= (span & 0xFFFFFFFF))


def conv_real(
    bits: Array,
    weight: Array,
    table: Array,
    curve: Array,
    tanh: bool,
    residual: Array | None,
    post: Array | None,
    keep: bool,
    pack: bool,
    *shape: object,
) -> tuple[Array, Array]:
    sums = _bit_sums(bits, weight, *shape)  # type: ignore[arg-type]
    y = _with_residual(_curve(sums, curve, tanh), residual)
    moved = y
    if post is not None:
        before, slope, after, threshold = post.reshape(4, *y.shape[3:])
        y = prelu(y + before, slope) + after
        moved = y + threshold
    real = y.reshape(*y.shape[:3], -1) if keep else _NOTHING
    return real, pack_bits(moved >= 0) if pack else _NO_BITS


def conv_merge(
    bits: Array,
    weight: Array,
    table: Array,
    curve: Array,
    tanh: bool,
    residual: Array | None,
    post: Array | None,
    lambdas: Array,
    gates: Array | None,
    threshold: Array | None,
    keep: bool,
    pack: bool,
    *shape: object,
) -> tuple[Array, Array, Array]:
    sums = _bit_sums(bits, weight, *shape)  # type: ignore[arg-type]
    out = _with_residual(_curve(sums, curve, tanh), residual)
    if post is not None:
        before, slope, after = post.reshape(3, *out.shape[3:])
        out = prelu(out + before, slope) + after
    merged = np.zeros_like(out[..., 0, :])
    for k, factor in enumerate(lambdas):
        merged = _fma(factor, out[..., k, :], merged)
    m = merged[..., None, :]
    read = m if gates is None else _fma(gates[:, None], out - m, m)
    moved = read if threshold is None else read + threshold.reshape(read.shape[3:])
    return (
        _NOTHING if gates is None else read.reshape(*read.shape[:3], -1),
        merged if keep else _NOTHING,
        pack_bits(moved >= 0) if pack else _NO_BITS,
    )


def pack_sign(x: Array, affine: Array | None, bases: int) -> Array:
    v = x if affine is None else _fma(x, affine[0], affine[1])
    return pack_bits(v.reshape(*v.shape[:3], bases, -1) >= 0)


def conv_int8(
    x: Array,
    weight: Array,
    border: Array,
    curve: Array,
    pool: bool,
    kernel: Numbers,
    stride: Numbers,
    pads: Numbers,
    dilation: Numbers,
) -> Array:
    channels = x.shape[3]
    rows = restore_bytes(weight, curve.shape[1], channels).astype(np.float32)
    window = _window(x, kernel, stride, pads, dilation)
    outside = border[:channels].astype(np.float32)
    found = []
    for image in x.astype(np.float32):
        sums = integer_sums(image, rows.reshape(len(rows), -1), window, outside, 255 * 128)
        if pool:
            size = (window.size[0] + 1) // 2, (window.size[1] + 1) // 2
            sums = max_pool(sums, Window((3, 3), (2, 2), (1, 1), (1, 1), size))
        found.append(_fma(sums.astype(np.float32), curve[0], curve[1]))
    return np.stack(found)


def conv_float(
    x: Array,
    weight: Array,
    bias: Array | None,
    out_channels: int,
    groups: int,
    kernel: Numbers,
    stride: Numbers,
    pads: Numbers,
    dilation: Numbers,
) -> Array:
    rows = restore_floats(weight, out_channels)
    rows = rows.reshape(groups * out_channels, kernel[0] * kernel[1], -1)
    window = _window(x, kernel, stride, pads, dilation)
    return np.stack([real_sums(image, rows, bias, window, groups) for image in x])


def fma(a: Array, b: Array, c: Array) -> Array:
    return _fma(a, b, c)


def tanh(x: Array, sigmoid: bool) -> Array:
    return arithmetic.sigmoid(x) if sigmoid else arithmetic.tanh(x)


def quantize(x: Array, inverse_scale: float, zero_point: int) -> Array:
    rounded = np.rint(x * np.float32(inverse_scale)) + np.float32(zero_point)
    return np.nan_to_num(np.clip(rounded, 0, 255), nan=0).astype(np.uint8)


def ordered_sum(x: Array) -> Array:
    total = np.zeros((x.shape[0], x.shape[2]), x.dtype)
    for i in range(x.shape[1]):
        total += x[:, i]
    return total


def resize(x: Array, height: int, width: int, bilinear: bool, align_corners: bool) -> Array:
    if not bilinear:
        return np.stack([arithmetic.nearest(image, height, width) for image in x])
    return np.stack(
        [arithmetic.bilinear(image, height, width, align_corners=align_corners) for image in x]
    )


def upsample_argmax(scores: Array, height: int, width: int) -> Array:
    return np.stack([arithmetic.upsample_argmax(each, height, width) for each in scores])


def _bit_sums(
    bits: Array,
    weight: Array,
    in_channels: int,
    out_channels: int,
    kernel: Numbers,
    stride: int,
    dilations: Numbers,
    padding: int,
    plan: Numbers,
) -> Array:
    """Sums (N, H', W', K, C_out), exact."""
    taps = kernel[0] * kernel[1]
    engine = ENGINES[plan[0]]
    rows = signs(restore_bits(weight, out_channels, taps, in_channels, engine))
    rows = rows.reshape(len(dilations), out_channels, -1)
    values = signs(unpack_bits(bits, in_channels))
    size = -(-bits.shape[1] // stride), -(-bits.shape[2] // stride)
    windows = [Window.same((kernel[0], kernel[1]), stride, rate, size) for rate in dilations]
    return np.stack(
        [
            np.stack(
                [
                    integer_sums(image[:, :, k % image.shape[2]], rows[k], window, padding, 1)
                    for k, window in enumerate(windows)
                ],
                axis=2,
            )
            for image in values
        ]
    )


def _curve(sums: Array, curve: Array, tanh: bool) -> Array:
    s = sums.astype(np.float32)
    first, second, third = curve.reshape(3, *sums.shape[3:])
    if tanh:
        return _fma(first, arithmetic.tanh(second * s), third)
    return _fma(np.where(s >= 0, first, second), s, third)


def _with_residual(y: Array, residual: Array | None) -> Array:
    return y if residual is None else y + residual.reshape(*y.shape[:3], -1, y.shape[4])


def _window(x: Array, kernel: Numbers, stride: Numbers, pads: Numbers, dilation: Numbers) -> Window:
    attributes = {"kernel": kernel, "stride": stride, "pads": pads, "dilation": dilation}
    size: Size = windows_over(attributes, (x.shape[1], x.shape[2]))
    return Window(
        (kernel[0], kernel[1]),
        (stride[0], stride[1]),
        (dilation[0], dilation[1]),
        (pads[0], pads[1]),
        size,
    )
