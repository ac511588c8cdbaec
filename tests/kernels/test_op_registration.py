"""The operators as torch sees them: schemas, fakes, compile, export, bad arguments."""

import pytest
import torch

from binseg.errors import BinsegError
from binseg.kernels import ops
from binseg.kernels.layout import pack_int8_weight, pack_weight
from binseg.kernels.shape import ConvShape

SHAPE = ConvShape(40, 33, (3, 3), 2, (1, 2), 0)
INTS = (40, 33, (3, 3), 2, (1, 2), 0)


def convolution():
    torch.manual_seed(0)
    bits = ops.pack_sign(torch.randn(2, 5, 7, 2, 40))
    return bits, pack_weight(torch.randn(66, 40, 3, 3), 2)


def calls():
    bits, weight = convolution()
    curve, ids = torch.randn(3, 66), torch.zeros(66, dtype=torch.int32)
    residual, unit = torch.randn(2, 3, 4, 2, 33), torch.rand(2)
    eight = (
        ops.quantize(torch.randn(1, 5, 6, 3), 30.0, 100),
        pack_int8_weight(torch.randint(-9, 9, (5, 3, 3, 3), dtype=torch.int8)),
        3,
        5,
        (3, 3),
        1,
        (1,),
        0,
        100,
        torch.rand(2, 5),
    )
    return {
        "pack_sign": (torch.randn(2, 2, 3, 2, 40), torch.randn(2, 2, 80)),
        "conv_sum": (bits, weight, *INTS, torch.int32),
        "conv_bits": (bits, weight, *INTS, ids, ids),
        "conv_real": (bits, weight, *INTS, curve, False, residual, True, torch.randn(4, 66)),
        "conv_merge": (bits, weight, *INTS, curve, True, residual, unit, unit, True, True),
        "quantize": (torch.randn(1, 4, 5, 3), 20.0, 128),
        "conv_int8": (*eight, True),
        "conv_int8_pool": eight,
        "upsample_argmax": (torch.randn(1, 3, 4, 5), 9, 8),
    }


@pytest.mark.parametrize("name", calls())
def test_opcheck(name):
    torch.library.opcheck(getattr(torch.ops.binseg, name), calls()[name])


class Block(torch.nn.Module):
    """A few operators in a row."""

    def __init__(self):
        super().__init__()
        _, weight = convolution()
        self.register_buffer("weight", weight)
        self.register_buffer("curve", torch.randn(3, 66) * 0.1)

    def forward(self, x):
        bits = ops.pack_sign(ops.nhwc(x, 2))
        values, signs = ops.conv_real(bits, self.weight, SHAPE, self.curve)
        return ops.nchw(values), signs


def test_compile():
    block, x = Block(), torch.randn(2, 80, 5, 7)
    expected = block(x)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)(x)
    for one, other in zip(compiled, expected, strict=True):
        assert torch.equal(one, other)


def test_export():
    block, x = Block(), torch.randn(2, 80, 5, 7)
    program = torch.export.export(block, (x,))
    for one, other in zip(program.module()(x), block(x), strict=True):
        assert torch.equal(one, other)


def expect_error(match, function, *arguments, **keywords):
    with pytest.raises(BinsegError, match=match):
        function(*arguments, **keywords)


