"""Runs one operator of the interpreter on any inputs, as a checked program would."""

import numpy as np

from binseg.program.operator_view import OperatorView
from binseg.program.operators import OPERATORS
from binseg.program.program import Operator, Program
from binseg.program.rules import RULES
from binseg.program.sizes import operator_size
from binseg.program.step import Step
from binseg.program.types import ValueType


class Image(np.ndarray):
    """uint8 (H, W, 3) that is the image, not bytes of an operator."""


def image(array):
    return np.asarray(array, np.uint8).view(Image)


def run_operator(kind, *inputs, tensors=None, roles=("real",), bfloat16=(), **attributes):
    """Role → array. Real inputs are float32 (H, W, C), bits bool (H, W, B, C), bytes uint8."""
    values = range(1, len(inputs) + 1)
    outputs = {role: 100 + i for i, role in enumerate(roles)}
    tensors = tensors or {}
    attributes = {name.rstrip("_"): value for name, value in attributes.items()}
    operator = Operator(kind, tuple(values), outputs, {t: t for t in tensors}, attributes)
    program = Program((operator,), 100, tensors, frozenset(bfloat16))
    types = dict(zip(values, map(type_of, inputs), strict=True))
    rule = OperatorView(0, operator, program, types)
    RULES[kind](rule)
    made_types = rule.close()
    size = operator_size(operator, [(x.shape[0], x.shape[1]) for x in inputs], kind)
    assert min(size) > 0
    step = Step(operator, program, types | made_types)
    with np.errstate(all="ignore"):
        made = OPERATORS[kind](step, size, *map(np.asarray, inputs))
    assert made.keys() == set(roles)
    for role, value in outputs.items():
        assert type_of(made[role]) == ValueType(
            made_types[value].kind if made_types[value].kind != "image" else "bytes",
            made_types[value].channels,
            made_types[value].bases,
        )
        assert made[role].shape[:2] == size
    return made


def type_of(array):
    if array.dtype == np.bool_:
        return ValueType("bits", array.shape[2] * array.shape[3], array.shape[2])
    if array.dtype == np.uint8:
        return ValueType("image" if isinstance(array, Image) else "bytes", array.shape[2])
    assert array.dtype == np.float32
    return ValueType("real", array.shape[2])
