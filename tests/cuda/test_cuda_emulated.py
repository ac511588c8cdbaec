"""The CUDA kernels, compiled for the CPU and run thread by thread, against the CPU's operators."""

import shutil
from functools import cache

import pytest
import torch
from cuda_emulation import cases
from cuda_emulation.build import load
from cuda_emulation.programs import check_program
from random_programs import random_image, random_program

from binseg.program.cuda.devices import engines
from binseg.program.cuda.weights import ENGINES

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++"),
    pytest.mark.slow,
]

# what runs on sm_80 runs on sm_90 in the same way
TURING, HOPPER = 750, 900


@pytest.fixture(scope="module")
def operators(tmp_path_factory):
    @cache
    def get(arch):
        return load(tmp_path_factory.mktemp(f"emulated{arch}"), arch)

    return get


PLANS = {
    "128 rows": ("tensor", 128, 0),
    "64 rows": ("tensor", 64, 0),
    "32 rows": ("tensor", 32, 0),
    # two stages, and group blocks that keep their bases in global memory
    "little shared memory": ("tensor", 64, 36_000),
    "sm_75": ("tensor", 64, 65_536),
    "wgmma": ("wgmma", 0, 0),
    "CUDA cores": ("cores", 0, 0),
}
# what reads the input, finds borders and makes results is the same code for all of one instruction;
# the other plans differ in how rows, words and chunks are dealt out, which these cases show
IN_FULL = {"32 rows", "sm_75", "wgmma"}
FEW = {"odd channels", "four words", "many chunks", "bases", "shared input", "long row"}
FEW |= {"four bases", "eight bases"}


def with_plans(all_cases):
    """(plan, case): every case under a plan in full, few under the others."""
    return [
        pytest.param(plan, case, id=f"{plan}-{case.name}")
        for plan in PLANS
        for case in all_cases
        if plan in IN_FULL or case.name in FEW
    ]


def compare(operators, plan, calls, case):
    given = operators(TURING if plan == "sm_75" else HOPPER)
    engine, *limits = PLANS[plan]
    for call in calls(case, (ENGINES.index(engine), *limits)):
        cases.check(given, "cpu", call)


@pytest.mark.parametrize(("plan", "case"), with_plans(cases.CONVS))
@pytest.mark.parametrize("calls", [cases.bits_calls, cases.real_calls])
def test_convolution(operators, plan, calls, case):
    compare(operators, plan, calls, case)


@pytest.mark.parametrize(("plan", "case"), with_plans(cases.MERGES))
def test_merge(operators, plan, case):
    compare(operators, plan, cases.merge_calls, case)


def test_the_few_cases_exist():
    assert {case.name for case in [*cases.CONVS, *cases.MERGES]} >= FEW


def test_all_other_operators(operators):
    for call in cases.all_other_calls():
        cases.check(operators(HOPPER), "cpu", call)


@pytest.mark.parametrize("seed", [0, 2, 3, 5, 6, 9])
def test_programs(operators, seed):
    program, size = random_program(seed)
    images = [random_image(seed, *size), random_image(seed + 1, *size)]
    check_program(program, images, "cpu", operators=operators(HOPPER))


def test_misaligned_input(operators):
    call = next(cases.bits_calls(cases.CONVS[6], cases.TENSOR))
    bits = call[1][0]
    moved = torch.cat([torch.zeros(1, dtype=torch.int32), bits.flatten()])[1:].view(bits.shape)
    assert moved.data_ptr() % 16
    cases.check(operators(HOPPER), "cpu", (call[0], (moved, *call[1][1:])))


@pytest.mark.parametrize("position", range(1, 5))
def test_a_tensor_of_another_size_is_refused_before_a_kernel_reads_it(operators, position):
    name, arguments = next(cases.bits_calls(cases.CONVS[2], cases.TENSOR))
    wrong = list(arguments)
    wrong[position] = wrong[position][:-1]
    with pytest.raises(RuntimeError, match=r"do not fit|numbers, not"):
        getattr(operators(HOPPER), name)(*wrong)


def test_engines_of_each_generation():
    assert engines((7, 0)) == engines((10, 0)) == engines((12, 0)) == ("cores",)
    assert engines((7, 5)) == engines((8, 9)) == ("tensor", "cores")
    assert engines((9, 0))[0] == "tensor"
