"""Every backend of this machine against the reference, over shapes that hypothesis chooses."""

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
from binseg.kernels.layout import (
    pack_bits,
    pack_int8_weight,
    pack_weight,
    unpack_bits,
    unpack_weight,
)
from binseg.kernels.shape import ConvShape


def test_reference_is_an_ordinary_convolution():
    """The reference itself, against torch's convolution of an explicitly padded picture."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, 5, 7), torch.randn(10, 3, 3, 3)
    shape = ConvShape(3, 5, (3, 3), 2, (1, 2), 1)
    with dispatch.use("reference"):
        sums = ops.conv_sum(ops.pack_sign(ops.nhwc(x, 2)), pack_weight(weight, 2), shape)
    for base, dilation in enumerate(shape.dilations):
        signs = torch.where(x[:, 3 * base : 3 * base + 3] >= 0, 1.0, -1.0)
        kernel = torch.where(weight[5 * base : 5 * base + 5] >= 0, 1.0, -1.0)
        padded = F.pad(signs, [dilation] * 4, value=1.0)
        expected = F.conv2d(padded, kernel, None, 2, 0, dilation)
        assert torch.equal(sums[:, :, :, base].permute(0, 3, 1, 2), expected.int())


@property_based
@given(convolutions())
def test_sums_are_exact(case):
    shape, bits, weight = case
    for dtype in (torch.int32, torch.int16):
        expected, results = everywhere(lambda d=dtype: ops.conv_sum(bits, weight, shape, dtype=d))
        for name, result in results:
            assert torch.equal(result, expected), name


@property_based
@given(convolutions())
def test_thresholds_are_exact(case):
    shape, bits, weight = case
    channels = shape.bases * shape.out_channels
    low = torch.randint(-40, 40, (channels,), dtype=torch.int32)
    span = torch.randint(-(2**31), 2**31 - 1, (channels,), dtype=torch.int32)
    span[::2] = torch.randint(0, 30, span[::2].shape, dtype=torch.int32)
    expected, results = everywhere(lambda: ops.conv_bits(bits, weight, shape, low, span))
    for name, result in results:
        assert torch.equal(result, expected), name


@property_based
@given(convolutions(), st.booleans(), st.sampled_from(["none", "shared", "own"]), st.booleans())
def test_real_results(case, tanh, residual_kind, pack):
    shape, bits, weight = case
    curve = torch.randn(3, shape.bases * shape.out_channels) * 0.1
    residual = None
    if residual_kind != "none":
        bases = 1 if residual_kind == "shared" else shape.bases
        residual = torch.randn(*output_size(bits, shape), bases, shape.out_channels)
    (expected, _), results = everywhere(
        lambda: ops.conv_real(bits, weight, shape, curve, tanh=tanh, residual=residual, pack=pack)
    )
    for name, (values, signs) in results:
        torch.testing.assert_close(values, expected, atol=2e-5, rtol=2e-5, msg=name)
        # the signs are those of this backend's own values, exactly
        assert torch.equal(signs, pack_bits(values >= 0) if pack else signs.new_empty(0)), name


@property_based
@given(convolutions(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_merged_results(case, tanh, gated, shared, keep_merged, pack):
    shape, bits, weight = case
    curve = torch.randn(3, shape.bases * shape.out_channels) * 0.1
    residual = torch.randn(
        *output_size(bits, shape), 1 if shared else shape.bases, shape.out_channels
    )
    lambdas, gates = torch.rand(shape.bases), torch.rand(shape.bases) if gated else None
    expected, results = everywhere(
        lambda: ops.conv_merge(
            bits,
            weight,
            shape,
            curve,
            residual,
            lambdas,
            gates=gates,
            tanh=tanh,
            keep_merged=keep_merged,
            pack=pack,
        )
    )
    for name, (branches, merged, signs) in results:
        torch.testing.assert_close(branches, expected[0], atol=5e-5, rtol=5e-5, msg=name)
        torch.testing.assert_close(merged, expected[1], atol=5e-5, rtol=5e-5, msg=name)
        read_next = branches if gated else merged
        assert torch.equal(signs, pack_bits(read_next >= 0) if pack else signs.new_empty(0)), name


def test_merge_by_hand():
    """Two bases of one pixel and one channel: s = ±1, residual, λ and a gate."""
    shape = ConvShape(1, 1, (1, 1), 1, (1, 1), 1)
    bits = pack_bits(torch.tensor([[True], [False]])).view(1, 1, 1, 2, 1)
    weight = pack_weight(torch.ones(2, 1, 1, 1), 2)
    curve = torch.tensor([[2.0, 2.0], [3.0, 3.0], [0.5, 0.5]])
    residual = torch.tensor([10.0, 20.0]).view(1, 1, 1, 2, 1)
    lambdas, gates = torch.tensor([1.0, 0.5]), torch.tensor([1.0, 0.25])
    branches, merged, _ = ops.conv_merge(bits, weight, shape, curve, residual, lambdas, gates=gates)
    first, second = 2 * 1 + 0.5 + 10, 3 * -1 + 0.5 + 20
    total = first + 0.5 * second
    assert merged.item() == total
    assert branches.flatten().tolist() == [first, 0.25 * second + 0.75 * total]


@property_based
@given(SIZES, SIZES, st.integers(1, 3), CHANNELS, st.sampled_from(["nchw", "nhwc", "odd"]))
def test_packing(height, width, bases, channels, layout):
    x = torch.randn(2, bases * channels, height, width)
    x[x.abs() < 0.1] = -0.0
    x[x > 2] = float("nan")
    if layout == "nhwc":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "odd":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    for dtype in (torch.float32, torch.bfloat16):
        view = ops.nhwc(x.to(dtype), bases)
        expected, results = everywhere(lambda v=view: ops.pack_sign(v))
        assert torch.equal(unpack_bits(expected, channels), view >= 0)
        for name, result in results:
            assert torch.equal(result, expected), name


@property_based
@given(convolutions(), st.integers(0, 255), st.booleans(), st.booleans())
def test_bytes(case, zero_point, relu, channels_last):
    shape, _, _ = case
    shape = ConvShape(shape.in_channels, shape.out_channels, shape.kernel, shape.stride, (2,), 0)
    x = torch.randn(1, shape.in_channels, 6, 9)
    x[0, 0, 0, 0], x[0, -1, -1, -1] = float("nan"), float("inf")
    view = ops.nhwc(
        x.contiguous(memory_format=torch.channels_last) if channels_last else x
    ).squeeze(3)
    levels, results = everywhere(lambda: ops.quantize(view, 37.3, zero_point))
    for name, result in results:
        assert torch.equal(result, levels), name
    weight = torch.randint(
        -127, 128, (shape.out_channels, shape.in_channels, *shape.kernel), dtype=torch.int8
    )
    packed = pack_int8_weight(weight)
    # a scale of 1 shows the sums themselves, which float32 holds exactly up to 2²⁴
    unit = torch.stack([torch.ones(shape.out_channels), torch.zeros(shape.out_channels)])
    curve = torch.stack([torch.rand(shape.out_channels) * 0.01, torch.randn(shape.out_channels)])
    sums, results = everywhere(lambda: ops.conv_int8(levels, packed, shape, zero_point, unit))
    for name, result in results:
        assert torch.equal(result, sums), name
    expected, results = everywhere(
        lambda: ops.conv_int8(levels, packed, shape, zero_point, curve, relu=relu)
    )
    for name, result in results:
        torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-5, msg=name)
    expected, results = everywhere(
        lambda: ops.conv_int8_pool(levels, packed, shape, zero_point, curve)
    )
    for name, (values, signs) in results:
        torch.testing.assert_close(values, expected[0], atol=1e-3, rtol=1e-5, msg=name)
        assert torch.equal(signs, pack_bits(values >= 0)), name


def test_bytes_by_hand():
    """(2 − 1)·3 + (5 − 1)·(−4) = −13, and a border of the zero point adds nothing."""
    x = torch.tensor([2, 5, 0, 0], dtype=torch.uint8).view(1, 1, 1, 4)
    weight = torch.zeros(1, 2, 3, 3, dtype=torch.int8)
    weight[0, :, 1, 1] = torch.tensor([3, -4])
    weight[0, :, 0, 0] = 100
    shape = ConvShape(2, 1, (3, 3), 1, (1,), 0)
    zero_point = 1
    offset = -zero_point * int(weight.sum())
    curve = torch.tensor([[1.0], [float(offset)]])
    result = ops.conv_int8(x, pack_int8_weight(weight), shape, zero_point, curve)
    assert result.item() == -13


@property_based
@given(SIZES, SIZES, st.integers(1, 40), st.integers(1, 90), st.sampled_from([1, 2, 21, 255]))
def test_upsampling(height, width, to_height, to_width, classes):
    scores = torch.randn(2, classes, height, width) * 3
    wide = F.interpolate(scores, size=(to_height, to_width), mode="bilinear", align_corners=False)
    top = wide.topk(min(2, classes), dim=1).values
    clear = (top[:, 0] - top[:, -1] > 1e-4) | (classes == 1)
    for name in ("reference", *BACKENDS):
        with dispatch.use(name):
            ids = ops.upsample_argmax(ops.nhwc(scores).squeeze(3), to_height, to_width)
        assert torch.equal(ids[clear].long(), wide.argmax(dim=1)[clear]), name


def test_upsampling_prefers_the_lowest_class(backend):
    assert ops.upsample_argmax(torch.zeros(1, 3, 4, 5), 9, 9).eq(0).all()


def test_threads_give_the_same(backend):
    torch.manual_seed(0)
    shape = ConvShape(64, 64, (3, 3), 1, (1, 2), 0)
    bits = ops.pack_sign(torch.randn(2, 33, 21, 2, 64))
    weight = pack_weight(torch.randn(128, 64, 3, 3), 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ops.conv_sum(bits, weight, shape)
        torch.set_num_threads(3)
        assert torch.equal(ops.conv_sum(bits, weight, shape), one)
    finally:
        torch.set_num_threads(before)


def test_large_results_are_written_past_the_caches(backend):
    """Branches of a million elements and more take another way to memory."""
    torch.manual_seed(0)
    shape = ConvShape(32, 64, (1, 1), 1, (1, 1), 1)
    bits = ops.pack_sign(torch.randn(1, 96, 96, 2, 32))
    weight = pack_weight(torch.randn(128, 32, 1, 1), 2)
    arguments = (
        bits,
        weight,
        shape,
        torch.randn(3, 128),
        torch.randn(1, 96, 96, 2, 64),
        torch.rand(2),
    )
    gates = torch.rand(2)
    branches = ops.conv_merge(*arguments, gates=gates)[0]
    assert branches.numel() > 2**20
    with dispatch.use("reference"):
        expected = ops.conv_merge(*arguments, gates=gates)[0]
    torch.testing.assert_close(branches, expected, atol=1e-4, rtol=1e-4)


def test_weights_survive_packing():
    weight = torch.randn(6, 33, 3, 2)
    packed = pack_weight(weight, 2)
    assert packed.shape == (2, 1, 6, 2, 64)
    assert torch.equal(unpack_weight(packed, 33, 3).flatten(), (weight >= 0).flatten())
