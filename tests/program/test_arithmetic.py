"""The arithmetic of programs: against fractions where it is exact, else against torch and math."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact import fma_array, round_to_float32

from binseg.program.arithmetic import (
    bilinear,
    fma,
    nearest,
    round_bfloat16,
    sigmoid,
    tanh,
    upsample_argmax,
)
from binseg.program.tensors import from_bfloat16, pack_bits, to_bfloat16, unpack_bits


def float32(*values):
    return np.array(values, np.float32)


def same_bits(a, b):
    return a.dtype == b.dtype == np.float32 and (a.view(np.uint32) == b.view(np.uint32)).all()


def any_float32(rng, count):
    """Random bit patterns without nan and infinity: all exponents alike."""
    values = rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(1))


def test_fma_of_any_numbers():
    rng = np.random.default_rng(0)
    a, b, c = (any_float32(rng, 3000) for _ in range(3))
    assert same_bits(fma(a, b, c) + 0, fma_array(a, b, c) + 0)


def test_fma_where_product_and_sum_are_of_one_size():
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=3000).astype(np.float32) for _ in range(2))
    c = -(a * b) * rng.choice([1, 1 + 2**-20, 3, 2**-24], 3000).astype(np.float32)
    assert same_bits(fma(a, b, c) + 0, fma_array(a, b, c) + 0)


def test_fma_of_products_far_below_the_addend():
    rng = np.random.default_rng(2)
    # odd·odd products have 48 bits, the lowest of which lie below a float64's last
    a, b = ((rng.integers(1 << 23, 1 << 24, 5000) | 1).astype(np.float32) for _ in range(2))
    b *= np.float32(2) ** rng.integers(-80, -54, 5000).astype(np.float32)
    c = (1 + rng.integers(0, 1 << 23, 5000) * 2.0**-23).astype(np.float32)
    assert same_bits(fma(a, b, c), fma_array(a, b, c))


@pytest.mark.parametrize("scale", [2.0**-90, 2.0**-10, 1.0, 2.0**100])
def test_fma_a_hair_beside_the_middle_of_two_numbers(scale):
    # the product is ±(2⁻²⁴ − 2⁻⁷⁰), the addend odd in its last place
    a = float32(1 + 2**-23, -1 - 2**-23)
    b = np.float32((1 - 2**-23) * 2.0**-24 * scale)
    c = float32(1 + 2**-23, 1 + 2**-23) * np.float32(scale)
    exact = fma_array(a, b, c)
    assert same_bits(fma(a, b, c), exact)
    # rounding to float64 first makes both even
    assert ((a.astype(np.float64) * b + c).astype(np.float32) != exact).all()


def test_fma_among_subnormals():
    rng = np.random.default_rng(3)
    a = rng.normal(size=4000).astype(np.float32)
    b = (rng.normal(size=4000) * 2.0**-130).astype(np.float32)
    c = (rng.normal(size=4000) * 2.0**-140).astype(np.float32)
    assert same_bits(fma(a, b, c) + 0, fma_array(a, b, c) + 0)


def test_fma_a_hair_beside_the_middle_of_two_subnormals():
    a, b = float32(-(1 + 2**-23) * 2.0**-50), float32((1 - 2**-23) * 2.0**-100)
    c = float32(2.0**-130 + 2.0**-149)
    exact = fma_array(a, b, c)
    assert same_bits(fma(a, b, c), exact)
    assert (a.astype(np.float64) * b + c).astype(np.float32) != exact


def test_fma_overflows_to_infinity():
    big = np.float32(3e38)
    assert fma(float32(3e38, -3e38), float32(2), float32(0)).tolist() == [math.inf, -math.inf]
    # an overflow that the addend takes back is none
    assert fma(float32(3e38), float32(2), -float32(3e38))[0] == round_to_float32(
        2 * int(big) - int(big)
    )


def test_fma_broadcasts():
    rng = np.random.default_rng(4)
    a, b, c = rng.normal(size=(5, 1)), rng.normal(size=7), rng.normal(size=(5, 7))
    a, b, c = (x.astype(np.float32) for x in (a, b, c))
    assert same_bits(fma(a, b, c), fma_array(a, b, c))
    assert fma(a[:0], b, c[:0]).shape == (0, 7)


def test_bfloat16_as_torch():
    rng = np.random.default_rng(5)
    values = np.concatenate(
        [any_float32(rng, 5000), rng.normal(size=5000), [0, -0.0, np.inf, -np.inf, np.nan]]
    ).astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16)
    assert (to_bfloat16(values[:-1]) == expected[:-1].view(torch.uint16).numpy()).all()
    assert np.isnan(from_bfloat16(to_bfloat16(values))[-1])
    np.testing.assert_array_equal(round_bfloat16(values), expected.float().numpy())


@pytest.mark.parametrize("count", [1, 7, 8, 9, 65])
def test_bits_lowest_first(count):
    signs = np.random.default_rng(count).normal(size=count)
    packed = pack_bits(signs)
    assert packed.shape == (-(-count // 8),)
    number = int.from_bytes(packed.tobytes(), "little")
    assert [number >> i & 1 for i in range(8 * len(packed))] == [
        *(int(s >= 0) for s in signs),
        *[0] * (8 * len(packed) - count),
    ]
    assert (unpack_bits(packed, (count, 1)) == (signs >= 0)[:, None]).all()
    assert pack_bits(np.zeros(1)).tolist() == [1]  # sign(0) = +1


def test_tanh_and_sigmoid():
    x = np.concatenate([np.linspace(-12, 12, 20001), [0, 1e-30, -1e-30, 1e30, -1e30]])
    x = x.astype(np.float32)
    exact = np.array([math.tanh(float(v)) for v in x])
    assert np.abs(tanh(x) - exact).max() < 5 * 2.0**-24
    assert np.abs(tanh(x) / np.where(x == 0, 1, exact) - (x != 0)).max() < 8 * 2.0**-23
    logistic = np.array([0.5 * math.tanh(float(v) / 2) + 0.5 for v in x])
    assert np.abs(sigmoid(x) - logistic).max() < 4 * 2.0**-24
    assert (tanh(-x) == -tanh(x)).all()


SIZES = [((1, 1), (5, 7)), ((7, 5), (1, 1)), ((4, 6), (9, 31)), ((13, 9), (6, 5)), ((8, 8), (8, 8))]


def torch_resize(x, size, **how):
    return F.interpolate(torch.from_numpy(x).permute(2, 0, 1)[None], size, **how)[0].permute(
        1, 2, 0
    )


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_as_torch(old, new, align_corners):
    x = np.random.default_rng(6).normal(size=(*old, 3)).astype(np.float32)
    expected = torch_resize(x.astype(np.float64), new, mode="bilinear", align_corners=align_corners)
    found = bilinear(x, *new, align_corners=align_corners)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=5e-6)


def test_bilinear_by_hand():
    x = np.array([[[0.0], [4.0]], [[8.0], [12.0]]], np.float32)
    assert bilinear(x, 4, 4)[:, :, 0].tolist() == [
        [0, 1, 3, 4],
        [2, 3, 5, 6],
        [6, 7, 9, 10],
        [8, 9, 11, 12],
    ]
    assert bilinear(x, 3, 3, align_corners=True)[:, :, 0].tolist() == [
        [0, 2, 4],
        [4, 6, 8],
        [8, 10, 12],
    ]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_nearest_as_torch(old, new):
    x = np.random.default_rng(7).normal(size=(*old, 2)).astype(np.float32)
    np.testing.assert_array_equal(nearest(x, *new), torch_resize(x, new, mode="nearest").numpy())


@pytest.mark.parametrize(("old", "new"), [*SIZES, ((30, 40), (700, 900))])
def test_upsample_argmax_is_the_argmax_of_bilinear(old, new):
    scores = np.random.default_rng(8).normal(size=(*old, 11)).astype(np.float32)
    found = upsample_argmax(scores, *new)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, bilinear(scores, *new).argmax(axis=2))


def test_of_equal_scores_the_lowest_class_wins():
    scores = np.zeros((2, 3, 255), np.float32)
    assert not upsample_argmax(scores, 9, 9).any()
    scores[:, :, [254, 100]] = 1
    assert (upsample_argmax(scores, 9, 9) == 100).all()
