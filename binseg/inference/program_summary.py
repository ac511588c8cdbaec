"""Summaries of packed networks, operator by operator, without torch."""

import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from binseg.errors import BinsegError
from binseg.program.check import check
from binseg.program.file import read_program
from binseg.program.program import IMAGE, Operator, Program
from binseg.program.sizes import value_sizes
from binseg.program.types import ValueType

_OF_BITS = ("conv_bits", "conv_real", "conv_merge")


@dataclass(frozen=True)
class OperatorFigures:
    """One operator.

    Attributes:
        name: what its first tensor's name says of the layer.
        kind: see docs/program.md.
        output: height, width and channels of its result.
        binary_parameters: 1-bit weights.
        real_parameters: numbers in its other tensors.
        packed_bytes: of all its tensors.
        binary_bytes: the part of it that holds 1-bit weights.
        binary_macs: products of ±1 with ±1 that are added up for one image.
        real_macs: other products of weights.
    """

    name: str
    kind: str
    output: tuple[int, int, int]
    binary_parameters: int
    real_parameters: int
    packed_bytes: int
    binary_bytes: int
    binary_macs: int
    real_macs: int


@dataclass(frozen=True)
class ProgramSummary:
    """All operators of a packed network, and their sums."""

    operators: tuple[OperatorFigures, ...]
    size: tuple[int, int]

    @property
    def total(self) -> OperatorFigures:
        """All as one."""
        sums = [
            sum(getattr(each, name) for each in self.operators)
            for name in list(OperatorFigures.__dataclass_fields__)[3:]
        ]
        return OperatorFigures("total", "", (0, 0, 0), *sums)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "image": list(self.size),
            "operators": [asdict(each) for each in self.operators],
            "total": asdict(self.total),
        }


def summarize_program(
    path: str | os.PathLike[str], size: tuple[int, int] = (480, 640)
) -> ProgramSummary:
    """The figures of a packed network.

    Args:
        path: a packed file, or the name of a shipped model.
        size: (height, width) in pixels at which the network sees the image.

    Raises:
        BinsegError: a faulty file or another kind of file, or an image that the network cannot
            take.
    """
    if min(size) < 1:
        raise BinsegError(f"an image has at least one pixel a side, not {size[0]} × {size[1]}")
    program, _ = read_program(os.fspath(path))
    types, sizes = check(program), value_sizes(program, *size)
    counted: set[str] = set()  # a tensor that several operators share counts once
    figures = []
    for operator in program.operators:
        value = next(iter(operator.outputs.values()))
        height, width = sizes[value]
        bits, products = _weights(operator, types, program)
        own = {role: name for role, name in operator.tensors.items() if name not in counted}
        counted.update(own.values())
        arrays = {role: program.tensors[name] for role, name in own.items()}
        bits_here = bits if "weight" in own else 0
        binary = operator.kind in _OF_BITS
        figures.append(
            OperatorFigures(
                _name(operator),
                operator.kind,
                (height, width, types[value].channels),
                bits_here,
                sum(a.size for role, a in arrays.items() if not (bits_here and role == "weight")),
                sum(a.nbytes for a in arrays.values()),
                arrays["weight"].nbytes if bits_here else 0,
                products * height * width if binary else 0,
                0 if binary else products * height * width,
            )
        )
    return ProgramSummary(tuple(figures), size)


def _weights(operator: Operator, types: dict[int, ValueType], program: Program) -> tuple[int, int]:
    """How many 1-bit weights an operator has, and its products for one pixel of the result."""
    attributes = operator.attributes
    if operator.kind in _OF_BITS:
        one = (
            attributes["in_channels"] * attributes["out_channels"] * math.prod(attributes["kernel"])
        )
        bases = len(attributes["dilations"])
        return one * (1 if attributes.get("shared_weight", False) else bases), one * bases
    if "weight" not in operator.tensors:
        return 0, 0
    array = program.tensors[operator.tensors["weight"]]
    bases = attributes.get("bases", 1)
    if array.dtype != "uint8":
        return 0, array.size * bases
    source = operator.inputs[0]
    inputs = 3 if source == IMAGE else types[source].channels // bases
    outputs = types[next(iter(operator.outputs.values()))].channels // bases
    count = inputs // attributes.get("groups", 1) * outputs * math.prod(attributes["kernel"])
    return count, count * bases


def _name(operator: Operator) -> str:
    return next(iter(operator.tensors.values()), "").rpartition(".")[0]
