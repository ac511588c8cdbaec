"""Kinds of values and the limits of programs, docs/program.md, parts 2 and 4."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["image", "real", "bits", "bytes"]

MAX_OPERATORS = 4_096
MAX_VALUES = 65_536
MAX_KERNEL = 64
MAX_STRIDE = 64
MAX_DILATION = 4_096
MAX_BASES = 8
MAX_CHANNELS = 65_536
MAX_CLASSES = 255
MAX_SIDE = 65_535
MAX_PIXELS = 1 << 28
MAX_SUM = (1 << 31) - 1
"""Largest absolute value of a sum of products of integers."""
MAX_SLOPE = 2.0**126
"""Largest absolute slope of a curve of bits: executors multiply them by -2."""

ACTIVATIONS = (
    "relu",
    "relu6",
    "prelu",
    "rprelu",
    "tanh",
    "sigmoid",
    "silu",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "abs",
)


@dataclass(frozen=True)
class ValueType:
    """What a value is, whatever the image's size.

    Attributes:
        kind: image, real, bits or bytes.
        channels: of all bases together.
        bases: of bits; `channels` is a multiple of it.
        bf16: whether a real value is stored as bfloat16.
    """

    kind: Kind
    channels: int
    bases: int = 1
    bf16: bool = False
