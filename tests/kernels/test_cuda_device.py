"""The CUDA kernels on a GPU against the reference on the CPU. Skipped where there is no GPU."""

from dataclasses import replace

import pytest
import torch
from cuda_emulation import cases

from binseg.kernels import layout, ops, reference
from binseg.kernels.cuda import ENGINES, Kernels, backend, engines
from binseg.kernels.shape import ConvShape

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def chosen():
    kernels = backend(torch.device("cuda", torch.cuda.current_device()))
    assert isinstance(kernels, Kernels)
    return kernels


@pytest.fixture(params=["chosen", 128, 64, 32, "little shared memory", "wgmma", "cores"])
def kernels(request, chosen):
    plan = chosen.plan
    if request.param in ENGINES:
        if request.param not in engines(plan.capability):
            pytest.skip(f"this GPU has no {request.param}")
        plan = replace(plan, engine=request.param)
    elif request.param == "little shared memory":
        plan = replace(plan, rows=64, shared_limit=36_000)
    elif request.param != "chosen":
        if "tensor" not in engines(plan.capability):
            pytest.skip("this GPU has no 1-bit tensor cores")
        plan = replace(plan, engine="tensor", rows=request.param)
    return Kernels(torch.ops.binseg_cuda, plan)


def name_of(case):
    return case.name


LARGE = [
    cases.Case("C64", (1, 120, 160), (64, 64), padding=0),
    cases.Case("C128", (2, 60, 80), (128, 128), padding=1),
    cases.Case("C256", (1, 30, 40), (256, 256), dilations=(1, 8), padding=0, shared=True),
    cases.Case("C512", (1, 30, 40), (512, 512), dilations=(2,), padding=-1),
    cases.Case("stride", (2, 61, 79), (96, 160), stride=2, dilations=(1, 3), padding=0),
]


@pytest.mark.parametrize("case", [*cases.CONVS, *LARGE], ids=name_of)
@pytest.mark.parametrize("check", [cases.check_sum, cases.check_bits, cases.check_real])
def test_convolution(kernels, check, case):
    check(kernels, "cuda", case)


@pytest.mark.parametrize("case", [*cases.MERGES, *LARGE], ids=name_of)
def test_merge(kernels, case):
    cases.check_merge(kernels, "cuda", case)


@pytest.mark.parametrize("size", [*cases.PACKS, (2, 60, 80, 2, 128)])
def test_pack_sign(chosen, size):
    cases.check_pack(chosen, "cuda", size)


@pytest.mark.parametrize("channels", [1, 3, 4, 9])
def test_quantize(chosen, channels):
    cases.check_quantize(chosen, "cuda", channels)


@pytest.mark.parametrize("call", [*cases.INT8, ((1, 240, 320), (3, 64), (7, 7), 2)])
def test_int8(chosen, call):
    cases.check_int8(chosen, "cuda", *call)


@pytest.mark.parametrize("call", [*cases.UPSAMPLES, ((2, 30, 40, 19), (480, 640))])
def test_upsample(chosen, call):
    cases.check_upsample(chosen, "cuda", *call)


@pytest.fixture
def block(chosen):
    """Arguments of `ops.conv_merge` on the GPU, and its results on the CPU."""
    case = cases.Case("block", (1, 30, 40), (64, 64), dilations=(1, 2, 4), padding=0, shared=True)
    bits, weight = case.inputs()
    curve = case.parameters(3) / case.shape.terms
    residual, lambdas, gates = torch.randn(case.output(1)), torch.rand(3), torch.rand(3)
    wanted = reference.conv_merge(
        bits, weight, case.shape, curve, False, residual, lambdas, gates, True, True
    )
    moved = [t.cuda() for t in (bits, weight, curve, residual, lambdas, gates)]
    return case.shape, moved, wanted


def run_block(shape, bits, weight, curve, residual, lambdas, gates):
    return ops.conv_merge(bits, weight, shape, curve, residual, lambdas, gates=gates)


def assert_merged(got, wanted):
    for one, other in zip(got[:2], wanted[:2], strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=1e-5)
    assert torch.equal(got[2].cpu(), reference.pack_sign(got[0].cpu()))


@pytest.mark.parametrize("warm", [False, True])
def test_graph_capture_and_replay(block, warm):
    shape, tensors, wanted = block
    bits = tensors[0]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    if warm:
        with torch.cuda.stream(stream):
            run_block(shape, *tensors)
    torch.cuda.synchronize()
    own = torch.zeros_like(bits)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = run_block(shape, own, *tensors[1:])
    own.copy_(bits)
    graph.replay()
    torch.cuda.synchronize()
    assert_merged(results, wanted)
    # and what the capture left behind does no harm outside of it
    assert_merged(run_block(shape, *tensors), wanted)


def test_another_stream(block):
    shape, tensors, wanted = block
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        late = [t.clone() for t in tensors]
        results = run_block(shape, *late)
    stream.synchronize()
    assert_merged(results, wanted)


CHECKS = ("test_schema", "test_faketensor", "test_aot_dispatch_static", "test_aot_dispatch_dynamic")


def _calls():
    shape = ConvShape(33, 40, (3, 3), 1, (1, 2), 0)
    numbers = (33, 40, (3, 3), 1, (1, 2), 0)
    bits = torch.randint(-(2**31), 2**31, (1, 5, 6, 1, 2)).int().cuda()
    bits[..., 1] &= 1
    weight = layout.pack_weight(torch.randn(80, 33, 3, 3), 2).cuda()
    limits = torch.zeros(80, dtype=torch.int32).cuda(), torch.full((80,), 99).int().cuda()
    curve, lambdas = torch.randn(3, 80).cuda(), torch.rand(2).cuda()
    residual = torch.randn(1, *shape.output_size(5, 6), 1, 40).cuda()
    post = torch.randn(4, 80).cuda()
    eight = torch.randint(0, 256, (1, 6, 6, 4)).byte().cuda()
    kernel = layout.pack_int8_weight(torch.randint(-9, 9, (8, 3, 3, 3)).to(torch.int8)).cuda()
    first, scale = (3, 8, (3, 3), 2, (1,), 0), torch.randn(2, 8).cuda()
    yield "pack_sign", (torch.randn(2, 3, 4, 2, 33).cuda(), torch.randn(2, 2, 66).cuda())
    yield "conv_sum", (bits, weight, *numbers, torch.int16)
    yield "conv_bits", (bits, weight, *numbers, *limits)
    yield "conv_real", (bits, weight, *numbers, curve, False, residual, True, post)
    yield (
        "conv_merge",
        (bits, weight, *numbers, curve, False, residual, lambdas, lambdas, True, True),
    )
    yield "quantize", (torch.randn(1, 4, 4, 3).cuda(), 30.0, 114)
    yield "conv_int8", (eight, kernel, *first, 114, scale, True)
    yield "conv_int8_pool", (eight, kernel, *first, 114, scale)
    yield "upsample_argmax", (torch.randn(1, 3, 4, 5).cuda(), 7, 9)


@pytest.mark.parametrize(
    "name",
    [
        "pack_sign",
        "conv_sum",
        "conv_bits",
        "conv_real",
        "conv_merge",
        "quantize",
        "conv_int8",
        "conv_int8_pool",
        "upsample_argmax",
    ],
)
def test_opcheck(chosen, name):
    arguments = dict(_calls())[name]
    torch.library.opcheck(getattr(torch.ops.binseg, name).default, arguments, test_utils=CHECKS)
