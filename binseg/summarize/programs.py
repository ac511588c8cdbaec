"""Parameters, bytes and operations of a program, operator by operator."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from binseg.program.check import check
from binseg.program.program import Operator, Program
from binseg.program.sizes import Size, value_sizes
from binseg.program.types import ValueType

BIT_CONVOLUTIONS = ("conv_bits", "conv_real", "conv_merge")
BYTE_CONVOLUTIONS = ("conv_int8", "conv_int8_pool")


@dataclass(frozen=True)
class OperatorCost:
    """What an operator holds and does for one image.

    Attributes:
        name: of its layers in the trained network, or its place.
        kind: see docs/program.md.
        output: (1, H, W, C) of what it makes.
        parameters: bits of a parameter (1, 8, 16, 32) → how many.
        bytes: of its tensors in a file.
        binary_bytes: the part that holds 1-bit weights.
        macs: products that are added up.
        binary: whether they are of ±1 with ±1.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: dict[int, int]
    bytes: int
    binary_bytes: int
    macs: int
    binary: bool


def operator_costs(program: Program, size: Size) -> list[OperatorCost]:
    """Of each operator, for an image of `size` = (height, width).

    Raises:
        ProgramError: the image is too small or too large for the network.
    """
    types, sizes = check(program), value_sizes(program, *size)
    return [
        _cost(program, index, operator, types, sizes)
        for index, operator in enumerate(program.operators)
    ]


def program_parameters(program: Program) -> dict[int, int]:
    """Bits of a parameter → how many there are in all tensors."""
    types = check(program)
    found: Counter[int] = Counter()
    for operator in program.operators:
        found.update(_parameters(program, operator, types))
    return dict(found)


def program_bytes(program: Program) -> int:
    """Of all tensors."""
    return sum(tensor.nbytes for tensor in program.tensors.values())


def operator_name(program: Program, index: int) -> str:
    """The layer of the trained network that an operator's tensors are named after, or its place."""
    names = sorted(program.operators[index].tensors.values())
    return names[0].rpartition(".")[0] if names else f"operator {index}"


def _cost(
    program: Program,
    index: int,
    operator: Operator,
    types: Mapping[int, ValueType],
    sizes: Mapping[int, Size],
) -> OperatorCost:
    value = next(iter(operator.outputs.values()))
    height, width = sizes[value]
    parameters = _parameters(program, operator, types)
    tensors = [program.tensors[name] for name in operator.tensors.values()]
    return OperatorCost(
        operator_name(program, index),
        operator.kind,
        (1, height, width, types[value].channels),
        parameters,
        sum(tensor.nbytes for tensor in tensors),
        -(-parameters.get(1, 0) // 8),
        _macs(program, operator, types, sizes),
        operator.kind in BIT_CONVOLUTIONS,
    )


def _parameters(
    program: Program, operator: Operator, types: Mapping[int, ValueType]
) -> dict[int, int]:
    found: Counter[int] = Counter()
    for role, name in operator.tensors.items():
        tensor = program.tensors[name]
        if role == "weight" and tensor.dtype.name == "uint8":
            found[1] += _weights(program, operator, types)
        else:
            found[8 * tensor.dtype.itemsize] += tensor.size
    return dict(found)


def _weights(program: Program, operator: Operator, types: Mapping[int, ValueType]) -> int:
    """How many weights a convolution has."""
    attributes = operator.attributes
    taps = math.prod(attributes["kernel"])
    if operator.kind in BIT_CONVOLUTIONS:
        bases = 1 if attributes.get("shared_weight") else len(attributes["dilations"])
        return int(bases * attributes["out_channels"] * taps * attributes["in_channels"])
    bases = attributes.get("bases", 1)
    groups = attributes.get("groups", 1)
    rows = types[next(iter(operator.outputs.values()))].channels // bases
    return int(rows * taps * types[operator.inputs[0]].channels // (bases * groups))


def _macs(
    program: Program,
    operator: Operator,
    types: Mapping[int, ValueType],
    sizes: Mapping[int, Size],
) -> int:
    attributes = operator.attributes
    height, width = sizes[next(iter(operator.outputs.values()))]
    if operator.kind in BIT_CONVOLUTIONS:
        bases = len(attributes["dilations"])
        each = attributes["out_channels"] * attributes["in_channels"]
        return int(height * width * bases * each * math.prod(attributes["kernel"]))
    if operator.kind != "conv" and operator.kind not in BYTE_CONVOLUTIONS:
        return 0
    if operator.kind == "conv_int8_pool":  # the convolution's own grid, before the maximum
        (above, left, below, right), (down, across) = attributes["pads"], attributes["stride"]
        rows, columns = attributes["kernel"]
        before = sizes[operator.inputs[0]]
        height = (before[0] + above + below - rows) // down + 1
        width = (before[1] + left + right - columns) // across + 1
    bases = attributes.get("bases", 1)
    return height * width * bases * _weights(program, operator, types)
