"""The numbers that say what a binary convolution is, and the sizes that follow from them."""

from dataclasses import dataclass
from functools import cached_property

from binseg.errors import BinsegError

WORD = 32
"""Channels in one word of a packed map: bit c mod 32 of word ⌊c / 32⌋ is 1 for +1, 0 for −1."""

BLOCK = 64
"""Output channels that lie side by side in packed weights: four 512-bit vectors."""

MOST_BASES = 8
"""Bases that can be merged in one convolution."""

LARGEST_SUM = 2**31 - 1


def words(channels: int) -> int:
    """Words that hold `channels` bits."""
    return -(-channels // WORD)


def blocks(channels: int) -> int:
    """Blocks of packed weights that hold `channels` output channels."""
    return -(-channels // BLOCK)


@dataclass(frozen=True)
class ConvShape:
    """A "same" convolution of K bases: the result has ⌈H / stride⌉ × ⌈W / stride⌉ pixels.

    Output pixel y reads the input rows y·stride + ky·dilation − ⌊dilation·(kernel − 1) / 2⌋; what
    lies outside the picture is `padding_value`. Columns alike.

    Attributes:
        in_channels, out_channels: of one base.
        kernel: (height, width), odd or even.
        stride: in pixels, both ways.
        dilations: one rate for each base; their number is K.
        padding_value: −1, 0 or +1.

    Raises:
        BinsegError: a number out of range, or sums that a 32-bit integer cannot hold.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    stride: int
    dilations: tuple[int, ...]
    padding_value: int

    def __post_init__(self) -> None:
        positive = (self.in_channels, self.out_channels, *self.kernel, self.stride, *self.dilations)
        if min(positive) < 1 or not self.dilations or len(self.kernel) != 2:
            raise BinsegError(f"a binary convolution needs sizes of at least 1: {self}")
        if max(positive) > 2**20 or self.terms > 2**30:
            raise BinsegError(f"a binary convolution of this size is not supported: {self}")
        if self.padding_value not in (-1, 0, 1):
            raise BinsegError(f"the padding value must be -1, 0 or 1, not {self.padding_value}")

    @cached_property
    def bases(self) -> int:
        """K."""
        return len(self.dilations)

    @cached_property
    def taps(self) -> int:
        """Pixels under the kernel."""
        return self.kernel[0] * self.kernel[1]

    @cached_property
    def terms(self) -> int:
        """Products of ±1 in one sum: the largest absolute value of a result."""
        return self.taps * self.in_channels

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(⌈height / stride⌉, ⌈width / stride⌉)."""
        return -(-height // self.stride), -(-width // self.stride)

    def border(self, axis: int, base: int) -> int:
        """Pixels outside the picture before its first row (axis 0) or column (axis 1)."""
        return self.dilations[base] * (self.kernel[axis] - 1) // 2
