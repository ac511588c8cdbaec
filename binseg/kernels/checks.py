"""What the operators ask of their arguments, before a kernel sees them.

All functions raise `BinsegError` where shapes, dtypes or devices do not fit together.
"""

import functools
import math

import torch
from torch import Tensor

from binseg.errors import BinsegError
from binseg.kernels.results import map_size
from binseg.kernels.shape import BLOCK, LARGEST_SUM, ConvShape, blocks, words


def expect(name: str, tensor: Tensor, dtype: torch.dtype, size: tuple[int, ...]) -> None:
    """Refuse a tensor of another dtype or size."""
    if tensor.dtype != dtype or tensor.shape != size:
        raise BinsegError(
            f"{name} must be {dtype} {size}, not {tensor.dtype} {tuple(tensor.shape)}"
        )


def same_device(first: Tensor, *others: Tensor | None) -> None:
    """Refuse tensors on several devices."""
    for other in others:
        if other is not None and other.device != first.device:
            raise BinsegError(
                f"tensors lie on {first.device} and {other.device}; move them to one device"
            )


def check_range(*sizes: int) -> None:
    """Refuse a map of more elements than the kernels' indices can count."""
    if math.prod(sizes) > LARGEST_SUM:
        raise BinsegError(f"a map of {sizes} is too large; use smaller pictures or batches")


def check_conv(bits: Tensor, weight: Tensor, shape: ConvShape) -> tuple[int, ...]:
    """Faults of a binary convolution's arguments; returns (N, H', W')."""
    if bits.ndim != 5 or bits.shape[3] not in (1, shape.bases):
        raise BinsegError(
            f"bits must be int32 (N, H, W, bases, words) with 1 or {shape.bases} bases, not "
            f"{bits.dtype} {tuple(bits.shape)}"
        )
    number, height, width, bases, _ = bits.shape
    size = weight_size(shape)
    expect("bits", bits, torch.int32, (number, height, width, bases, size[3]))
    expect("weight", weight, torch.int32, size)
    same_device(bits, weight)
    if height < 1 or width < 1:
        raise BinsegError(f"a map needs at least one pixel, not {tuple(bits.shape)}")
    size = map_size(bits, shape)
    check_range(*size, shape.bases, shape.out_channels)
    return size


@functools.lru_cache(maxsize=1024)
def weight_size(shape: ConvShape) -> tuple[int, ...]:
    """What `layout.pack_weight` makes."""
    in_words = words(shape.in_channels)
    return shape.bases, blocks(shape.out_channels), shape.taps, in_words, BLOCK


def check_residual(residual: Tensor | None, size: tuple[int, ...], shape: ConvShape) -> None:
    """Refuse a residual that fits neither all bases nor one."""
    if residual is None:
        return
    bases = 1 if residual.ndim == 5 and residual.shape[3] == 1 else shape.bases
    expect("residual", residual, torch.float32, (*size, bases, shape.out_channels))


def check_affine(affine: Tensor, x: Tensor) -> None:
    """Refuse a gain and shift that are neither those of all pictures nor of each."""
    channels = x.shape[3] * x.shape[4]
    of_each = (x.shape[0],) if affine.ndim == 3 else ()
    expect("affine", affine, torch.float32, (*of_each, 2, channels))
    same_device(x, affine)


def check_int8(x: Tensor, weight: Tensor, shape: ConvShape, zero_point: int, curve: Tensor) -> None:
    """Refuse the arguments of an 8-bit convolution that do not fit together."""
    fours = -(-shape.in_channels // 4)
    if shape.bases != 1 or x.ndim != 4 or not 0 <= zero_point <= 255:
        raise BinsegError(
            "an 8-bit convolution takes one base, a map (N, H, W, C) and a zero point in [0, 255]"
        )
    expect("x", x, torch.uint8, (*x.shape[:3], 4 * fours))
    expect("weight", weight, torch.int32, (blocks(shape.out_channels), shape.taps, fours, BLOCK))
    expect("curve", curve, torch.float32, (2, shape.out_channels))
    same_device(x, weight, curve)
    if min(x.shape[1:3]) < 1:
        raise BinsegError(f"a map needs at least one pixel, not {tuple(x.shape)}")
    if shape.taps * fours * 4 * 255 * 128 > LARGEST_SUM:
        raise BinsegError("the sums of this 8-bit convolution do not fit in 32 bits")
    check_range(*map_size(x, shape), shape.out_channels)
