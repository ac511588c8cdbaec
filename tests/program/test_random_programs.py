"""The programs that executors are held against: valid, many-sided, and what a file gives back."""

import json

import numpy as np
import pytest
from random_programs import KINDS, random_image, random_program

from binseg.program.check import check
from binseg.program.interpreter import Interpreter
from binseg.program.operators import OPERATORS
from binseg.program.program import Program
from binseg.program.rules import RULES
from binseg.program.sizes import value_sizes

SEEDS = range(25)


def test_every_operator_has_a_rule_an_implementation_and_a_maker():
    assert RULES.keys() == OPERATORS.keys() == KINDS.keys()


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_as_their_types_and_sizes_say(seed):
    program, (height, width) = random_program(seed)
    types, sizes = check(program), value_sizes(program, height, width)
    seen = {0}
    for value, array in Interpreter(program).values(random_image(seed, height, width)):
        kind = types[value]
        if kind.kind == "bits":
            expected = (*sizes[value], kind.bases, kind.channels // kind.bases)
        else:
            expected = (*sizes[value], kind.channels)
        assert array.shape == expected
        assert array.dtype == {"bits": np.bool_, "real": np.float32}.get(kind.kind, np.uint8)
        if kind.kind == "real":
            assert np.isfinite(array).all()
        if kind.bf16:
            assert not (np.ascontiguousarray(array).view(np.uint32) & 0xFFFF).any()
        seen.add(value)
    assert seen == types.keys()
    assert {operator.kind for operator in program.operators} == RULES.keys()


def test_the_roles_of_outputs_are_made_in_all_combinations():
    found = {
        (operator.kind, frozenset(operator.outputs))
        for seed in range(40)
        for operator in random_program(seed)[0].operators
    }
    assert sum(kind == "conv_real" for kind, _ in found) == 7
    assert sum(kind == "conv_merge" for kind, _ in found) >= 14


def test_a_program_comes_back_from_json():
    program, _ = random_program(0)
    text = json.dumps(program.to_json(), allow_nan=False)
    again = Program.from_json(json.loads(text), program.tensors, program.bfloat16)
    assert again == program


def test_one_seed_gives_one_program():
    first, second = random_program(5)[0], random_program(5)[0]
    assert first.to_json() == second.to_json()
    assert all((first.tensors[name] == second.tensors[name]).all() for name in first.tensors)
