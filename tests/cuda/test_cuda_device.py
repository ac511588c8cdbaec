"""The CUDA kernels on a GPU against the CPU's operators and the interpreter."""

import pytest
import torch
from cuda_emulation import cases
from cuda_emulation.programs import check_program
from random_programs import random_image, random_program
from trained_networks import images, trained

from binseg.compiler.pack import pack
from binseg.program.cuda.devices import plan_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def plan():
    return plan_for(torch.device("cuda", torch.cuda.current_device()))


@pytest.mark.parametrize("make", [cases.bits_calls, cases.real_calls, cases.merge_calls])
def test_convolutions(plan, make):
    for case in cases.MERGES if make is cases.merge_calls else cases.CONVS:
        for call in make(case, plan):
            cases.check(torch.ops.binseg, "cuda", call)


@pytest.mark.usefixtures("plan")
def test_all_other_operators():
    for call in cases.all_other_calls():
        cases.check(torch.ops.binseg, "cuda", call)


@pytest.mark.parametrize("seed", range(12))
def test_programs(plan, seed):
    program, size = random_program(seed)
    check_program(program, [random_image(seed, *size)], "cuda", plan=plan)


@torch.inference_mode()
def test_a_packed_network_gives_the_same_there_and_here():
    packed, x = pack(trained(bases=2)), images()
    assert torch.equal(packed.scores(x.cuda()).cpu(), packed.scores(x))
    assert torch.equal(packed.class_map(x.cuda()).cpu(), packed.class_map(x))
