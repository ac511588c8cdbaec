"""The 1-bit operators under `torch.ops.binseg`: what may be called and what comes out.

Maps are NHWC with the K bases side by side: packed maps int32 (N, H, W, bases, words), see
`binseg.kernels.layout`; real maps float32 (N, H, W, bases, C). sign(x) = +1 where x ≥ 0. All
integer results are exact on every backend; real results are computed in float32.

The functions below are what binseg calls. None is differentiable. All raise `BinsegError` where
shapes, dtypes or devices do not fit together, before a kernel sees them.
"""

import torch
from torch import Tensor

from binseg.kernels import operators
from binseg.kernels.shape import ConvShape


def pack_sign(x: Tensor, affine: Tensor | None = None) -> Tensor:
    """Signs of a real map, or of gain·x + shift, as bits.

    Args:
        x: float32 or bfloat16 (N, H, W, bases, C) of any strides, so that an NCHW tensor comes as
            the view `nhwc(x, bases)`.
        affine: gain and shift of each channel, float32 (2, bases·C), or (N, 2, bases·C) for those
            of each picture. The sum is rounded once, as torch rounds BatchNorm's in evaluation.

    Returns:
        int32 (N, H, W, bases, ⌈C / 32⌉); 1 where the value is ≥ 0; nan gives 0.
    """
    return torch.ops.binseg.pack_sign(x, affine)


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
    return torch.ops.binseg.conv_sum(bits, weight, *operators.numbers(shape), dtype)


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
    return torch.ops.binseg.conv_bits(bits, weight, *operators.numbers(shape), low, span)


def conv_real(
    bits: Tensor,
    weight: Tensor,
    shape: ConvShape,
    curve: Tensor,
    *,
    tanh: bool = False,
    residual: Tensor | None = None,
    pack: bool = True,
    post: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Binary convolution, nonlinearity, BatchNorm and shortcut, then the next layer's sign.

    f(s) = curve₀·max(s, 0) + curve₁·min(s, 0) + curve₂, or curve₀·tanh(curve₁·s) + curve₂.
    With `post`, y = f(s) + residual goes through RPReLU and RSign (Liu et al. 2020, ReActNet,
    section 4.2): u = y + post₀, v = (u where u ≥ 0, else post₁·u) + post₂, bit = v + post₃ ≥ 0.

    Args:
        bits, weight, shape: see `conv_sum`.
        curve: float32 (3, K·C_out).
        tanh: which f.
        residual: float32 (N, H', W', K or 1, C_out), added to f(s); 1 serves all bases.
        pack: whether the sign of the result is wanted.
        post: float32 (4, K·C_out). Every sum and product is rounded by itself, as torch rounds
            them.

    Returns:
        f(s) + residual, or v, as float32 (N, H', W', K, C_out), and its signs as int32
        (N, H', W', K, ⌈C_out / 32⌉), or an empty tensor.
    """
    return torch.ops.binseg.conv_real(
        bits, weight, *operators.numbers(shape), curve, tanh, residual, pack, post
    )


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
        bits,
        weight,
        *operators.numbers(shape),
        curve,
        tanh,
        residual,
        lambdas,
        gates,
        keep_merged,
        pack,
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
    return torch.ops.binseg.conv_int8(x, weight, *operators.numbers(shape), zero_point, curve, relu)


def conv_int8_pool(
    x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor
) -> tuple[Tensor, Tensor]:
    """8-bit convolution, 3×3 max-pooling with stride 2 and border 1 of its sums, scale and sign.

    Args: see `conv_int8`.

    Returns:
        curve₀·max Σ x·w + curve₁ as float32 (N, ⌈H' / 2⌉, ⌈W' / 2⌉, 1, C_out), and its signs as
        int32 (N, ⌈H' / 2⌉, ⌈W' / 2⌉, 1, ⌈C_out / 32⌉).
    """
    return torch.ops.binseg.conv_int8_pool(x, weight, *operators.numbers(shape), zero_point, curve)


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