def test_wrong_arguments_are_refused():
    bits, weight = convolution()
    curve = torch.randn(3, 66)
    expect_error("bits must be", ops.conv_sum, bits.float(), weight, SHAPE)
    expect_error("bits must be", ops.conv_sum, bits[..., :1], weight, SHAPE)
    expect_error("bits must be", ops.conv_sum, bits[0], weight, SHAPE)
    expect_error("weight must be", ops.conv_sum, bits, weight[:, :, :8], SHAPE)
    expect_error("weight must be", ops.conv_sum, bits, weight.float(), SHAPE)
    expect_error("cannot be", ops.conv_sum, bits, weight, SHAPE, dtype=torch.int64)
    expect_error("curve must be", ops.conv_real, bits, weight, SHAPE, curve[:2])
    expect_error("curve must be", ops.conv_real, bits, weight, SHAPE, curve.double())
    expect_error(
        "residual must be", ops.conv_real, bits, weight, SHAPE, curve, residual=torch.zeros(3)
    )
    expect_error("post must be", ops.conv_real, bits, weight, SHAPE, curve, post=curve)
    expect_error(
        "post must be", ops.conv_real, bits, weight, SHAPE, curve, post=torch.zeros(4, 66).half()
    )
    x = torch.zeros(3, 2, 2, 2, 5)
    for affine in (
        torch.zeros(2, 5),
        torch.zeros(20),
        torch.zeros(1, 2, 10),
        torch.zeros(1, 3, 2, 10),
        torch.zeros(2, 10).double(),
    ):
        expect_error("affine must be", ops.pack_sign, x, affine)
    expect_error("low must be", ops.conv_bits, bits, weight, SHAPE, curve[0], curve[0])
    expect_error("at least one pixel", ops.conv_sum, bits[:, :0], weight, SHAPE)
    expect_error("x must be", ops.pack_sign, torch.zeros(1, 2, 3, 4))
    expect_error("x must be", ops.pack_sign, torch.zeros(1, 2, 3, 4, 5, dtype=torch.int32))
    expect_error("inverse scale", ops.quantize, torch.zeros(1, 2, 3, 4), 0.0, 5)
    expect_error("zero point", ops.quantize, torch.zeros(1, 2, 3, 4), 1.0, 256)
    expect_error("1 to 255 classes", ops.upsample_argmax, torch.zeros(1, 2, 3, 256), 4, 4)
    expect_error("cannot resize", ops.upsample_argmax, torch.zeros(1, 2, 3, 4), 0, 4)


def test_too_many_bases_to_merge():
    shape = ConvShape(1, 1, (1, 1), 1, (1,) * 9, 1)
    bits = ops.pack_sign(torch.randn(1, 2, 2, 9, 1))
    weight = pack_weight(torch.randn(9, 1, 1, 1), 9)
    residual = torch.zeros(1, 2, 2, 9, 1)
    expect_error(
        "8 bases",
        ops.conv_merge,
        bits,
        weight,
        shape,
        torch.zeros(3, 9),
        residual,
        torch.ones(9),
    )


def test_huge_maps_are_refused():
    """Sizes are checked before any memory is asked for."""
    bits = torch.zeros(1, dtype=torch.int32).expand(1, 60_000, 60_000, 1, 1)
    weight = pack_weight(torch.randn(64, 32, 1, 1))
    shape = ConvShape(32, 64, (1, 1), 1, (1,), 1)
    expect_error("too large", ops.conv_sum, bits, weight, shape)


@pytest.mark.parametrize(
    "numbers",
    [
        (0, 1, (3, 3), 1, (1,), 1),
        (1, 1, (3, 0), 1, (1,), 1),
        (1, 1, (3, 3), 0, (1,), 1),
        (1, 1, (3, 3), 1, (), 1),
        (1, 1, (3, 3), 1, (1,), 2),
        (2**21, 1, (3, 3), 1, (1,), 1),
        (2**20, 1, (2**10, 2**10), 1, (1,), 1),
    ],
)
def test_impossible_shapes_are_refused(numbers):
    with pytest.raises(BinsegError):
        ConvShape(*numbers)


def test_gaps_in_memory_do_no_harm():
    """Tensors that are not contiguous give what their copies give."""
    bits, weight = convolution()
    spaced = torch.stack([bits, bits], dim=-1)[..., 0]
    assert not spaced.is_contiguous()
    assert torch.equal(ops.conv_sum(spaced, weight, SHAPE), ops.conv_sum(bits, weight, SHAPE))
    curve, post = torch.randn(3, 66), torch.randn(66, 4).t()
    results = [ops.conv_real(bits, weight, SHAPE, curve, post=p) for p in (post, post.contiguous())]
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    x, affine = torch.randn(3, 2, 2, 1, 33), torch.randn(33, 2, 3).permute(2, 1, 0)
    assert torch.equal(ops.pack_sign(x, affine), ops.pack_sign(x, affine.contiguous()))
