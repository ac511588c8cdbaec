"""The CUDA kernels, compiled for the CPU and run thread by thread, against the reference."""

import shutil
from dataclasses import replace
from functools import cache
from unittest import mock

import pytest
import torch
from cuda_emulation import cases
from cuda_emulation.build import EmulatedKernels, load

from binseg.kernels import layout, reference
from binseg.kernels.cuda import Plan, arrange, engines
from binseg.kernels.shape import ConvShape

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


def make(operators, *, arch=HOPPER, rows=32, engine="tensor", shared_limit=200_000):
    plan = Plan(engine, (arch // 100, arch // 10 % 10), 4, shared_limit, rows)
    return EmulatedKernels(operators(arch), plan)


PLANS = {
    "128 rows": {"rows": 128},
    "64 rows": {"rows": 64},
    "32 rows": {"rows": 32},
    # two stages, and group blocks that keep their bases in global memory
    "little shared memory": {"rows": 64, "shared_limit": 36_000},
    "sm_75": {"arch": TURING, "rows": 64, "shared_limit": 65_536},
    "wgmma": {"engine": "wgmma"},
    "CUDA cores": {"engine": "cores"},
}
# what reads the input, finds borders and makes results is the same code for all of one instruction;
# the other plans differ in how rows, words and chunks are dealt out, which these cases show
IN_FULL = {"32 rows", "sm_75", "wgmma"}
FEW = {"odd channels", "four words", "many chunks", "bases", "shared input", "long row"}
FEW |= {"four bases", "many bases"}


def with_plans(all_cases):
    """(plan, case): every case under a plan in full, few under the others."""
    return [
        pytest.param(plan, case, id=f"{plan}-{case.name}")
        for plan in PLANS
        for case in all_cases
        if plan in IN_FULL or case.name in FEW
    ]


@pytest.fixture
def kernels(plan, operators):
    made = make(operators, **PLANS[plan])
    yield made
    made.check()


@pytest.mark.parametrize(("plan", "case"), with_plans(cases.CONVS))
@pytest.mark.parametrize("check", [cases.check_sum, cases.check_bits, cases.check_real])
def test_convolution(kernels, check, case):
    check(kernels, "cpu", case)


@pytest.mark.parametrize(("plan", "case"), with_plans(cases.MERGES))
def test_merge(kernels, case):
    cases.check_merge(kernels, "cpu", case)


def test_the_few_cases_exist():
    assert {case.name for case in [*cases.CONVS, *cases.MERGES]} >= FEW


@pytest.fixture
def plain(operators):
    made = make(operators)
    yield made
    made.check()


@pytest.mark.parametrize("size", cases.PACKS)
def test_pack_sign(plain, size):
    cases.check_pack(plain, "cpu", size)


@pytest.mark.parametrize("channels", [1, 3, 4, 9])
def test_quantize(plain, channels):
    cases.check_quantize(plain, "cpu", channels)


@pytest.mark.parametrize("call", cases.INT8)
def test_int8(plain, call):
    cases.check_int8(plain, "cpu", *call)


@pytest.mark.parametrize("call", cases.UPSAMPLES)
def test_upsample(plain, call):
    cases.check_upsample(plain, "cpu", *call)


def test_a_changed_weight_is_arranged_again(plain):
    shape = ConvShape(64, 64, (1, 1), 1, (1,), 0)
    bits = torch.randint(-(2**31), 2**31, (1, 2, 2, 1, 2)).int()
    weight = layout.pack_weight(torch.randn(64, 64, 1, 1))
    before = plain.conv_sum(bits, weight, shape, torch.int32)
    weight.copy_(layout.pack_weight(-torch.randn(64, 64, 1, 1)))
    after = plain.conv_sum(bits, weight, shape, torch.int32)
    assert not torch.equal(before, after)
    (known,) = plain._prepared.values()
    assert len(known.made) == 1
    assert torch.equal(after, reference.conv_sum(bits, weight, shape, torch.int32))


def test_what_is_kept_goes_with_the_weight(plain):
    shape = ConvShape(64, 64, (1, 1), 1, (1,), 0)
    bits = torch.zeros(1, 2, 2, 1, 2, dtype=torch.int32)
    for _ in range(3):
        weight = layout.pack_weight(torch.randn(64, 64, 1, 1))
        plain.conv_sum(bits, weight, shape, torch.int32)
        plain.conv_sum(bits, weight, replace(shape, padding_value=1), torch.int32)
        del weight
    assert len(plain._prepared) <= 1


def test_misaligned_input(plain):
    shape = ConvShape(128, 64, (3, 3), 1, (1,), 0)
    memory = torch.randint(-(2**31), 2**31, (1 + 3 * 3 * 4,)).int()
    bits = memory[1:].view(1, 3, 3, 1, 4)
    weight = layout.pack_weight(torch.randn(64, 128, 3, 3))
    got = plain.conv_sum(bits, weight, shape, torch.int32)
    assert torch.equal(got, reference.conv_sum(bits, weight, shape, torch.int32))


def test_sizes_that_need_more_than_32_bits_go_to_the_reference(plain):
    shape = ConvShape(3, 4, (1, 1024), 1, (2**20,), 1)
    bits = torch.zeros(1, 2, 2, 1, 1, dtype=torch.int32)
    weight = layout.pack_weight(torch.randn(4, 3, 1, 1024))
    assert not plain._prepared
    with mock.patch.object(reference, "conv_sum") as conv_sum:
        plain.conv_sum(bits, weight, shape, torch.int32)
    conv_sum.assert_called_once()


def test_arrange_keeps_every_word():
    weight = torch.arange(2 * 2 * 3 * 5 * 64, dtype=torch.int32).view(2, 2, 3, 5, 64)
    for wgmma in (False, True):
        arranged = arrange(weight, wgmma)
        assert arranged.shape == (2, 2, 2, 512)
        assert set(weight.flatten().tolist()) == set(arranged.flatten().tolist())


def test_tile_heights():
    plan = Plan("tensor", (9, 0), 132, 232_448)
    assert plan.tile_rows(32 * 120 * 160, 1) == 128
    assert plan.tile_rows(120 * 160, 1) == 64
    assert plan.tile_rows(30 * 40, 4) == 32
    assert replace(plan, rows=64).tile_rows(1, 1) == 64


def test_rate_kernel_runs(operators):
    out = torch.zeros(128, dtype=torch.int32)
    operators(HOPPER).mma_rate(1, 1, out)
    assert out.any()


def test_engines_of_each_generation():
    assert engines((7, 0)) == engines((10, 0)) == engines((12, 0)) == ("cores",)
    assert engines((7, 5)) == engines((8, 9)) == ("tensor", "cores")
    assert engines((9, 0))[0] == "tensor"
