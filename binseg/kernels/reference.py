"""Every operator in plain torch: slow, exact, on any device. What the kernels are compared with.

Sums of ±1 are made by a float convolution of the signs, exact as long as a sum stays below 2²⁴ in
float32; longer sums go through float64. Argument checks live in `ops`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from binseg.kernels.layout import pack_bits, unpack_bits, unpack_weight
from binseg.kernels.shape import ConvShape

NAME = "reference"


def pack_sign(x: Tensor, affine: Tensor | None = None) -> Tensor:
    if affine is None:
        return pack_bits(x >= 0)
    gain, shift = affine.double().unflatten(-1, (x.shape[3], x.shape[4])).unbind(-3)
    if affine.ndim == 3:
        gain, shift = (row[:, None, None] for row in (gain, shift))
    # the product is exact in float64, and so is every sum near enough to 0 for float32 to round it
    # to −0: the sign is that of a single rounding
    return pack_bits((x.double() * gain + shift).float() >= 0)


def conv_sum(bits: Tensor, weight: Tensor, shape: ConvShape, dtype: torch.dtype) -> Tensor:
    return _sums(bits, weight, shape).to(dtype)


def conv_bits(bits: Tensor, weight: Tensor, shape: ConvShape, low: Tensor, span: Tensor) -> Tensor:
    sums = _sums(bits, weight, shape)
    unsigned = (sums - low.long().unflatten(0, (shape.bases, -1))) & 0xFFFFFFFF
    return pack_bits(unsigned <= (span.long() & 0xFFFFFFFF).unflatten(0, (shape.bases, -1)))


def conv_real(
    bits: Tensor,
    weight: Tensor,
    shape: ConvShape,
    curve: Tensor,
    tanh: bool,
    residual: Tensor | None,
    pack: bool,
    post: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    values = _curve(_sums(bits, weight, shape), curve, shape, tanh)
    if residual is not None:
        values = values + residual
    signed = values
    if post is not None:
        before, slope, after, threshold = post.unflatten(1, (shape.bases, -1))
        moved = values + before
        values = torch.where(moved >= 0, moved, slope * moved) + after
        signed = values + threshold
    return values, pack_sign(signed) if pack else bits.new_empty(0)


def conv_merge(
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
    out = _curve(_sums(bits, weight, shape), curve, shape, tanh) + residual
    merged = (out * lambdas.unsqueeze(1)).sum(dim=-2, keepdim=True)
    nothing = bits.new_empty(0)
    if gates is None:
        return out.new_empty(0), merged, pack_sign(merged) if pack else nothing
    branches = torch.lerp(merged, out, gates.unsqueeze(1))
    kept = merged if keep_merged else out.new_empty(0)
    return branches, kept, pack_sign(branches) if pack else nothing


def quantize(x: Tensor, inverse_scale: float, zero_point: int) -> Tensor:
    scaled = torch.round(x.float() * torch.tensor(inverse_scale, device=x.device)) + zero_point
    levels = scaled.nan_to_num(nan=0.0).clamp(0, 255).to(torch.uint8)
    return F.pad(levels, (0, -x.shape[-1] % 4))


def conv_int8(
    x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor, relu: bool
) -> Tensor:
    values = _int8_sums(x, weight, shape, zero_point).float() * curve[0] + curve[1]
    return values.relu() if relu else values


def conv_int8_pool(
    x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor
) -> tuple[Tensor, Tensor]:
    sums = _int8_sums(x, weight, shape, zero_point).permute(0, 3, 1, 2)
    pooled = F.max_pool2d(sums.double(), 3, 2, 1).permute(0, 2, 3, 1).contiguous()
    values = (pooled.float() * curve[0] + curve[1]).unsqueeze(3)
    return values, pack_sign(values)


def upsample_argmax(scores: Tensor, height: int, width: int) -> Tensor:
    wide = F.interpolate(
        scores.permute(0, 3, 1, 2), size=(height, width), mode="bilinear", align_corners=False
    )
    return wide.argmax(dim=1).to(torch.uint8)


def _sums(bits: Tensor, weight: Tensor, shape: ConvShape) -> Tensor:
    """int64 (N, H', W', K, C_out)."""
    dtype = torch.float32 if shape.terms < 2**24 else torch.float64
    signs = unpack_bits(bits, shape.in_channels).to(dtype).mul_(2).sub_(1)
    signs = signs.permute(0, 3, 4, 1, 2)  # N, bases, C, H, W
    kernels = unpack_weight(weight, shape.in_channels, shape.out_channels).to(dtype).mul_(2).sub_(1)
    kernels = kernels.unflatten(0, (shape.bases, -1)).unflatten(3, shape.kernel).squeeze(-1)
    sums = [
        _convolve(
            signs[:, 0 if signs.shape[1] == 1 else base],
            kernels[base],
            shape,
            base,
            float(shape.padding_value),
        )
        for base in range(shape.bases)
    ]
    return torch.stack(sums, dim=3).long()


def _int8_sums(x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int) -> Tensor:
    """int64 (N, H', W', C_out)."""
    rows = weight.permute(0, 3, 1, 2).reshape(-1, shape.taps, weight.shape[2])
    kernels = rows.contiguous().view(torch.int8)[: shape.out_channels].double()
    kernels = kernels.transpose(1, 2).unflatten(2, shape.kernel)
    return _convolve(x.double().permute(0, 3, 1, 2), kernels, shape, 0, float(zero_point)).long()


def _convolve(x: Tensor, kernels: Tensor, shape: ConvShape, base: int, border: float) -> Tensor:
    """(N, C, H, W) and (C_out, C, kh, kw) to (N, H', W', C_out)."""
    dilation = shape.dilations[base]
    sides = []
    for axis in (1, 0):  # F.pad starts with the last dimension
        before = shape.border(axis, base)
        sides += [before, dilation * (shape.kernel[axis] - 1) - before]
    padded = F.pad(x, sides, value=border)
    if x.shape[0] == 0:
        size = shape.output_size(x.shape[2], x.shape[3])
        return x.new_empty((0, *size, kernels.shape[0]))
    return F.conv2d(padded, kernels, None, shape.stride, 0, dilation).permute(0, 2, 3, 1)


def _curve(sums: Tensor, curve: Tensor, shape: ConvShape, tanh: bool) -> Tensor:
    values = sums.float()
    first, second, third = curve.unflatten(1, (shape.bases, -1))
    if tanh:
        return first * torch.tanh(second * values) + third
    return first * values.clamp(min=0) + second * values.clamp(max=0) + third
