"""Operators over bytes, against torch."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from one_operator import image, run_operator

from binseg.data.preprocess import Preprocessing
from binseg.program.tensors import pack_bits

# H, W, C_in, C_out, kernel, stride, pads (top, left, bottom, right), dilation
SHAPES = [
    (5, 7, 3, 5, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (1, 1, 1, 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    (1, 1, 5, 3, (3, 3), (2, 2), (4, 4, 4, 4), (4, 4)),
    (9, 6, 33, 2, (3, 2), (2, 1), (0, 2, 1, 0), (1, 2)),
    (12, 11, 3, 8, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
    (4, 5, 700, 2, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    (3, 3, 2, 2, (2, 2), (1, 3), (0, 9, 0, 9), (1, 1)),
]


def case(shape, *, border=None, bits=False, seed=0):
    """Bytes, attributes, the weight tensor, and the sums (H, W, C_out) as int64."""
    height, width, inputs, outputs, kernel, stride, pads, dilation = shape
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (height, width, inputs)).astype(np.uint8)
    if bits:
        weight = 127 * rng.choice([-1, 1], (outputs, *kernel, inputs))
    else:
        weight = rng.integers(-128, 128, (outputs, *kernel, inputs))
    border = rng.integers(0, 256, inputs).tolist() if border is None else border
    attributes = {"kernel": list(kernel), "stride": list(stride), "pads": list(pads),
                  "border": border, "dilation": list(dilation)}  # fmt: skip
    top, left, bottom, right = pads
    padded = np.empty((height + top + bottom, width + left + right, inputs))
    padded[:] = border
    padded[top : top + height, left : left + width] = x
    w = torch.from_numpy(weight.astype(np.float64)).permute(0, 3, 1, 2)
    sums = F.conv2d(torch.from_numpy(padded).permute(2, 0, 1)[None], w, None, stride, 0, dilation)
    sums = sums[0].permute(1, 2, 0).round().to(torch.int64).numpy()
    return x, attributes, pack_bits(weight) if bits else weight.astype(np.int8), sums


def plain_curve(outputs):
    return np.array([[1] * outputs, [0] * outputs], np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("border", [None, 117])
def test_sums_are_exact(shape, bits, border):
    x, attributes, weight, sums = case(shape, bits=bits, border=border)
    tensors = {"weight": weight, "curve": plain_curve(shape[3])}
    found = run_operator("conv_int8", x, tensors=tensors, **attributes)["real"]
    np.testing.assert_array_equal(found, sums.astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_sums(shape):
    x, attributes, weight, sums = case(shape)
    tensors = {"weight": weight, "curve": plain_curve(shape[3])}
    found = run_operator("conv_int8_pool", x, tensors=tensors, **attributes)["real"]
    pooled = F.max_pool2d(torch.from_numpy(sums).double().permute(2, 0, 1)[None], 3, 2, 1)[0]
    np.testing.assert_array_equal(found, pooled.permute(1, 2, 0).numpy().astype(np.float32))


def test_the_largest_sums():
    inputs = 64 * 1024  # 31 bits just hold them
    x = np.full((1, 1, inputs), 255, np.uint8)
    for weight in (127, -128):
        tensors = {
            "weight": np.full((1, 1, 1, inputs), weight, np.int8),
            "curve": plain_curve(1),
        }
        found = run_operator("conv_int8", x, tensors=tensors, kernel=[1, 1], stride=[1, 1],
                             pads=[0, 0, 0, 0], border=0)["real"]  # fmt: skip
        assert found == np.float32(255 * weight * inputs)


def test_curve_and_finish():
    x, attributes, weight, sums = case(SHAPES[0])
    rng = np.random.default_rng(1)
    curve = (rng.normal(size=(2, 5)) * [[1e-3], [1]]).astype(np.float32)
    residual = rng.normal(size=sums.shape).astype(np.float32)
    found = run_operator("conv_int8", x, residual, tensors={"weight": weight, "curve": curve},
                         act="hardswish", roles=["real", "bits"], **attributes)  # fmt: skip
    gain, shift = curve.astype(np.float64)
    y = torch.from_numpy(sums * gain + shift + residual)
    np.testing.assert_allclose(found["real"], F.hardswish(y).numpy(), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found["bits"][:, :, 0], found["real"] >= 0)


def test_bases_go_through_the_same_weights():
    _, attributes, weight, _ = case(SHAPES[0])
    parts = [case(SHAPES[0], border=attributes["border"], seed=s)[0] for s in (0, 3, 4)]
    curve = np.random.default_rng(2).normal(size=(2, 5)).astype(np.float32)
    tensors = {"weight": weight, "curve": curve}
    for kind in ("conv_int8", "conv_int8_pool"):
        each = [run_operator(kind, p, tensors=tensors, **attributes)["real"] for p in parts]
        together = run_operator(kind, np.concatenate(parts, axis=2), tensors=tensors, bases=3,
                                roles=["real", "bits"], **attributes)  # fmt: skip
        np.testing.assert_array_equal(together["real"], np.concatenate(each, axis=2))
        assert together["bits"].shape[2:] == (3, 5)


def test_the_image_itself_with_its_normalization_folded():
    """A convolution of normalized floats with zeros around, as one of the image's bytes."""
    x, attributes, weight, _ = case(SHAPES[4])
    preprocessing = Preprocessing()
    mean = np.array(preprocessing.mean) * 255
    attributes["border"] = np.rint(mean).astype(int).tolist()
    tensors = {"weight": weight, "curve": plain_curve(8)}
    found = run_operator("conv_int8", image(x), tensors=tensors, **attributes)["real"]
    padded = np.pad(x.astype(np.float64) - np.rint(mean), ((3, 3), (3, 3), (0, 0)))
    w = torch.from_numpy(weight.astype(np.float64)).permute(0, 3, 1, 2)
    y = F.conv2d(torch.from_numpy(padded).permute(2, 0, 1)[None], w, stride=2)[0]
    y += (w.sum(dim=(2, 3)) @ torch.from_numpy(np.rint(mean)))[:, None, None]
    np.testing.assert_array_equal(found, y.permute(1, 2, 0).round().numpy().astype(np.float32))


