"""The program of a packed network: operators over numbered values, and tensors.

The definition is docs/program.md. Nothing here knows torch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np

from binseg.errors import BinsegError

VERSION = 1
IMAGE = 0
"""The value that is the image."""

_KEYS = {"op", "in", "out", "tensors"}


class ProgramError(BinsegError):
    """A program that breaks the definition: one line that names the operator."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        kind: see docs/program.md, part 2.
        inputs: values read, in the order of the definition; optional ones left out at the end.
        outputs: role → value; roles that nobody reads are left out.
        tensors: role → name of a tensor of the program.
        attributes: plain JSON values.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: Mapping[str, int]
    tensors: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """A whole program.

    Attributes:
        operators: in an order in which they can be run.
        output: the value that holds the class scores.
        tensors: name → array in natural order; bfloat16 as uint16 with the name in `bfloat16`.
        bfloat16: names of the tensors that hold bfloat16.
    """

    operators: tuple[Operator, ...]
    output: int
    tensors: Mapping[str, np.ndarray]
    bfloat16: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The header's part; tensors are written beside it."""
        return {
            "version": VERSION,
            "operators": [
                {
                    "op": operator.kind,
                    "in": list(operator.inputs),
                    "out": dict(operator.outputs),
                    **({"tensors": dict(operator.tensors)} if operator.tensors else {}),
                    **operator.attributes,
                }
                for operator in self.operators
            ],
            "output": self.output,
        }

    @classmethod
    def from_json(
        cls,
        data: Any,
        tensors: Mapping[str, np.ndarray],
        bfloat16: frozenset[str] = frozenset(),
    ) -> "Program":
        """The inverse of `to_json`, for headers that may be foreign or damaged.

        Only the outer form is looked at here; `check` does the rest.

        Raises:
            ProgramError: not the form of a program, or one of a newer version.
        """
        if not isinstance(data, dict):
            raise ProgramError("the program is no JSON object")
        version = data.get("version")
        if not is_integer(version) or version < 1:
            raise ProgramError(f"the program's version is {shown(version)}, not an integer above 0")
        if version > VERSION:
            raise ProgramError(
                f"the program is of version {version}; this binseg runs up to {VERSION}: upgrade it"
            )
        if unknown := sorted(data.keys() - {"version", "operators", "output"}):
            raise ProgramError(f"the program has the unknown key {shown(unknown[0])}")
        if not isinstance(data.get("operators"), list):
            raise ProgramError("the program has no list of operators")
        if not is_integer(data.get("output")):
            raise ProgramError(f"the program's output is {shown(data.get('output'))}, not a value")
        operators = tuple(_operator(i, item) for i, item in enumerate(data["operators"]))
        return cls(operators, data["output"], tensors, bfloat16)


def _operator(index: int, data: Any) -> Operator:
    def fail(what: str) -> ProgramError:
        return ProgramError(f"operator {index}: {what}")

    if not isinstance(data, dict) or not isinstance(data.get("op"), str):
        raise fail("is no JSON object with a key 'op'")
    inputs, outputs, tensors = data.get("in"), data.get("out"), data.get("tensors", {})
    if not isinstance(inputs, list) or not all(is_integer(value) for value in inputs):
        raise fail("'in' is no list of values")
    if not isinstance(outputs, dict) or not all(is_integer(value) for value in outputs.values()):
        raise fail("'out' is no object of roles and values")
    if not isinstance(tensors, dict) or not all(isinstance(v, str) for v in tensors.values()):
        raise fail("'tensors' is no object of roles and names")
    attributes = {key: value for key, value in data.items() if key not in _KEYS}
    return Operator(data["op"], tuple(inputs), outputs, tensors, attributes)


def shown(value: object) -> str:
    """A foreign value for a message of one line: quoted, escaped and cut."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a JSON value is an integer (true and false are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a JSON value is a finite number."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))
