"""Checks that a program keeps to its definition, and the kind of each of its values.

The definition is docs/program.md. What depends on the image's size is `sizes`' business.
"""

from collections.abc import Callable

import numpy as np

from binseg.program.operator_view import OperatorView
from binseg.program.program import IMAGE, Operator, Program, ProgramError, shown
from binseg.program.rules import RULES
from binseg.program.types import MAX_CLASSES, MAX_OPERATORS, MAX_VALUES, ValueType


def check(program: Program) -> dict[int, ValueType]:
    """The type of each value of a program that keeps to the definition.

    Raises:
        ProgramError: it does not; one line that names the operator by index and kind.
    """
    if len(program.operators) > MAX_OPERATORS:
        raise ProgramError(
            f"the program has {len(program.operators)} operators, more than {MAX_OPERATORS}"
        )
    _check_tensors(program)
    types = {IMAGE: ValueType("image", 3)}
    read: set[int] = set()
    used: set[str] = set()
    for index, operator in enumerate(program.operators):
        check_rule = _rule_of(index, operator)
        rule = OperatorView(index, operator, program, types)
        _check_values(rule, operator, types)
        check_rule(rule)
        types |= rule.close()
        read |= set(operator.inputs)
        used |= set(operator.tensors.values())
    _check_output(program, types)
    for value in types:
        if value not in read and value != program.output:
            raise ProgramError(f"value {value} is never read")
    for name in program.tensors:
        if name not in used:
            raise ProgramError(f"tensor {shown(name)} is never used")
    return types


def _rule_of(index: int, operator: Operator) -> Callable[[OperatorView], None]:
    if operator.kind not in RULES:
        raise ProgramError(f"operator {index} is of the unknown kind {shown(operator.kind)}")
    return RULES[operator.kind]


def _check_values(rule: OperatorView, operator: Operator, types: dict[int, ValueType]) -> None:
    """Single assignment, and reading only what stands before."""
    for value in operator.inputs:
        if value not in types:
            raise rule.error(f"reads value {shown(value)}, which no operator before it makes")
    outputs = list(operator.outputs.values())
    for value in outputs:
        if not 0 < value < MAX_VALUES:
            raise rule.error(
                f"makes value {shown(value)}, which is not between 1 and {MAX_VALUES - 1}"
            )
        if value in types or outputs.count(value) > 1:
            raise rule.error(f"makes value {value} a second time")


def _check_output(program: Program, types: dict[int, ValueType]) -> None:
    kind = types.get(program.output)
    if kind is None:
        raise ProgramError(f"no operator makes the program's output, value {shown(program.output)}")
    if kind.kind != "real":
        raise ProgramError(f"the program's output is of kind {kind.kind}, not real")
    if kind.channels > MAX_CLASSES:
        raise ProgramError(f"the program has {kind.channels} classes, more than {MAX_CLASSES}")


def _check_tensors(program: Program) -> None:
    """Real numbers are finite, and bfloat16 is 16 bits wide."""
    for name in sorted(program.bfloat16):
        if name not in program.tensors:
            raise ProgramError(f"the bfloat16 tensor {shown(name)} is missing")
        if program.tensors[name].dtype != np.uint16:
            raise ProgramError(f"tensor {shown(name)} is no bfloat16")
    for name, tensor in program.tensors.items():
        if name in program.bfloat16:
            finite = bool(((tensor & 0x7F80) != 0x7F80).all())
        else:
            finite = tensor.dtype != np.float32 or bool(np.isfinite(tensor).all())
        if not finite:
            raise ProgramError(f"tensor {shown(name)} holds nan or inf")
