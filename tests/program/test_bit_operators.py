"""Operators over bits, against torch's convolutions of float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from one_operator import run_operator

from binseg.program.program import ProgramError
from binseg.program.tensors import pack_bits

# H, W, C_in, C_out, kernel, stride, dilations
SHAPES = [
    (5, 7, 3, 5, (3, 3), 1, (1,)),
    (1, 1, 1, 1, (1, 1), 1, (1,)),
    (1, 1, 7, 2, (3, 3), 2, (4, 9)),
    (6, 5, 33, 4, (3, 3), 2, (1, 2)),
    (4, 9, 8, 3, (2, 4), 1, (3, 1, 2)),
    (7, 3, 5, 6, (5, 1), 3, (1, 1, 1, 1)),
    (3, 4, 65, 2, (3, 3), 1, (50,)),
]


def case(shape, padding=1, *, in_bases=None, shared=False, seed=0):
    """Input bits, attributes, the weight tensor, and the sums (H, W, K, C_out) as int64."""
    height, width, inputs, outputs, kernel, stride, dilations = shape
    rng = np.random.default_rng(seed)
    bases = len(dilations)
    bits = rng.random((height, width, in_bases or bases, inputs)) < 0.5
    weight = rng.choice([-1, 1], (1 if shared else bases, outputs, *kernel, inputs))
    attributes = {
        "kernel": list(kernel),
        "stride": stride,
        "dilations": list(dilations),
        "padding": padding,
        "in_channels": inputs,
        "out_channels": outputs,
    }
    if shared:
        attributes["shared_weight"] = True
    sums = []
    for k, d in enumerate(dilations):
        x = torch.from_numpy(np.where(bits[:, :, k % bits.shape[2]], 1.0, -1.0))
        reach = [d * (side - 1) for side in kernel]
        border = [reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2]
        x = F.pad(x.permute(2, 0, 1), border, value=padding)
        w = torch.from_numpy(weight[0 if shared else k].astype(np.float64)).permute(0, 3, 1, 2)
        y = F.conv2d(x[None], w, stride=stride, dilation=d)[0]
        sums.append(y.permute(1, 2, 0).round().to(torch.int64).numpy())
    return bits, attributes, pack_bits(weight), np.stack(sums, axis=2)


def every_case():
    for seed, shape in enumerate(SHAPES):
        for padding in (-1, 0, 1):
            yield case(shape, padding, seed=seed)
        yield case(shape, in_bases=1, seed=seed)
        yield case(shape, shared=True, seed=seed)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_conv_bits(dtype):
    for bits, attributes, weight, sums in every_case():
        rng = np.random.default_rng(1)
        rows = sums.shape[3] * (1 if attributes.get("shared_weight") else sums.shape[2])
        ends = np.sort(rng.integers(-30, 31, (2, rows)), axis=0)
        outside = rng.random(rows) < 0.5
        low = np.where(outside, ends[1] + 1, ends[0])
        high = np.where(outside, ends[0] - 1, ends[1])
        tensors = {"weight": weight, "low": low.astype(dtype), "span": (high - low).astype(dtype)}
        found = run_operator("conv_bits", bits, tensors=tensors, roles=["bits"], **attributes)
        first, last, outside = (
            part.reshape(-1, sums.shape[3]) for part in (ends[0], ends[1], outside)
        )
        inside = (sums >= first) & (sums <= last)
        np.testing.assert_array_equal(found["bits"], inside ^ outside)


def test_thresholds_for_all_and_for_none():
    bits, attributes, weight, sums = case(SHAPES[0])
    tensors = {
        "weight": weight,
        "low": np.array([-27, 28, -(2**31), 2**31 - 1, 0], np.int32),
        "span": np.array([54, 0, -1, -1, 2**31 - 1], np.int32),
    }
    found = run_operator("conv_bits", bits, tensors=tensors, roles=["bits"], **attributes)["bits"]
    assert found[..., [0, 2, 3]].all()
    assert not found[..., 1].any()
    np.testing.assert_array_equal(found[..., 4], sums[..., 4] >= 0)


def curve_of(rng, rows):
    return rng.normal(size=(3, rows)).astype(np.float32)


def by_hand(curve, sums, attributes, *, tanh=False):
    """f(s) in float64, (H, W, K, C_out)."""
    first, second, third = curve.astype(np.float64).reshape(3, -1, sums.shape[3])
    if tanh:
        return first * np.tanh(second * sums) + third
    return np.where(sums >= 0, first, second) * sums + third


@pytest.mark.parametrize("tanh", [False, True])
def test_conv_real(tanh):
    for bits, attributes, weight, sums in every_case():
        rng = np.random.default_rng(2)
        shared = attributes.get("shared_weight", False)
        curve = curve_of(rng, sums.shape[3] * (1 if shared else sums.shape[2]))
        found = run_operator("conv_real", bits, tensors={"weight": weight, "curve": curve},
                             tanh=tanh, **attributes)["real"]  # fmt: skip
        expected = by_hand(curve, sums, attributes, tanh=tanh).reshape(found.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def test_real_results_are_rounded_once():
    # 3·c₀ + c₂ where rounding the product first loses the last bit
    tensors = {
        "weight": pack_bits(np.ones(3)),
        "curve": np.array([[1 + 2**-23], [7], [2**-24 * 3 + 2**-40]], np.float32),
    }
    bits = np.ones((1, 1, 1, 3), np.bool_)
    found = run_operator("conv_real", bits, tensors=tensors, kernel=[1, 1], stride=1,
                         dilations=[1], padding=0, in_channels=3, out_channels=1)  # fmt: skip
    c0, _, c2 = tensors["curve"][:, 0].astype(np.float64)
    assert found["real"] == np.float32(3 * c0 + c2)
    assert np.float32(np.float32(3) * np.float32(c0)) + np.float32(c2) != found["real"]


@pytest.mark.parametrize("one_for_all", [False, True])
def test_residual_activation_and_all_outputs(one_for_all):
    bits, attributes, weight, sums = case(SHAPES[3])
    rng = np.random.default_rng(3)
    channels = sums.shape[2] * sums.shape[3]
    residual = rng.normal(size=(*sums.shape[:2], 4 if one_for_all else channels))
    residual = residual.astype(np.float32)
    tensors = {
        "weight": weight,
        "curve": curve_of(rng, channels),
        "threshold": rng.normal(size=channels).astype(np.float32),
        "slope": rng.normal(size=4).astype(np.float32),
    }
    found = run_operator(
        "conv_real", bits, residual, tensors=tensors, act="prelu", roles=["real", "bits", "bytes"],
        bytes=[2.0, 100], **attributes,
    )  # fmt: skip
    y = by_hand(tensors["curve"], sums, attributes).reshape(*sums.shape[:2], -1)
    y = y + np.concatenate([residual] * (2 if one_for_all else 1), axis=2)
    y = np.where(y >= 0, y, np.tile(tensors["slope"], 2) * y)
    np.testing.assert_allclose(found["real"], y, rtol=1e-5, atol=1e-5)
    bits_by_hand = found["real"] + tensors["threshold"] >= 0
    np.testing.assert_array_equal(found["bits"].reshape(y.shape), bits_by_hand)
    assert found["bits"].shape[2:] == (2, 4)
    expected = np.clip(np.rint(found["real"] * np.float32(2)) + 100, 0, 255)
    np.testing.assert_array_equal(found["bytes"], expected)
    again = run_operator("conv_real", bits, residual, tensors=tensors, act="prelu", bit_bases=4,
                         roles=["bits"], **attributes)["bits"]  # fmt: skip
    np.testing.assert_array_equal(again.reshape(y.shape), bits_by_hand)
    assert again.shape[2:] == (4, 2)


def test_bits_and_bytes_are_taken_before_bfloat16():
    bits, attributes, weight, _ = case(SHAPES[1])
    tensors = {
        "weight": weight,
        "curve": np.array([[0], [0], [1 + 2**-9]], np.float32),
        "threshold": np.array([-1 - 2**-10], np.float32),
    }
    found = run_operator("conv_real", bits, tensors=tensors, roles=["real", "bits", "bytes"],
                         dtype="bf16", bytes=[128.0, 0], **attributes)  # fmt: skip
    assert found["real"] == 1
    assert found["bits"]
    assert found["bytes"] == 128  # of 128.25


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("residual_rows", [0, 1, 2])
def test_conv_merge(gated, tanh, residual_rows):
    bits, attributes, weight, sums = case(SHAPES[3])
    bases, outputs = sums.shape[2:]
    rng = np.random.default_rng(4)
    tensors = {
        "weight": weight,
        "curve": curve_of(rng, bases * outputs),
        "lambdas": rng.normal(size=bases).astype(np.float32),
    }
    inputs = [bits]
    out = by_hand(tensors["curve"], sums, attributes, tanh=tanh)
    if residual_rows:
        residual = rng.normal(size=(*sums.shape[:2], residual_rows * outputs)).astype(np.float32)
        inputs.append(residual)
        out = out + residual.reshape(*sums.shape[:2], -1, outputs)
    merged = (out * tensors["lambdas"][:, None]).sum(axis=2)
    if not gated:
        found = run_operator("conv_merge", *inputs, tensors=tensors, tanh=tanh, act="relu",
                             roles=["real", "bits"], **attributes)  # fmt: skip
        relu = np.maximum(merged, 0)
        np.testing.assert_allclose(found["real"], relu, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(found["bits"][:, :, 0], found["real"] >= 0)
        return
    tensors["gates"] = rng.normal(size=bases).astype(np.float32)
    tensors["threshold"] = rng.normal(size=bases * outputs).astype(np.float32)
    found = run_operator("conv_merge", *inputs, tensors=tensors, tanh=tanh,
                         roles=["branches", "merged", "bits", "bytes"], bytes=[3.0, 9],
                         **attributes)  # fmt: skip
    m = merged[:, :, None]
    branches = (tensors["gates"][:, None] * (out - m) + m).reshape(*sums.shape[:2], -1)
    np.testing.assert_allclose(found["merged"], merged, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found["branches"], branches, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        found["bits"].reshape(branches.shape), found["branches"] + tensors["threshold"] >= 0
    )
    np.testing.assert_array_equal(
        found["bytes"], np.clip(np.rint(found["merged"] * np.float32(3)) + 9, 0, 255)
    )


@pytest.mark.parametrize("kind", ["tanh", "prelu", "rprelu"])
def test_branches_go_through_an_activation_before_they_are_merged(kind):
    bits, attributes, weight, sums = case(SHAPES[3])
    height, width, bases, outputs = sums.shape
    rng = np.random.default_rng(6)
    roles = {"tanh": (), "prelu": ("slope",), "rprelu": ("before", "slope", "after")}[kind]
    own = {role: rng.normal(size=bases * outputs).astype(np.float32) for role in roles}
    residual = rng.normal(size=(height, width, outputs)).astype(np.float32)
    curve = curve_of(rng, bases * outputs)
    branches = run_operator(
        "conv_real", bits, residual, tensors={"weight": weight, "curve": curve, **own}, act=kind,
        **attributes,
    )["real"].reshape(sums.shape)  # fmt: skip
    tensors = {"weight": weight, "curve": curve, "lambdas": np.eye(1, bases, 1, np.float32)[0]}
    tensors |= {f"branch_{role}": tensor for role, tensor in own.items()}
    found = run_operator("conv_merge", bits, residual, tensors=tensors, branch_act=kind, act="relu",
                         **attributes)["real"]  # fmt: skip
    np.testing.assert_array_equal(found, np.maximum(branches[:, :, 1], 0))


def test_merging_goes_base_by_base_with_one_rounding_each():
    bits, attributes, weight, _ = case((2, 2, 3, 2, (1, 1), 1, (1, 1, 1)))
    rng = np.random.default_rng(5)
    tensors = {
        "weight": weight,
        "curve": curve_of(rng, 6),
        "lambdas": rng.normal(size=3).astype(np.float32),
    }
    out = run_operator("conv_real", bits, tensors={t: tensors[t] for t in ("weight", "curve")},
                       **attributes)["real"].reshape(2, 2, 3, 2)  # fmt: skip
    m = np.zeros((2, 2, 2), np.float32)
    for k in range(3):  # float64 holds these products and sums, as their sizes are alike
        m = (np.float64(tensors["lambdas"][k]) * out[:, :, k] + m).astype(np.float32)
    found = run_operator("conv_merge", bits, tensors=tensors, **attributes)["real"]
    np.testing.assert_array_equal(found, m)


def test_pack_sign():
    x = np.array([[[0.0, -0.0, -1e-40, 2.0, np.nan, -np.inf]]], np.float32)
    found = run_operator("pack_sign", x, roles=["bits"])["bits"]
    assert found[0, 0, 0].tolist() == [True, True, False, True, False, False]
    two = run_operator("pack_sign", x, roles=["bits"], bit_bases=2)["bits"]
    assert two[0, 0].tolist() == [[True, True, False], [True, False, False]]


def test_pack_sign_after_an_affine_map_and_a_shift():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(4, 3, 6)).astype(np.float32)
    shift = rng.normal(size=(1, 1, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        run_operator("pack_sign", x, shift, roles=["bits"])["bits"][:, :, 0], x + shift >= 0
    )
    tensors = {
        "gain": rng.normal(size=3).astype(np.float32),
        "shift": rng.normal(size=2).astype(np.float32),
    }
    found = run_operator("pack_sign", x, shift, roles=["bits"], tensors=tensors)["bits"]
    v = np.tile(tensors["gain"], 2) * (x + shift).astype(np.float64) + np.tile(tensors["shift"], 3)
    np.testing.assert_array_equal(found[:, :, 0], v >= 0)


def test_a_shift_for_each_pixel_is_refused():
    x = np.zeros((4, 3, 6), np.float32)
    with pytest.raises(ProgramError, match="do not go together"):
        run_operator("pack_sign", x, x, roles=["bits"])