def test_normalize():
    x = np.random.default_rng(3).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    mean, std = np.array(Preprocessing().mean), np.array(Preprocessing().std)
    tensors = {
        "scale": (1 / (255 * std)).astype(np.float32),
        "shift": (-mean / std).astype(np.float32),
    }
    found = run_operator("normalize", image(x), tensors=tensors)["real"]
    expected = Preprocessing().normalize(torch.from_numpy(x).permute(2, 0, 1)[None])[0]
    np.testing.assert_allclose(found, expected.permute(1, 2, 0).numpy(), rtol=0, atol=3e-7)
    # one rounding: float64 holds a product of 8 and 24 bits, and the sum of numbers this size
    exact = x * tensors["scale"].astype(np.float64) + tensors["shift"]
    np.testing.assert_array_equal(found, exact.astype(np.float32))


def test_quantize():
    x = np.random.default_rng(4).normal(size=(6, 5, 7)).astype(np.float32) * 3
    x[0, 0, :5] = [0.125, -0.125, 0.375, 1e30, -1e30]  # ties, and what does not fit
    found = run_operator("quantize", x, roles=["bytes"], bytes=[4.0, 113])["bytes"]
    # fractions are exact, and their round goes to even
    by_hand = [min(max(round(Fraction(float(v)) * 4) + 113, 0), 255) for v in x.ravel()]
    assert found.ravel().tolist() == by_hand


def test_quantize_what_is_no_number():
    x = np.array([[[np.nan, np.inf, -np.inf]]], np.float32)
    found = run_operator("quantize", x, roles=["bytes"], bytes=[4.0, 113])["bytes"]
    assert found.tolist() == [[[0, 255, 0]]]


def test_the_product_with_the_inverse_scale_is_a_float32():
    # 0.1 in float32 is a little above 1/10: unrounded, 25 times that would lie above the tie
    x = np.array([[[25, 35]]], np.float32)
    found = run_operator("quantize", x, roles=["bytes"], bytes=[0.1, 0])["bytes"]
    assert found.tolist() == [[[2, 4]]]
