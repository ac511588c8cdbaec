"""What is folded into a kernel beside a shortcut: BatchNorm, PReLU and learnt thresholds."""

from fractions import Fraction

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import (
    BACKENDS,
    CHANNELS,
    SIZES,
    convolutions,
    everywhere,
    output_size,
    property_based,
)

from binseg.kernels import dispatch, ops
from binseg.kernels.layout import pack_bits, pack_weight, unpack_bits
from binseg.kernels.shape import ConvShape

NAN, INF = float("nan"), float("inf")


def some_zeros(*size):
    values = torch.randn(size)
    return values.masked_fill_(torch.rand(size) < 0.2, 0.0)


def laid_out(x, layout):
    """The same NCHW values in another order of memory."""
    if layout == "nhwc":
        return x.contiguous(memory_format=torch.channels_last)
    return x.transpose(2, 3).contiguous().transpose(2, 3) if layout == "odd" else x


@property_based
@given(
    st.integers(0, 3),
    SIZES,
    SIZES,
    st.integers(1, 3),
    CHANNELS,
    st.sampled_from(["nchw", "nhwc", "odd"]),
    st.booleans(),
)
def test_signs_of_scaled_maps(number, height, width, bases, channels, layout, of_each_picture):
    x = some_zeros(number, bases * channels, height, width)
    x[x > 2] = NAN
    x[x < -2] = -0.0
    affine = some_zeros(*((number,) if of_each_picture else ()), 2, bases * channels)
    for dtype in (torch.float32, torch.bfloat16):
        view = ops.nhwc(laid_out(x, layout).to(dtype), bases)
        expected, results = everywhere(lambda v=view: ops.pack_sign(v, affine))
        for name, result in results:
            assert torch.equal(result, expected), name
        # none of these values is near enough to 0 for a second rounding to change its sign
        gain, shift = affine.unsqueeze(-1).unsqueeze(-1).unbind(-4)
        values = ops.nhwc(x.to(dtype).double() * gain + shift, bases)
        assert torch.equal(unpack_bits(expected, channels), values >= 0)


def signs_by_backend(x, gain, shift):
    """(backend, bool (C,)) of a pixel with C channels, in three orders of memory."""
    planes = x.unsqueeze(1).repeat(1, 6).t()  # pixels side by side
    views = x.unsqueeze(0), planes[:3], planes[::2]
    for name in ("reference", *BACKENDS):
        with dispatch.use(name):
            for view in views:
                bits = ops.pack_sign(view[None, None, :, None], torch.stack([gain, shift]))
                yield name, unpack_bits(bits, x.numel())[0, 0, -1, 0]


def test_gain_and_shift_are_rounded_once():
    """Where the shift cancels the rounded product, the sign is that of what was rounded off."""
    torch.manual_seed(0)
    x, gain = torch.randn(224), torch.randn(224)
    shift = -(x * gain)
    exact = [
        Fraction(a) * Fraction(b) + Fraction(c) >= 0
        for a, b, c in zip(x.tolist(), gain.tolist(), shift.tolist(), strict=True)
    ]
    assert 50 < sum(exact) < 150
    for name, signs in signs_by_backend(x, gain, shift):
        assert signs.tolist() == exact, name


def test_special_values_of_gain_and_shift():
    smallest = 2.0**-75
    cases = [
        (3.0, 0.0, 0.0, True),
        (-3.0, 0.0, 0.0, True),
        (-0.0, 1.0, -0.0, True),
        (0.0, -2.0, 0.0, True),
        (1.0, -2.0, 1.0, False),
        (-1.0, -2.0, -1.0, True),
        (NAN, 0.0, 1.0, False),
        (INF, 0.0, 1.0, False),
        (INF, -1.0, 1.0, False),
        (3e38, -3e38, 1.0, False),
        (3e38, 3e38, -3e38, True),
        # a negative number too small for float32 becomes -0
        (-1e-30, 1e-30, 0.0, True),
        (-smallest, smallest, 0.0, True),
        (-smallest * (1 + 2.0**-23), smallest, 0.0, False),
    ]
    x, gain, shift, expected = zip(*cases, strict=True)
    rows = torch.tensor(x), torch.tensor(gain), torch.tensor(shift)
    for name, signs in signs_by_backend(*rows):
        assert signs.tolist() == list(expected), name


@property_based
@given(convolutions(), st.booleans(), st.sampled_from(["none", "shared", "own"]), st.booleans())
def test_post_is_torch_s_arithmetic(case, tanh, residual_kind, pack):
    """Bit for bit what torch makes of the values that come without it."""
    shape, bits, weight = case
    channels = shape.bases * shape.out_channels
    curve, post = torch.randn(3, channels) * 0.1, some_zeros(4, channels)
    residual = None
    if residual_kind != "none":
        bases = 1 if residual_kind == "shared" else shape.bases
        residual = some_zeros(*output_size(bits, shape), bases, shape.out_channels)
        residual[residual > 2] = NAN
    for name in ("reference", *BACKENDS):
        with dispatch.use(name):
            options = {"tanh": tanh, "residual": residual, "pack": pack}
            before, _ = ops.conv_real(bits, weight, shape, curve, **options)
            values, signs = ops.conv_real(bits, weight, shape, curve, post=post, **options)
        rows = before.view(-1, channels)
        expected = (F.prelu(rows + post[0], post[1]) + post[2]).view(before.shape)
        torch.testing.assert_close(values, expected, rtol=0, atol=0, equal_nan=True, msg=name)
        positive = (expected.view(-1, channels) + post[3] >= 0).view(before.shape)
        assert torch.equal(signs, pack_bits(positive) if pack else signs.new_empty(0)), name


def test_post_by_hand(backend):
    """s = ±1 of two channels: y = 2·s + 0.5, then (y + 1, or 0.25·(y + 1)) − 3, and a threshold."""
    shape = ConvShape(1, 2, (1, 1), 1, (1,), 1)
    bits = pack_bits(torch.tensor([[True]])).view(1, 1, 1, 1, 1)
    weight = pack_weight(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    curve = torch.tensor([[2.0, 2.0], [2.0, 2.0], [0.5, 0.5]])
    post = torch.tensor([[1.0, 1.0], [0.25, 0.25], [-3.0, -3.0], [-0.5, 3.125]])
    values, signs = ops.conv_real(bits, weight, shape, curve, post=post)
    assert values.flatten().tolist() == [3.5 - 3, 0.25 * -0.5 - 3]
    assert unpack_bits(signs, 2).flatten().tolist() == [True, True]  # both sums are 0
    post[3] -= 2**-10
    _, signs = ops.conv_real(bits, weight, shape, curve, post=post)
    assert unpack_bits(signs, 2).flatten().tolist() == [False, False]
    post[3] = NAN
    _, signs = ops.conv_real(bits, weight, shape, curve, post=post)
    assert unpack_bits(signs, 2).flatten().tolist() == [False, False]
