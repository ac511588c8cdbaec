"""Signs and their surrogate gradients, against the formulas written out."""

import math

import pytest
import torch

from binseg.errors import BinsegError
from binseg.nn.activations import BinaryActivation
from binseg.nn.binarize import (
    binarize_weight,
    sign,
    sign_approx,
    sign_ede,
    sign_ste,
    weight_scale,
)

POINTS = [-3.0, -1.3, -1.0, -0.75, -0.25, -0.0, 0.0, 0.1, 0.5, 0.999, 1.0, 1.2, 4.0]


def gradient_of(function, points=POINTS):
    """dq/dx at each point, with an incoming gradient of 2 to catch a missing factor."""
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    function(x).backward(torch.full_like(x, 2.0))
    return (x.grad / 2).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sign_has_two_values_only(dtype):
    x = torch.tensor([-1.5, -1e-30, -0.0, 0.0, 1e-30, 2.0], dtype=dtype)
    assert sign(x).tolist() == [-1, -1, 1, 1, 1, 1]
    assert sign(x).dtype == dtype


def test_sign_keeps_the_memory_format():
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert sign(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("function", [sign_ste, sign_approx, lambda x: sign_ede(x, 2.0)])
def test_every_estimator_is_sign_forward(function):
    x = torch.tensor(POINTS)
    assert torch.equal(function(x), sign(x))


@pytest.mark.parametrize("clip", [1.0, 1.25])
def test_straight_through_gradient(clip):
    expected = [1.0 if abs(x) <= clip else 0.0 for x in POINTS]
    assert gradient_of(lambda x: sign_ste(x, clip)) == expected


def test_approx_sign_gradient():
    expected = [max(0.0, 2 - 2 * abs(x)) for x in POINTS]
    assert gradient_of(sign_approx) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("t", [0.1, 1.0, 7.0])
def test_tanh_based_gradient(t):
    k = max(1 / t, 1.0)
    expected = [k * t * (1 - math.tanh(t * x) ** 2) for x in POINTS]
    assert gradient_of(lambda x: sign_ede(x, t)) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("mode", "function"),
    [("tanh", torch.tanh), ("hardtanh", lambda x: x.clamp(-1, 1)), ("identity", lambda x: x)],
)
def test_smooth_modes_replace_the_sign(mode, function):
    layer = BinaryActivation()
    layer.mode = mode
    x = torch.linspace(-2, 2, 9)
    assert torch.allclose(layer(x), function(x))


def test_activation_module_uses_its_gradient():
    layer = BinaryActivation("ste", clip=0.5)
    assert gradient_of(layer) == [1.0 if abs(x) <= 0.5 else 0.0 for x in POINTS]
    layer = BinaryActivation("ede")
    layer.temperature = 3.0
    assert gradient_of(layer, [0.2])[0] == pytest.approx(3 * (1 - math.tanh(0.6) ** 2))


def test_unknown_gradient_names_the_nearest():
    with pytest.raises(BinsegError, match="did you mean 'approx'"):
        BinaryActivation("aprox")


def test_weight_scales_by_hand():
    # two bases of two filters of one 1x2 kernel
    weight = torch.tensor([1.0, -3.0, 0.0, 2.0, -0.5, 0.5, 4.0, 1.0]).view(4, 1, 1, 2)
    assert weight_scale(weight, "none") is None
    layer = weight_scale(weight, "layer", bases=2)
    assert layer.flatten().tolist() == [1.5, 1.5, 1.5, 1.5]
    weight[2:] *= 2
    assert weight_scale(weight, "layer", bases=2).flatten().tolist() == [1.5, 1.5, 3.0, 3.0]
    assert weight_scale(weight, "filter", bases=2).flatten().tolist() == [2.0, 1.0, 1.0, 5.0]


@pytest.mark.parametrize(("scale", "factors"), [("none", [1, 1]), ("filter", [2.0, 1.0])])
def test_binary_weights_are_scaled_signs(scale, factors):
    weight = torch.tensor([[1.0, -3.0], [0.0, 2.0]]).view(2, 2, 1, 1)
    expected = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) * torch.tensor(factors).view(2, 1)
    assert torch.equal(binarize_weight(weight, scale=scale).view(2, 2), expected)


@pytest.mark.parametrize(("gradient", "limit"), [("identity", math.inf), ("clip", 1.0)])
@pytest.mark.parametrize("scale", ["none", "layer", "filter"])
def test_weight_gradient_does_not_pass_through_the_scale(gradient, limit, scale):
    weight = torch.tensor([0.5, -1.0, 1.01, -7.0]).view(2, 2, 1, 1).requires_grad_()
    incoming = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 2, 1, 1)
    binarize_weight(weight, scale=scale, gradient=gradient).backward(incoming)
    assert torch.equal(weight.grad, incoming * (weight.abs() <= limit))


def test_estimators_compose_with_autograd():
    """The straight-through gradient with clip is that of hardtanh; autograd must agree."""
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    coefficients = torch.randn(50, dtype=torch.float64)
    (sign_ste(x * 2) * coefficients).sum().backward()
    own, x.grad = x.grad.clone(), None
    (torch.nn.functional.hardtanh(x * 2) * coefficients).sum().backward()
    assert torch.allclose(own, x.grad)
