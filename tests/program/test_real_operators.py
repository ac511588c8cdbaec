"""Operators over real numbers, against torch, and by hand where the order of roundings counts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact import fma as exact_fma
from one_operator import image, run_operator

from binseg.program.program import ProgramError
from binseg.program.tensors import pack_bits, to_bfloat16
from binseg.program.types import ACTIVATIONS


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def to_torch(x):
    return torch.from_numpy(np.asarray(x, np.float64)).permute(2, 0, 1)[None]


def from_torch(y):
    return y[0].permute(1, 2, 0).numpy()


def torch_pads(pads):
    top, left, bottom, right = pads
    return [left, right, top, bottom]


# Convolutions

# H, W, C_in, C_out, groups, kernel, stride, pads, dilation
CONVOLUTIONS = [
    (5, 7, 3, 5, 1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    (1, 1, 4, 2, 2, (3, 3), (2, 2), (4, 4, 4, 4), (4, 4)),
    (9, 6, 12, 6, 3, (3, 2), (2, 1), (0, 2, 1, 0), (1, 2)),
    (6, 5, 7, 7, 7, (3, 3), (1, 2), (1, 1, 1, 1), (1, 1)),
    (3, 3, 2, 2, 1, (2, 2), (1, 3), (0, 9, 0, 9), (1, 1)),
]


def attributes_of(shape):
    _, _, _, _, groups, kernel, stride, pads, dilation = shape
    return {"kernel": list(kernel), "stride": list(stride), "pads": list(pads),
            "dilation": list(dilation), "groups": groups}  # fmt: skip


def torch_conv(x, weight, bias, shape):
    _, _, _, _, groups, _, stride, pads, dilation = shape
    w = torch.from_numpy(weight.astype(np.float64)).permute(0, 3, 1, 2)
    b = None if bias is None else torch.from_numpy(bias.astype(np.float64))
    padded = F.pad(to_torch(x), torch_pads(pads))
    return from_torch(F.conv2d(padded, w, b, stride, 0, dilation, groups))


@pytest.mark.parametrize("shape", CONVOLUTIONS)
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "bits"])
def test_conv_as_torch(shape, kind):
    height, width, inputs, outputs, groups, kernel, *_ = shape
    x = normal(height, width, inputs)
    weight = normal(outputs, *kernel, inputs // groups, seed=1)
    tensors, bfloat16 = {"weight": weight, "bias": normal(outputs, seed=2)}, ()
    if kind == "bfloat16":
        tensors["weight"], bfloat16 = to_bfloat16(weight), ("weight",)
        weight = torch.from_numpy(weight).to(torch.bfloat16).float().numpy()
    elif kind == "bits":
        scale = normal(outputs, seed=3)
        tensors |= {"weight": pack_bits(weight), "scale": scale}
        weight = np.where(weight >= 0, 1, -1) * scale[:, None, None, None]
    found = run_operator("conv", x, tensors=tensors, bfloat16=bfloat16, **attributes_of(shape))
    expected = torch_conv(x, weight, tensors["bias"], shape)
    np.testing.assert_allclose(found["real"], expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("with_bias", [False, True])
def test_conv_adds_in_its_order_with_one_rounding_each(with_bias):
    shape = (3, 4, 6, 4, 2, (2, 3), (1, 2), (1, 0, 0, 1), (1, 1))
    x, weight, bias = normal(3, 4, 6), normal(4, 2, 3, 3, seed=1), normal(4, seed=2)
    tensors = {"weight": weight} | ({"bias": bias} if with_bias else {})
    found = run_operator("conv", x, tensors=tensors, **attributes_of(shape))["real"]
    padded = np.pad(x, ((1, 0), (0, 1), (0, 0)))
    for oy, ox, o in np.ndindex(*found.shape):
        a = float(bias[o]) if with_bias else 0.0
        for ky in range(2):
            for kx in range(3):
                for c in range(3):
                    read = padded[oy + ky, 2 * ox + kx, 3 * (o // 2) + c]
                    a = exact_fma(read, weight[o, ky, kx, c], a)
        assert found[oy, ox, o] == np.float32(a)


def test_conv_of_bases():
    shape = CONVOLUTIONS[3]
    x, weight, bias = normal(9, 6, 24), normal(6, 3, 2, 4, seed=1), normal(6, seed=2)
    residual = normal(4, 6, 6, seed=3)
    tensors = {"weight": weight, "bias": bias}
    found = run_operator("conv", x, residual, tensors=tensors, bases=2, roles=["real", "bits"],
                         **attributes_of(shape))  # fmt: skip
    each = [
        run_operator("conv", part, residual, tensors=tensors, **attributes_of(shape))["real"]
        for part in np.split(x, 2, axis=2)
    ]
    np.testing.assert_array_equal(found["real"], np.concatenate(each, axis=2))
    assert found["bits"].shape[2:] == (2, 6)


def test_many_pixels_are_worked_on_in_parts():
    x, weight = normal(150, 160, 2), normal(3, 1, 1, 2, seed=1)
    found = run_operator("conv", x, tensors={"weight": weight}, kernel=[1, 1], stride=[1, 1],
                         pads=[0, 0, 0, 0])["real"]  # fmt: skip
    first = x[:, :, :1] * weight[:, 0, 0, 0]
    exact = x[:, :, 1:].astype(np.float64) * weight[:, 0, 0, 1] + first
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6)


# One pixel at a time


def torch_act(name, v, tensors):
    plain = {
        "relu": F.relu,
        "relu6": F.relu6,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "hardtanh": F.hardtanh,
        "hardsigmoid": F.hardsigmoid,
        "hardswish": F.hardswish,
        "abs": torch.abs,
    }
    if name in plain:
        return plain[name](v)
    t = {role: torch.from_numpy(x).double() for role, x in tensors.items()}
    if name == "prelu":
        return F.prelu(v, t["slope"])
    before, after = (t[role][:, None, None] for role in ("before", "after"))
    return F.prelu(v + before, t["slope"]) + after


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_as_torch(name):
    x = normal(9, 8, 3) * 4
    x[0, 0] = [0, -0.0, 3]
    tensors = {}
    if name in ("prelu", "rprelu"):
        tensors["slope"] = normal(3, seed=1)
    if name == "rprelu":
        tensors |= {"before": normal(3, seed=2), "after": normal(3, seed=3)}
    found = run_operator("act", x, tensors=tensors, act=name)["real"]
    expected = from_torch(torch_act(name, to_torch(x), tensors))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_affine_with_repeated_tensors():
    x, residual = normal(4, 3, 6), normal(4, 3, 6, seed=1)
    tensors = {"scale": normal(2, seed=2), "bias": normal(3, seed=3)}
    found = run_operator("affine", x, residual, tensors=tensors)["real"]
    scale, bias = np.tile(tensors["scale"], 3), np.tile(tensors["bias"], 2)
    # float64 holds the product, and here the sum to more than enough bits
    expected = (x.astype(np.float64) * scale + bias).astype(np.float32) + residual
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["add", "mul"])
def test_add_and_mul(kind):
    a, combine = normal(4, 3, 5), np.add if kind == "add" else np.multiply
    others = [normal(4, 3, 5, seed=1), normal(1, 1, 5, seed=2)]
    others += [normal(4, 3, 1, seed=3), normal(1, 1, 1, seed=4)] if kind == "mul" else []
    for b in others:
        np.testing.assert_array_equal(run_operator(kind, a, b)["real"], combine(a, b))
        with pytest.raises(ProgramError, match="do not go together"):
            run_operator(kind, a[:1, :2], np.repeat(np.repeat(b, 3, 0), 3, 1))


def test_finish_of_an_addition():
    a, b = normal(4, 3, 6), normal(4, 3, 6, seed=1)
    tensors = {"threshold": normal(3, seed=2)}
    found = run_operator("add", a, b, tensors=tensors, act="relu", bit_bases=2, dtype="bf16",
                         bytes=[8.0, 3], roles=["real", "bits", "bytes"])  # fmt: skip
    y = np.maximum(a + b, 0)
    expected = torch.from_numpy(y).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(found["real"], expected)
    bits = y + np.tile(tensors["threshold"], 2) >= 0
    np.testing.assert_array_equal(found["bits"], bits.reshape(4, 3, 2, 3))
    np.testing.assert_array_equal(found["bytes"], np.minimum(np.rint(y * 8) + 3, 255))


# Pools and means

# H, W, kernel, stride, pad, dilation
POOLS = [
    (6, 7, (3, 3), (2, 2), (1, 1), (1, 1)),
    (1, 1, (1, 1), (1, 1), (0, 0), (1, 1)),
    (1, 1, (2, 2), (2, 2), (1, 1), (1, 1)),
    (9, 8, (2, 3), (3, 1), (1, 0), (1, 1)),
    (5, 5, (2, 2), (2, 2), (0, 0), (1, 1)),
    (11, 12, (3, 2), (2, 3), (1, 1), (2, 3)),
]


@pytest.mark.parametrize("shape", POOLS)
@pytest.mark.parametrize("ceil", [False, True])
def test_max_pool_as_torch(shape, ceil):
    height, width, kernel, stride, pad, dilation = shape
    x = normal(height, width, 3) - 5  # below 0, so that a border of 0 would win
    found = run_operator("max_pool", x, kernel=list(kernel), stride=list(stride), pads=[*pad, *pad],
                         dilation=list(dilation), ceil=ceil)["real"]  # fmt: skip
    expected = F.max_pool2d(to_torch(x), kernel, stride, pad, dilation, ceil_mode=ceil)
    np.testing.assert_array_equal(found, from_torch(expected))


@pytest.mark.parametrize("shape", POOLS[:5])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("count", ["valid", "kernel"])
def test_avg_pool_as_torch(shape, ceil, count):
    height, width, kernel, stride, pad, _ = shape
    x = normal(height, width, 3)
    found = run_operator("avg_pool", x, kernel=list(kernel), stride=list(stride), pads=[*pad, *pad],
                         count=count, ceil=ceil)["real"]  # fmt: skip
    expected = F.avg_pool2d(to_torch(x), kernel, stride, pad, ceil, count == "kernel")
    np.testing.assert_allclose(found, from_torch(expected), rtol=1e-6, atol=1e-6)


def test_windows_with_no_pixel():
    x = np.ones((1, 1, 1), np.float32)
    window = {"kernel": [2, 1], "stride": [1, 1], "pads": [2, 0, 3, 0], "dilation": [4, 1]}
    largest = run_operator("max_pool", x, **window)["real"]
    assert largest.ravel().tolist() == [-np.inf, -np.inf]
    sums = run_operator("avg_pool", x, count="valid", **window)["real"]
    assert np.isnan(sums).all()
    kernel = run_operator("avg_pool", x, count="kernel", **window)["real"]
    assert kernel.ravel().tolist() == [0, 0]


def test_an_uneven_border():
    x = normal(5, 5, 2)
    window = {"kernel": [3, 3], "stride": [2, 2], "pads": [0, 2, 1, 0]}
    padded = F.pad(to_torch(x), torch_pads(window["pads"]), value=-torch.inf)
    np.testing.assert_array_equal(
        run_operator("max_pool", x, **window)["real"], from_torch(F.max_pool2d(padded, 3, 2))
    )
    padded = F.pad(to_torch(x), torch_pads(window["pads"]))
    np.testing.assert_allclose(
        run_operator("avg_pool", x, count="kernel", **window)["real"],
        from_torch(F.avg_pool2d(padded, 3, 2)), rtol=1e-6, atol=1e-6,
    )  # fmt: skip


def test_sums_of_pools_go_row_by_row_in_float32():
    x = np.array([[1e8, 1, -1e8, 1]], np.float32)[..., None]
    found = run_operator("avg_pool", x, kernel=[1, 4], stride=[1, 1], pads=[0] * 4, count="valid")
    assert found["real"] == 0.25


@pytest.mark.parametrize("channels", [1, 5])
def test_spatial_mean(channels):
    x = normal(31, 17, channels)
    found = run_operator("spatial_mean", x)["real"]
    expected = x.mean(axis=(0, 1), dtype=np.float64, keepdims=True).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    # row by row the last 1 is kept; column by column both would be lost
    x = np.array([[1, 2.0**60], [-(2.0**60), 1]], np.float32)
    x = np.repeat(x[..., None], channels, axis=2)
    assert (run_operator("spatial_mean", x)["real"] == 0.25).all()


def test_channel_mean():
    x = normal(3, 4, 24)
    found = run_operator("channel_mean", x, size_=3, inner=2, absolute=True)["real"]
    parts = np.abs(x).reshape(3, 4, 4, 3, 2)
    by_hand = (parts[:, :, :, 0] + parts[:, :, :, 1] + parts[:, :, :, 2]) / np.float32(3)
    np.testing.assert_array_equal(found, by_hand.reshape(3, 4, 8))
    found = run_operator("channel_mean", x, size_=24)["real"]
    np.testing.assert_allclose(found[..., 0], x.mean(axis=2), rtol=1e-5, atol=1e-6)
    x = np.array([[[1e8, 1, -1e8, 1]]], np.float32)
    assert run_operator("channel_mean", x, size_=4)["real"] == 0.25


# Places


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_resize(mode):
    x, like = normal(4, 5, 3), np.zeros((7, 3, 1, 2), np.bool_)
    expected = F.interpolate(to_torch(x), (7, 3), mode=mode)
    found = run_operator("resize", x, like, mode=mode)["real"]
    np.testing.assert_allclose(found, from_torch(expected), rtol=1e-5, atol=2e-6)
    residual = normal(7, 3, 3, seed=1)
    more = run_operator("resize", x, like, residual, mode=mode)["real"]
    np.testing.assert_array_equal(more, found + residual)
    expected = F.interpolate(to_torch(x), scale_factor=(2, 3), mode=mode)
    found = run_operator("resize", x, mode=mode, scale=[2, 3])["real"]
    np.testing.assert_allclose(found, from_torch(expected), rtol=1e-5, atol=2e-6)
    residual = normal(8, 15, 3, seed=2)
    more = run_operator("resize", x, residual, mode=mode, scale=[2, 3], act="relu")["real"]
    np.testing.assert_array_equal(more, np.maximum(found + residual, 0))


def test_resize_between_corners():
    x = normal(4, 5, 3)
    expected = F.interpolate(to_torch(x), (8, 10), mode="bilinear", align_corners=True)
    found = run_operator("resize", x, mode="bilinear", scale=[2, 2], align_corners=True)["real"]
    np.testing.assert_allclose(found, from_torch(expected), rtol=1e-5, atol=2e-6)


def test_concat_spreads_one_pixel():
    a, b, c = normal(1, 1, 2), normal(3, 4, 1, seed=1), normal(3, 4, 3, seed=2)
    found = run_operator("concat", a, b, c)["real"]
    np.testing.assert_array_equal(found[:, :, 2:], np.concatenate([b, c], axis=2))
    assert (found[:, :, :2] == a).all()
    np.testing.assert_array_equal(run_operator("concat", a)["real"], a)


def test_slice():
    x = normal(3, 4, 7)
    found = run_operator("slice", x, from_=2, to=5, act="relu", roles=["real", "bits"])
    np.testing.assert_array_equal(found["real"], np.maximum(x[:, :, 2:5], 0))
    assert found["bits"].all()


def test_pad_and_crop():
    x = normal(5, 8, 2)
    padded = run_operator("pad", x, multiple=4)["real"]
    expected = F.pad(to_torch(x), (0, 0, 0, 3), mode="replicate")
    np.testing.assert_array_equal(padded, from_torch(expected))
    like = np.zeros((5, 8, 1), np.uint8)
    np.testing.assert_array_equal(run_operator("crop", padded, like)["real"], x)
    with pytest.raises(ProgramError, match="do not go together"):
        run_operator("crop", x, padded)
    photo = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    wide = run_operator("pad", image(photo), multiple=6, roles=["image"])["image"]
    np.testing.assert_array_equal(wide[:3, :5], photo)
    assert (wide[3:, :5] == photo[2]).all()
    assert (wide[:, 5] == wide[:, 4]).all()


def test_flatten():
    x = normal(2, 3, 4)
    found = run_operator("flatten", x, height=2, width=3)["real"]
    assert found.ravel().tolist() == [
        float(x[y, c, channel]) for y in range(2) for c in range(3) for channel in range(4)
    ]
    with pytest.raises(ProgramError, match="takes 2×3 pixels and gets 3×2"):
        run_operator("flatten", x, height=3, width=2)
