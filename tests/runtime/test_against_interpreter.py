"""libbinseg gives the reference interpreter's numbers, on each instruction set."""

import functools
from pathlib import Path

import numpy as np
import pytest
from model_files import model_file
from random_programs import random_image, random_program

import binseg
from binseg.program.file import read_program
from binseg.program.image_resize import resize_image, target_size
from binseg.program.interpreter import Interpreter
from binseg.program.program import Program, ProgramError
from binseg.program.rules import RULES
from binseg.runtime.library import ImageError, Network

SEEDS = range(24)
MODELS = Path(binseg.__file__).parent / "models"


@functools.cache
def case(seed: int) -> tuple[Program, np.ndarray, np.ndarray]:
    """Program, image, and the interpreter's scores."""
    program, (height, width) = random_program(seed)
    image = random_image(seed, height, width)
    return program, image, Interpreter(program).scores(image)


def test_the_programs_use_every_operator():
    used = {operator.kind for seed in SEEDS for operator in case(seed)[0].operators}
    assert used == set(RULES)


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_equal_the_interpreters(seed, isa):
    program, image, expected = case(seed)
    found = Network(model_file(program), isa=isa).scores(image)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@functools.cache
def shipped(name: str) -> tuple[bytes, np.ndarray, np.ndarray]:
    """File, image, and the interpreter's scores of a network whose layers are wide."""
    path = MODELS / f"{name}.safetensors"
    image = random_image(7, 75, 141)
    return path.read_bytes(), image, Interpreter(read_program(path)[0]).scores(image)


@pytest.mark.parametrize("name", ["camvid-base", "camvid-small"])
def test_shipped_networks_scores_equal_the_interpreters(name, isa):
    file, image, expected = shipped(name)
    network = Network(file, isa=isa)
    for threads in (1, 2):
        network.threads = threads
        np.testing.assert_array_equal(network.scores(image, resize=False), expected)


@pytest.mark.parametrize("seed", range(0, 24, 4))
def test_threads_change_nothing(seed):
    program, image, expected = case(seed)
    network = Network(model_file(program), threads=2)
    for threads in (2, 3, 1, 2):
        network.threads = threads
        np.testing.assert_array_equal(network.scores(image), expected)


@pytest.mark.parametrize("seed", range(1, 24, 6))
def test_sizes_may_change_from_image_to_image(seed):
    program, image, _ = case(seed)
    network, interpreter = Network(model_file(program)), Interpreter(program)
    height, width = image.shape[:2]
    for rows, columns in ((height, width), (height + 9, width + 2), (1, 1), (height, width)):
        other = random_image(rows, rows, columns)
        try:
            expected = interpreter.scores(other)
        except ProgramError:  # a flatten of one size, say
            with pytest.raises(ImageError):
                network.scores(other)
        else:
            np.testing.assert_array_equal(network.scores(other), expected)


@pytest.mark.parametrize("short_side", [None, 7, 40])
@pytest.mark.parametrize("seed", [0, 5, 14])
def test_class_maps_equal_the_interpreters(seed, short_side, isa):
    program, image, _ = case(seed)
    image = np.repeat(np.repeat(image, 2, axis=0), 3, axis=1)
    network = Network(model_file(program, short_side), isa=isa)
    size = target_size(*image.shape[:2], short_side)
    assert network.input_size(*image.shape[:2]) == size
    try:
        expected = Interpreter(program).class_map(resize_image(image, size), image.shape[:2])
    except ProgramError:
        with pytest.raises(ImageError):
            network.segment(image)
    else:
        np.testing.assert_array_equal(network.segment(image), expected)


def test_networks_of_several_threads_do_not_disturb_each_other():
    from concurrent.futures import ThreadPoolExecutor

    cases = [case(seed) for seed in (2, 3, 6, 9)]
    networks = [Network(model_file(program)) for program, _, _ in cases]

    def repeat(index: int) -> bool:
        _, image, expected = cases[index]
        return all(np.array_equal(networks[index].scores(image), expected) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(4)))


def test_one_network_may_be_shared_by_threads():
    from concurrent.futures import ThreadPoolExecutor

    program, image, expected = case(3)
    network = Network(model_file(program), threads=2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: network.scores(image), range(40)))
    assert all(np.array_equal(scores, expected) for scores in found)


def test_every_operator_has_a_name_and_a_time():
    program, image, _ = case(0)
    times = Network(model_file(program)).operator_times(image)
    assert [kind for kind, _ in times] == [operator.kind for operator in program.operators]
    assert all(seconds > 0 for _, seconds in times)
