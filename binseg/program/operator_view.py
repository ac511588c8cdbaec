"""A view of one operator for the rules that check it, part by part.

Each part that a rule asks for is checked and ticked off; what is left over at the end is unknown to
the definition and refused.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from binseg.program.program import Operator, Program, ProgramError, is_integer, is_number, shown
from binseg.program.types import (
    ACTIVATIONS,
    MAX_BASES,
    MAX_CHANNELS,
    MAX_DILATION,
    MAX_KERNEL,
    MAX_SIDE,
    MAX_STRIDE,
    Kind,
    ValueType,
)

_DTYPES = {"float32": "F32", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"}


class OperatorView:
    """One operator of a program under check.

    Args:
        index: of the operator.
        operator: whose inputs are known to be in `types`.
        program: for its tensors.
        types: of the values before.
    """

    def __init__(
        self, index: int, operator: Operator, program: Program, types: Mapping[int, ValueType]
    ) -> None:
        self._name = f"operator {index} ({operator.kind})"
        self._operator = operator
        self._program = program
        self._types = types
        self._attributes: set[str] = set()
        self._tensors: set[str] = set()
        self._outputs: dict[str, ValueType] = {}

    def error(self, what: str) -> ProgramError:
        """An error that names the operator."""
        return ProgramError(f"{self._name} {what}")

    def close(self) -> dict[int, ValueType]:
        """The types of the operator's values, after its rule has looked at everything it knows.

        Raises:
            ProgramError: something is left over.
        """
        for name in sorted(self._operator.attributes.keys() - self._attributes):
            raise self.error(f"has the attribute {shown(name)}, which it has no use for")
        for role in sorted(self._operator.tensors.keys() - self._tensors):
            raise self.error(f"has the tensor {shown(role)}, which it has no use for")
        for role in sorted(self._operator.outputs.keys() - self._outputs.keys()):
            raise self.error(f"has no output {shown(role)}")
        if not self._operator.outputs:
            raise self.error("has no output")
        return {value: self._outputs[role] for role, value in self._operator.outputs.items()}

    # Values

    def inputs(self, minimum: int, maximum: int | None = None) -> int:
        """How many inputs there are, from `minimum` to `maximum` (default: as many)."""
        count = len(self._operator.inputs)
        maximum = minimum if maximum is None else maximum
        if not minimum <= count <= maximum:
            wanted = f"{minimum}" if minimum == maximum else f"{minimum} to {maximum}"
            raise self.error(f"reads {count} values, not {wanted}")
        return count

    def input(self, position: int, *kinds: Kind) -> ValueType:
        """The type of an input, of one of `kinds` (default: any)."""
        found = self._types[self._operator.inputs[position]]
        if kinds and found.kind not in kinds:
            raise self.error(
                f"reads value {self._operator.inputs[position]} of kind {found.kind}, not "
                f"{' or '.join(kinds)}"
            )
        return found

    def output(self, role: str, kind: ValueType) -> None:
        """Declare an output that the operator may have."""
        if kind.channels > MAX_CHANNELS:
            raise self.error(f"has {kind.channels} channels, more than {MAX_CHANNELS}")
        self._outputs[role] = kind

    def makes(self, role: str) -> bool:
        """Whether the operator has this output."""
        return role in self._operator.outputs

    # Attributes

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as it is; an error if it is missing and has no default."""
        self._attributes.add(name)
        if name in self._operator.attributes:
            return self._operator.attributes[name]
        if default is None:
            raise self.error(f"lacks the attribute '{name}'")
        return default

    def has(self, name: str) -> bool:
        """Whether there is an attribute of this name."""
        return name in self._operator.attributes

    def integer(self, name: str, minimum: int, maximum: int, default: int | None = None) -> int:
        """An integer attribute within bounds."""
        value = self.attribute(name, default)
        if not is_integer(value) or not minimum <= value <= maximum:
            raise self._bad(name, f"an integer from {minimum} to {maximum}")
        return int(value)

    def integers(
        self,
        name: str,
        length: int | None,
        minimum: int,
        maximum: int,
        default: tuple[int, ...] | None = None,
    ) -> tuple[int, ...]:
        """A list of integers within bounds; without `length` of 1 to 8 (the bases)."""
        value = self.attribute(name, default)
        lengths = range(1, MAX_BASES + 1) if length is None else (length,)
        if (
            not isinstance(value, list | tuple)
            or len(value) not in lengths
            or not all(is_integer(item) and minimum <= item <= maximum for item in value)
        ):
            number = f"1 to {MAX_BASES}" if length is None else length
            raise self._bad(name, f"a list of {number} integers from {minimum} to {maximum}")
        return tuple(value)

    def choice(self, name: str, options: tuple[Any, ...], default: Any = None) -> Any:
        """An attribute that is one of few values; true and 1 differ."""
        value = self.attribute(name, default)
        if not any(type(value) is type(option) and value == option for option in options):
            raise self._bad(name, f"one of {', '.join(map(shown, options))}")
        return value

    def flag(self, name: str) -> bool:
        """true or false; false where it is missing."""
        self._attributes.add(name)
        value = self._operator.attributes.get(name, False)
        if not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def window(self) -> None:
        """Kernel, stride, pads and dilation of a convolution or pooling."""
        self.integers("kernel", 2, 1, MAX_KERNEL)
        self.integers("stride", 2, 1, MAX_STRIDE)
        self.integers("pads", 4, 0, MAX_SIDE)
        self.integers("dilation", 2, 1, MAX_DILATION, default=(1, 1))

    def _bad(self, name: str, wanted: str) -> ProgramError:
        text = shown(self._operator.attributes[name])
        return self.error(f"has the attribute '{name}' = {text}, which is not {wanted}")

    # Tensors

    def tensor(self, role: str, shape: tuple[int, ...], *dtypes: str) -> np.ndarray:
        """A tensor of this very shape and one of these dtypes."""
        tensor, _ = self._find(role, dtypes)
        if tensor.shape != shape:
            raise self.error(f"has the tensor '{role}' of shape {tensor.shape}, not {shape}")
        return tensor

    def given(self, role: str) -> bool:
        """Whether there is a tensor of this role."""
        return role in self._operator.tensors

    def channel_tensor(self, role: str, channels: int) -> None:
        """float32 (n,), where n divides the number of channels."""
        tensor, _ = self._find(role, ("F32",))
        if tensor.ndim != 1 or not 0 < len(tensor) <= channels or channels % len(tensor):
            raise self.error(
                f"has the tensor '{role}' of shape {tensor.shape}, not ({channels},) or a part"
            )

    def bits(self, role: str, count: int) -> None:
        """`count` bits, eight to a byte; unused ones are 0."""
        tensor = self.tensor(role, (math.ceil(count / 8),), "U8")
        if count % 8 and int(tensor[-1]) >> count % 8:
            raise self.error(f"has the tensor '{role}' with unused bits that are not 0")

    def dtype(self, role: str, *dtypes: str) -> str:
        """The dtype of a tensor, one of these."""
        return self._find(role, dtypes)[1]

    def shape(self, role: str, dimensions: int, *dtypes: str) -> tuple[int, ...]:
        """The shape of a tensor of one of these dtypes, all sides above 0."""
        tensor, _ = self._find(role, dtypes)
        if tensor.ndim != dimensions or 0 in tensor.shape:
            raise self.error(
                f"has the tensor '{role}' of shape {tensor.shape}, not {dimensions} sides above 0"
            )
        return tensor.shape

    def _find(self, role: str, dtypes: tuple[str, ...]) -> tuple[np.ndarray, str]:
        self._tensors.add(role)
        if role not in self._operator.tensors:
            raise self.error(f"lacks the tensor '{role}'")
        name = self._operator.tensors[role]
        if name not in self._program.tensors:
            raise self.error(f"has the tensor '{role}' named {shown(name)}, which is missing")
        tensor = self._program.tensors[name]
        known = "BF16" if name in self._program.bfloat16 else _DTYPES.get(tensor.dtype.name)
        if known not in dtypes:
            raise self.error(
                f"has the tensor '{role}' of dtype {known or tensor.dtype}, not "
                f"{' or '.join(dtypes)}"
            )
        return tensor, known

    # What several operators share

    def finish(
        self, channels: int, *, bases: int = 1, residual_at: int | None = None, fixed: bool = False
    ) -> None:
        """The end of a real operator.

        Args:
            channels: of the result, all bases together.
            bases: that the operator works over.
            residual_at: position of the input that is the residual, if there is one.
            fixed: bits always have `bases` bases.
        """
        if residual_at is not None and residual_at < len(self._operator.inputs):
            self.residual(residual_at, channels, bases)
        if self.has("act"):
            self.activation(channels)
        self.real(real=channels)
        self.bit_output(channels, bases, fixed=fixed)
        self.byte_output(channels)

    def residual(self, position: int, channels: int, bases: int) -> None:
        """A real input of as many channels as the result, or of one base's."""
        found = self.input(position, "real").channels
        if found not in (channels, channels // bases):
            raise self.error(f"has a residual of {found} channels, not {channels}")

    def activation(self, channels: int, prefix: str = "") -> None:
        """The attribute `act` and its tensors; all their names begin with `prefix`."""
        kind = self.choice(f"{prefix}act", ACTIVATIONS)
        if kind in ("prelu", "rprelu"):
            self.channel_tensor(f"{prefix}slope", channels)
        if kind == "rprelu":
            self.channel_tensor(f"{prefix}before", channels)
            self.channel_tensor(f"{prefix}after", channels)

    def real(self, **channels: int) -> None:
        """Real outputs, role by role; all are stored as the attribute `dtype` says."""
        bf16 = False
        if any(map(self.makes, channels)):
            bf16 = self.choice("dtype", ("f32", "bf16"), "f32") == "bf16"
        for role, number in channels.items():
            self.output(role, ValueType("real", number, bf16=bf16))

    def bit_output(self, channels: int, bases: int, *, fixed: bool = False) -> None:
        """The output `bits`, its threshold and its number of bases."""
        if not self.makes("bits"):
            return
        if not fixed:
            bases = self.integer("bit_bases", 1, MAX_BASES, bases)
        if channels % bases:
            raise self.error(f"cannot make {bases} bases of {channels} channels")
        if self.given("threshold"):
            self.channel_tensor("threshold", channels)
        self.output("bits", ValueType("bits", channels, bases))

    def byte_output(self, channels: int) -> None:
        """The output `bytes` and its scale and zero point."""
        if not self.makes("bytes"):
            return
        value = self.attribute("bytes")
        if (
            not isinstance(value, list | tuple)
            or len(value) != 2
            or not is_number(value[0])
            or not 2.0**-126 <= value[0] < 2.0**127
            or not is_integer(value[1])
            or not 0 <= value[1] <= 255
        ):
            raise self._bad("bytes", "an inverse scale above 0 and a zero point from 0 to 255")
        self.output("bytes", ValueType("bytes", channels))
