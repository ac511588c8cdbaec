"""Convolutions and poolings of programs over one image, in numpy.

All of them walk over the taps of a window: for each, the pixels that it reads for all pixels of the
result, with what lies outside the image filled in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from binseg.program.arithmetic import round_sum
from binseg.program.sizes import Size

_EXACT = 1 << 24
"""float32 holds every integer up to here."""
_COLUMNS = 1 << 22
"""Numbers of a matrix of gathered pixels: 16 MB."""
_BLOCK = 1 << 14
"""Sums that are worked on together, so that they stay in the cache."""


@dataclass(frozen=True)
class Window:
    """Where the taps of a convolution or pooling lie.

    Attributes:
        kernel, stride, dilation: (height, width).
        pads: pixels of border at the top and at the left.
        size: of the result.
    """

    kernel: Size
    stride: Size
    dilation: Size
    pads: Size
    size: Size

    @classmethod
    def same(cls, kernel: Size, stride: int, dilation: int, size: Size) -> "Window":
        """Of a convolution over bits, whose result is as large as its input over the stride."""
        pads = dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2
        return cls(kernel, (stride, stride), (dilation, dilation), pads, size)

    @property
    def taps(self) -> int:
        """How many there are."""
        return self.kernel[0] * self.kernel[1]

    def read(self, x: np.ndarray, outside: np.ndarray | float) -> Iterator[np.ndarray]:
        """For each tap in row order: (height, width, …) of what it reads from x (H, W, …)."""
        for ky in range(self.kernel[0]):
            to_rows, from_rows = self._overlap(0, ky, x.shape[0])
            for kx in range(self.kernel[1]):
                to_columns, from_columns = self._overlap(1, kx, x.shape[1])
                tap = np.empty((*self.size, *x.shape[2:]), x.dtype)
                tap[:] = outside
                tap[to_rows, to_columns] = x[from_rows, from_columns]
                yield tap

    def pixels(self, size: Size, before: Size = (0, 0), after: Size = (0, 0)) -> np.ndarray:
        """How many of each window's pixels lie in the image, widened on all sides; float32."""
        rows, columns = (self._inside(i, size[i], before[i], after[i]) for i in (0, 1))
        return np.multiply.outer(rows, columns).astype(np.float32)

    def _overlap(self, axis: int, tap: int, length: int) -> tuple[slice, slice]:
        """Which places of the result read inside the image, and where."""
        stride, offset = self.stride[axis], tap * self.dilation[axis] - self.pads[axis]
        first = max(0, -(offset // stride))
        end = min(self.size[axis], max(first, (length - 1 - offset) // stride + 1))
        if end <= first:
            return slice(0), slice(0)
        start = first * stride + offset
        return slice(first, end), slice(start, start + (end - first - 1) * stride + 1, stride)

    def _inside(self, axis: int, length: int, before: int, after: int) -> np.ndarray:
        starts = np.arange(self.size[axis]) * self.stride[axis] - self.pads[axis]
        at = starts[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
        return ((at >= -before) & (at < length + after)).sum(axis=1)


def integer_sums(
    x: np.ndarray,
    weight: np.ndarray,
    window: Window,
    outside: np.ndarray | float,
    largest: int,
) -> np.ndarray:
    """A convolution of integers, exact: matrix products of float32 below 2²⁴, else of float64.

    Args:
        x: float32 (H, W, C_in) of integers.
        weight: float32 (C_out, kh·kw·C_in) of integers.
        window: of the convolution.
        outside: what lies outside the image, one number or C_in.
        largest: absolute value that no product exceeds.

    Returns:
        (height, width, C_out): float32 where it holds every possible sum, else float64.
    """
    channels, pixels = x.shape[2], window.size[0] * window.size[1]
    single = weight.shape[1] * largest <= _EXACT
    total = np.zeros((pixels, weight.shape[0]), np.float32 if single else np.float64)
    dtype = np.float32 if channels * largest <= _EXACT else np.float64
    # as many taps at once as stay exact and do not take much memory
    together = max(1, min(_EXACT // largest, _COLUMNS // pixels) // channels)
    taps = window.read(x, outside)
    for start in range(0, window.taps, together):
        some = list(islice(taps, together))
        columns = np.concatenate(some, axis=2) if len(some) > 1 else some[0]
        part = weight[:, start * channels : (start + len(some)) * channels]
        total += columns.reshape(pixels, -1).astype(dtype, copy=False) @ part.T.astype(
            dtype, copy=False
        )
    return total.reshape(*window.size, -1)


def real_sums(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, window: Window, groups: int
) -> np.ndarray:
    """A convolution of real numbers: fma over taps and channels, one after the other.

    Args:
        x: float32 (H, W, groups·C), the channels of each group side by side.
        weight: float32 (groups·C_out, kh·kw, C).
        bias: float32 (groups·C_out,), where the sums begin; 0 without it.
        window: of the convolution.
        groups: convolved by themselves.

    Returns:
        float32 (height, width, groups·C_out).
    """
    pixels, outputs = window.size[0] * window.size[1], len(weight) // groups
    total = np.zeros((groups, outputs, pixels), np.float32)
    if bias is not None:
        total += bias.reshape(groups, outputs, 1)
    weight = weight.reshape(groups, outputs, window.taps, -1).astype(np.float64)
    block = max(64, _BLOCK // (groups * outputs))
    for i, tap in enumerate(window.read(x, 0)):
        read = tap.reshape(pixels, groups, -1)
        for start in range(0, pixels, block):
            part = slice(start, start + block)
            values = np.ascontiguousarray(read[part].transpose(2, 1, 0), np.float64)
            sums = np.ascontiguousarray(total[:, :, part])
            for channel, value in enumerate(values):
                product = value[:, None] * weight[:, :, i, channel, None]
                sums = round_sum(product, sums, product + sums)
            total[:, :, part] = sums
    return np.ascontiguousarray(total.reshape(-1, pixels).T).reshape(*window.size, -1)


def max_pool(x: np.ndarray, window: Window) -> np.ndarray:
    """The largest of each window's pixels in the image, −∞ where there is none; (height, width,
    C)."""
    result = np.full((*window.size, x.shape[2]), -np.inf, x.dtype)
    for tap in window.read(x, -np.inf):
        np.maximum(result, tap, out=result)
    return result


def sum_pool(x: np.ndarray, window: Window) -> np.ndarray:
    """The sum of each window's pixels in the image, one after the other in float32; (height, width,
    C)."""
    result = np.zeros((*window.size, x.shape[2]), np.float32)
    for tap in window.read(x, 0):
        result += tap
    return result
