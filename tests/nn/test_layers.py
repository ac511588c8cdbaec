"""`BinaryConv2d` against a loop over pixels and taps."""

import itertools

import pytest
import torch

from binseg.errors import BinsegError
from binseg.nn.layers import BinaryConv2d, set_binarization


def reference(layer: BinaryConv2d, x: torch.Tensor) -> torch.Tensor:
    """The definition, tap by tap: signs, a border of padding_value, a mean of |W| as the scale."""
    n, _, height, width = x.shape
    k, stride, bases = layer.kernel_size, layer.stride, layer.bases
    out_h, out_w = -(-height // stride), -(-width // stride)
    result = torch.zeros(n, bases * layer.out_channels, out_h, out_w, dtype=torch.float64)
    weight = layer.weight.detach().double()
    for base, channel in itertools.product(range(bases), range(layer.out_channels)):
        row = base * layer.out_channels + channel
        dilation = layer.dilations[base]
        first = 0 if layer.shared_input else base * layer.in_channels
        own = weight[base * layer.out_channels : (base + 1) * layer.out_channels]
        scale = {
            "none": 1.0,
            "layer": own.abs().mean().item(),
            "filter": weight[row].abs().mean().item(),
        }[layer.scale]
        for i, j in itertools.product(range(out_h), range(out_w)):
            total = torch.zeros(n, dtype=torch.float64)
            for a, b, c in itertools.product(range(k), range(k), range(layer.in_channels)):
                y = i * stride + (a - k // 2) * dilation
                z = j * stride + (b - k // 2) * dilation
                inside = 0 <= y < height and 0 <= z < width
                value = torch.full((n,), layer.padding_value, dtype=torch.float64)
                if inside:
                    value = torch.where(x[:, first + c, y, z] >= 0, 1.0, -1.0).double()
                total += value * (1.0 if weight[row, c, a, b] >= 0 else -1.0)
            result[:, row, i, j] = total * scale
    return result


CASES = [
    {"in_channels": 3, "out_channels": 2, "kernel_size": 3},
    {"in_channels": 3, "out_channels": 2, "kernel_size": 3, "padding_value": -1, "stride": 2},
    {"in_channels": 2, "out_channels": 3, "kernel_size": 3, "padding_value": 0, "dilation": 2},
    {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "dilation": 9, "scale": "filter"},
    {"in_channels": 3, "out_channels": 2, "kernel_size": 1, "bases": 2, "scale": "none"},
    {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "bases": 3, "shared_input": True},
    {"in_channels": 2, "out_channels": 1, "kernel_size": 3, "bases": 3, "dilation": (1, 2, 5)},
    {
        "in_channels": 1,
        "out_channels": 2,
        "kernel_size": 5,
        "bases": 2,
        "dilation": (1, 3),
        "shared_input": True,
        "stride": 2,
        "padding_value": -1,
        "scale": "filter",
    },
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (5, 6)])
def test_matches_the_definition_in_training_and_eval(case, size):
    torch.manual_seed(0)
    layer = BinaryConv2d(**case)
    channels = layer.in_channels * (1 if layer.shared_input else layer.bases)
    x = torch.randn(2, channels, *size)
    x[0, 0, 0, 0] = 0.0
    expected = reference(layer, x)
    for training in (True, False):
        y = layer.train(training)(x)
        assert y.shape == expected.shape
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_eval_sums_are_exact_integers():
    layer = BinaryConv2d(37, 5, 3, scale="none").eval()
    y = layer(torch.randn(1, 37, 9, 7))
    assert torch.equal(y, y.round())
    assert int(y[0, 0, 4, 4].item()) % 2 == (37 * 9) % 2  # a sum of n values of ±1 has n's parity


@pytest.mark.parametrize("padding_value", [1, -1, 0])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_match_an_explicit_border(padding_value, stride):
    """The border is folded into a bias; its gradients must be those of a padded convolution."""
    torch.manual_seed(1)
    layer = BinaryConv2d(
        3, 4, 3, padding_value=padding_value, stride=stride, dilation=2, gradient="ste"
    ).double()
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    incoming = torch.randn(2, 4, -(-7 // stride), -(-6 // stride), dtype=torch.float64)
    layer(x).backward(incoming)
    own = x.grad.clone(), layer.weight.grad.clone()

    signs = torch.where(x.detach() >= 0, 1.0, -1.0).double().requires_grad_()
    scale = layer.weight.detach().abs().mean()
    weight = (torch.where(layer.weight.detach() >= 0, 1.0, -1.0) * scale).double().requires_grad_()
    padded = torch.nn.functional.pad(signs, (2, 2, 2, 2), value=padding_value)
    torch.nn.functional.conv2d(padded, weight, stride=stride, dilation=2).backward(incoming)
    torch.testing.assert_close(own[0], signs.grad * (x.detach().abs() <= 1))
    torch.testing.assert_close(own[1], weight.grad)


def test_real_weights_and_tanh_in_the_first_step():
    torch.manual_seed(2)
    layer = BinaryConv2d(2, 3, 3)
    set_binarization(layer, activations="tanh", weights="real")
    x = torch.randn(1, 2, 5, 5)
    padded = torch.nn.functional.pad(torch.tanh(x), (1, 1, 1, 1), value=1.0)
    expected = torch.nn.functional.conv2d(padded, layer.weight)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    set_binarization(layer)
    torch.testing.assert_close(layer(x).double(), reference(layer, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2}, "odd kernel"),
        ({"kernel_size": 3, "padding_value": 0.5}, "padding value"),
        ({"kernel_size": 3, "bases": 2, "dilation": (1, 2, 3)}, "3 dilations"),
        ({"kernel_size": 3, "scale": "filters"}, "did you mean 'filter'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(BinsegError, match=message):
        BinaryConv2d(4, 4, **arguments)
