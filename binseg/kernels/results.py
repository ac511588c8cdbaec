"""What the operators return, not yet filled: the one place that knows its sizes and dtypes.

`make(like, size, dtype)` allocates on the device of `like`. What is not asked for is empty.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from binseg.kernels.shape import ConvShape, words

Make = Callable[[Tensor, tuple[int, ...], torch.dtype], Tensor]


def empty(like: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory that holds anything."""
    return like.new_empty(size, dtype=dtype)


def map_size(x: Tensor, shape: ConvShape) -> tuple[int, int, int]:
    """(N, H', W') of a convolution of `x`, (N, H, W, …)."""
    return (x.shape[0], *shape.output_size(x.shape[1], x.shape[2]))


def pack_sign(x: Tensor, make: Make = empty) -> Tensor:
    return make(x, (*x.shape[:4], words(x.shape[4])), torch.int32)


def conv_sum(bits: Tensor, shape: ConvShape, dtype: torch.dtype, make: Make = empty) -> Tensor:
    return make(bits, (*map_size(bits, shape), shape.bases, shape.out_channels), dtype)


def conv_bits(bits: Tensor, shape: ConvShape, make: Make = empty) -> Tensor:
    return _signs(bits, (*map_size(bits, shape), shape.bases), shape, make)


def conv_real(
    bits: Tensor, shape: ConvShape, pack: bool, make: Make = empty
) -> tuple[Tensor, Tensor]:
    size = (*map_size(bits, shape), shape.bases)
    return _values(bits, size, shape, make), _signs(bits, size if pack else None, shape, make)


def conv_merge(
    bits: Tensor,
    shape: ConvShape,
    gated: bool,
    keep_merged: bool,
    pack: bool,
    make: Make = empty,
) -> tuple[Tensor, Tensor, Tensor]:
    size = map_size(bits, shape)
    branches, merged = (*size, shape.bases), (*size, 1)
    read_next = branches if gated else merged
    return (
        _values(bits, branches if gated else None, shape, make),
        _values(bits, merged if keep_merged or not gated else None, shape, make),
        _signs(bits, read_next if pack else None, shape, make),
    )


def quantize(x: Tensor, make: Make = empty) -> Tensor:
    return make(x, (*x.shape[:3], x.shape[3] + -x.shape[3] % 4), torch.uint8)


def conv_int8(x: Tensor, shape: ConvShape, make: Make = empty) -> Tensor:
    return _values(x, map_size(x, shape), shape, make)


def conv_int8_pool(x: Tensor, shape: ConvShape, make: Make = empty) -> tuple[Tensor, Tensor]:
    number, height, width = map_size(x, shape)
    size = (number, -(-height // 2), -(-width // 2), 1)
    return _values(x, size, shape, make), _signs(x, size, shape, make)


def upsample_argmax(scores: Tensor, height: int, width: int, make: Make = empty) -> Tensor:
    return make(scores, (scores.shape[0], height, width), torch.uint8)


def _values(like: Tensor, size: tuple[int, ...] | None, shape: ConvShape, make: Make) -> Tensor:
    return make(like, (0,) if size is None else (*size, shape.out_channels), torch.float32)


def _signs(like: Tensor, size: tuple[int, ...] | None, shape: ConvShape, make: Make) -> Tensor:
    return make(like, (0,) if size is None else (*size, words(shape.out_channels)), torch.int32)
