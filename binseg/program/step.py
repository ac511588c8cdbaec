"""One operator made ready for the interpreter: attributes and tensors as it needs them."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from binseg.program.convolution import Window
from binseg.program.program import Operator, Program
from binseg.program.sizes import Size, windows_over
from binseg.program.tensors import from_bfloat16, unpack_bits
from binseg.program.types import ValueType


class Step:
    """One operator of a program that `check` has found good.

    Args:
        operator: which.
        program: for its tensors.
        types: of the program's values.

    Attributes:
        operator: which.
        tensors: role → array; bfloat16 as float32.
        bases: how many the operator works over.
    """

    def __init__(
        self, operator: Operator, program: Program, types: Mapping[int, ValueType]
    ) -> None:
        self.operator = operator
        self.tensors = {
            role: from_bfloat16(program.tensors[name])
            if name in program.bfloat16
            else program.tensors[name]
            for role, name in operator.tensors.items()
        }
        self.bases = len(self.get("dilations", ())) or self.get("bases", 1)
        self._in_channels = types[operator.inputs[0]].channels

    def __getitem__(self, name: str) -> Any:
        """An attribute."""
        return self.operator.attributes[name]

    def get(self, name: str, default: Any) -> Any:
        """An attribute that may be missing."""
        return self.operator.attributes.get(name, default)

    def channels(self, role: str, count: int) -> np.ndarray:
        """A tensor with a number for each of `count` channels, repeated if it has fewer."""
        tensor = self.tensors[role]
        return np.tile(tensor, count // len(tensor))

    def window(self, size: Size) -> Window:
        """Of a convolution of bytes or real numbers, or a pooling, with a result of `size`."""
        return Window(
            (self["kernel"][0], self["kernel"][1]),
            (self["stride"][0], self["stride"][1]),
            tuple(self.get("dilation", (1, 1))),
            (self["pads"][0], self["pads"][1]),
            size,
        )

    def windows(self, x: np.ndarray) -> Size:
        """How many windows there are over x, (H, W, C)."""
        return windows_over(self.operator.attributes, (x.shape[0], x.shape[1]))

    @cached_property
    def bit_weight(self) -> np.ndarray:
        """±1 of a convolution over bits, float32 (K, C_out, kh·kw·C_in)."""
        rows = 1 if self.get("shared_weight", False) else self.bases
        shape = rows, self["out_channels"], self._taps * self["in_channels"]
        return np.broadcast_to(
            signs(unpack_bits(self.tensors["weight"], shape)), (self.bases, *shape[1:])
        )

    @cached_property
    def byte_weight(self) -> np.ndarray:
        """Weights of a convolution of bytes, float32 (C_out, kh·kw·C_in) of integers."""
        weight, outputs = self.tensors["weight"], self.tensors["curve"].shape[1]
        if weight.dtype == np.int8:
            return weight.reshape(outputs, -1).astype(np.float32)
        return 127 * signs(self._bits(weight, outputs)).reshape(outputs, -1)

    @cached_property
    def real_weight(self) -> np.ndarray:
        """Weights of a convolution of real numbers for all bases, float32 (·, kh·kw, C)."""
        weight = self.tensors["weight"]
        if weight.dtype == np.uint8:
            scale = self.tensors["scale"]
            weight = scale[:, None] * signs(self._bits(weight, len(scale)))
        weight = weight.reshape(len(weight), self._taps, -1)
        return np.tile(weight, (self.bases, 1, 1))

    def _bits(self, weight: np.ndarray, outputs: int) -> np.ndarray:
        """Weights of 1 bit of a convolution of bytes or real numbers, bool (C_out, kh·kw·C)."""
        channels = self._in_channels // (self.bases * self.get("groups", 1))
        return unpack_bits(weight, (outputs, self._taps * channels))

    @property
    def _taps(self) -> int:
        return self["kernel"][0] * self["kernel"][1]


def signs(bits: np.ndarray) -> np.ndarray:
    """bool → ±1 as float32."""
    return np.where(bits, np.float32(1), np.float32(-1))
