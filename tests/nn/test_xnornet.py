"""XNOR-Net and BWN: blocks, scaling map and gradient against plain torch, and sizes."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from by_hand import alpha_signs, binary, normalized
from torch import nn
from trained_networks import looks_trained

from binseg.errors import BinsegError
from binseg.nn.backbones import create_backbone
from binseg.nn.backbones.stages import BlockPlan
from binseg.nn.backbones.xnornet import BWNBlock, BWNOptions, XnorBlock, XnorNetOptions
from binseg.nn.binarize import binarize_weight
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model

RESNETS = ("xnornet18", "xnornet34", "bwn18", "bwn34")
ALEXNETS = ("xnornet_alexnet", "bwn_alexnet")


@pytest.fixture(autouse=True)
def _same_numbers():
    torch.manual_seed(0)


def projected(x, layers, stride):
    """The real shortcut: mean of the pixels that are there, 1×1 convolution, BatchNorm."""
    _, conv, norm = layers
    if stride == 2:
        padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        there = F.pad(torch.ones_like(x), (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        x = F.avg_pool2d(padded, 2) / F.avg_pool2d(there, 2)
    return normalized(F.conv2d(x, conv.weight), norm)


PLANS = [
    BlockPlan(4, 4, stride=1, dilation=1, grid=4),
    BlockPlan(3, 6, stride=2, dilation=1, grid=8),
    BlockPlan(3, 6, stride=1, dilation=2, grid=8),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("downsample", ["real", "binary"])
@pytest.mark.parametrize("padding_value", [1, 0, -1])
@torch.no_grad()
def test_xnor_block_by_hand(plan, downsample, padding_value):
    options = XnorNetOptions(downsample=downsample, padding_value=padding_value)
    block = looks_trained(XnorBlock(options, plan))
    x = torch.randn(2, plan.in_channels, 7, 5)
    found = block(x)
    inner = normalized(x, block.entry1[0])
    y = normalized(binary(inner, block.conv1, padding_value), block.entry2[0])
    y = binary(y, block.conv2, padding_value)
    if plan.changes_shape and downsample == "real":
        x = projected(x, block.real_downsample, plan.stride)
    elif plan.changes_shape:
        x = binary(inner, block.binary_downsample, padding_value)
    torch.testing.assert_close(found, y + x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("downsample", ["real", "binary"])
@torch.no_grad()
def test_bwn_block_by_hand(plan, downsample):
    block = looks_trained(BWNBlock(BWNOptions(downsample=downsample), plan))
    x = torch.randn(2, plan.in_channels, 7, 5)
    found = block(x)
    y = normalized(binary(x, block.conv1, None), block.norm1).relu()
    y = normalized(binary(y, block.conv2, None), block.norm2)
    if plan.changes_shape and downsample == "real":
        x = projected(x, block.downsample, plan.stride)
    elif plan.changes_shape:
        x = normalized(binary(x, block.downsample[0], None), block.downsample[1])
    torch.testing.assert_close(found, (y + x).relu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@torch.no_grad()
def test_twin_of_a_xnor_block_is_a_preactivation_block(plan):
    block = looks_trained(XnorBlock(XnorNetOptions(precision="full"), plan))
    x = torch.randn(2, plan.in_channels, 7, 5)
    found = block(x)
    y = normalized(x, block.entry1[0]).relu()
    y = F.conv2d(y, block.conv1.weight, None, plan.stride, plan.dilation, plan.dilation)
    y = normalized(y, block.entry2[0]).relu()
    y = F.conv2d(y, block.conv2.weight, None, 1, plan.dilation, plan.dilation)
    if plan.changes_shape:
        x = projected(x, block.real_downsample, plan.stride)
    torch.testing.assert_close(found, y + x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_last_map_alone_is_normalized():
    for precision in ("binary", "full"):
        net = looks_trained(create_backbone("xnornet18", width=4, precision=precision))
        x = torch.randn(1, 3, 37, 45)
        found = net(x)
        maps = []
        x = net.stem(x)
        for stage in net.stages:
            for block in stage:
                x = block(x)
            maps.append(x)
        assert all(torch.equal(one, other) for one, other in zip(found[:3], maps[:3], strict=True))
        torch.testing.assert_close(
            found[3], normalized(maps[3], net.norm).relu(), rtol=1e-4, atol=1e-4
        )


def scaling_map(x, kernel, stride, dilation):
    """K, pixel by pixel: mean |x| over the channels, zeros outside, over the pixels under it."""
    n, channels, height, width = x.shape
    found = torch.zeros(n, 1, -(-height // stride), -(-width // stride))
    for i, j in itertools.product(range(found.shape[2]), range(found.shape[3])):
        for a, b in itertools.product(range(kernel), range(kernel)):
            row = i * stride + (a - kernel // 2) * dilation
            column = j * stride + (b - kernel // 2) * dilation
            if 0 <= row < height and 0 <= column < width:
                total = x[:, :, row, column].abs().sum(dim=1)
                found[:, 0, i, j] += total / channels / kernel**2
    return found


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 3), (5, 1, 2), (1, 2, 1)]
)
@torch.no_grad()
def test_scaling_map_by_hand(kernel, stride, dilation):
    torch.manual_seed(0)
    own = {"stride": stride, "dilation": dilation, "scale": "filter"}
    layer = BinaryConv2d(3, 2, kernel, input_scale=True, **own)
    plain = BinaryConv2d(3, 2, kernel, **own)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 7, 6)
    expected = plain(x) * scaling_map(x, kernel, stride, dilation)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_the_switch_turns_the_scaling_map_on_everywhere():
    for name in ("xnornet18", "xnornet_alexnet"):
        for wanted in (False, True):
            net = create_backbone(name, width=12, input_scale=wanted)
            layers = [m for m in net.modules() if isinstance(m, BinaryConv2d)]
            assert layers
            assert {layer.input_scale for layer in layers} == {wanted}


def test_gradient_of_one_filter():
    """α·1{|W| ≤ 1}·g + (1/n)·sign(W)·Σ(g·sign(W)), and the same number by number."""
    weight = torch.tensor([0.5, -0.25, 2.0, -1.5, 0.0, 1.0]).view(1, 6, 1, 1).requires_grad_()
    incoming = [3.0, 1.0, -2.0, 4.0, 6.0, -1.0]
    y = binarize_weight(weight, scale="filter", gradient="xnor")
    alpha = 5.25 / 6
    expected = [alpha, -alpha, alpha, -alpha, alpha, alpha]
    torch.testing.assert_close(y.flatten(), torch.tensor(expected))
    y.backward(torch.tensor(incoming).view_as(weight))
    total = 3.0 - 1.0 - 2.0 - 4.0 + 6.0 - 1.0  # = 1
    by_hand = [
        alpha * 3.0 + total / 6,
        alpha * 1.0 - total / 6,
        total / 6,
        -total / 6,
        alpha * 6.0 + total / 6,
        alpha * -1.0 + total / 6,
    ]
    torch.testing.assert_close(weight.grad.flatten(), torch.tensor(by_hand))


def test_the_gradient_through_the_scale_is_that_of_a_finite_difference():
    """Where no sign flips and the clip is 0, only α moves, which is differentiable."""
    torch.manual_seed(0)
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64).requires_grad_()
    incoming = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    binarize_weight(weight, scale="filter", gradient="xnor", clip=0.0).backward(incoming)
    for place in ((0, 0, 0, 0), (1, 2, 1, 2), (0, 1, 2, 0)):
        difference = torch.zeros_like(weight)
        difference[place] = 1e-6
        high, low = (
            (alpha_signs(weight + step).detach() * incoming).sum()
            for step in (difference, -difference)
        )
        torch.testing.assert_close(weight.grad[place], (high - low) / 2e-6, rtol=1e-5, atol=1e-7)


# --- the networks ---


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize("head", ["fcn", "fcn32s", "fcn16s", "fcn8s"])
@pytest.mark.parametrize("stride", [8, 16, 32])
@torch.no_grad()
def test_every_head_at_every_output_stride(name, head, stride):
    model = create_model(name, num_classes=3, width=4, head=head, output_stride=stride).eval()
    x = torch.randn(1, 3, 45, 61)
    assert model(x).shape == (1, 3, 45, 61)
    maps = model.backbone(x)
    assert model.backbone.channels == [4, 8, 16, 32]
    assert model.backbone.strides == [min(stride, whole) for whole in (4, 8, 16, 32)]
    for found, channels, own in zip(
        maps, model.backbone.channels, model.backbone.strides, strict=True
    ):
        assert found.shape == (1, channels, -(-45 // own), -(-61 // own))
    rates = [{block.conv1.dilations for block in stage} for stage in model.backbone.stages]
    wanted = {8: (1, 1, 2, 4), 16: (1, 1, 1, 2), 32: (1, 1, 1, 1)}[stride]
    assert rates == [{(rate,)} for rate in wanted]


@pytest.mark.parametrize("stem", ["conv7", "conv7_bn", "conv7_relu", "grouped3", "conv3"])
@pytest.mark.parametrize("name", ["xnornet18", "bwn18"])
def test_every_stem_trains(name, stem):
    model = create_model(name, num_classes=3, width=16, stem=stem)
    model(torch.randn(2, 3, 21, 35)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.backbone.strides[0] == (1 if stem == "conv3" else 4)
    # a normalised map is not normalised again before a block that does, or needs none
    assert isinstance(model.backbone.stem[-1], nn.MaxPool2d) == (stem not in ("conv7", "conv3"))


@pytest.mark.parametrize("name", RESNETS + ALEXNETS)
def test_a_twin_has_the_same_parameters_and_no_bits(name):
    binary_net = create_backbone(name, width=12)
    twin = create_backbone(name, width=12, precision="full")
    assert any(isinstance(module, BinaryConv2d) for module in binary_net.modules())
    assert not any(isinstance(module, BinaryConv2d) for module in twin.modules())
    sizes = [{n: p.shape for n, p in net.named_parameters()} for net in (binary_net, twin)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", RESNETS + ALEXNETS)
def test_what_is_binary_and_how(name):
    net = create_backbone(name, width=12)
    layers = [module for module in net.modules() if isinstance(module, BinaryConv2d)]
    assert len(layers) == {"18": 16, "34": 32}.get(name[-2:], 6)
    for layer in layers:
        assert (layer.scale, layer.weight_gradient) == ("filter", "xnor")
        assert layer.centered_weight
        assert layer.real_input == name.startswith("bwn")
        if not layer.real_input:
            assert (layer.binarize_input.gradient, layer.binarize_input.clip) == ("ste", 1.0)


def residual_parameters(blocks, norms_of):
    """Stem, blocks of 3×3 convolutions with BatchNorms, projections, and 1000 classes."""
    total = 7 * 7 * 3 * 64 + 2 * 64
    before = 64
    for number, channels in zip(blocks, (64, 128, 256, 512), strict=True):
        for _ in range(number):
            total += 9 * before * channels + 9 * channels * channels
            total += 2 * sum(norms_of(before, channels))
            if before != channels:
                total += before * channels + 2 * channels
            before = channels
    return total + 512 * 1000 + 1000


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("18", (2, 2, 2, 2)), ("34", (3, 4, 6, 3))],
)
def test_parameters_of_the_residual_networks(name, blocks):
    def count(network):
        with torch.device("meta"):
            return sum(p.numel() for p in create_classifier(network, num_classes=1000).parameters())

    bwn = residual_parameters(blocks, lambda before, channels: (channels, channels))
    assert bwn == {"18": 11_689_512, "34": 21_797_672}[name]  # torchvision's resnet18, resnet34
    assert count(f"bwn{name}") == bwn
    # each BatchNorm stands before its convolution, and one more at the end
    xnor = residual_parameters(blocks, lambda before, channels: (before, channels)) + 2 * 512
    assert count(f"xnornet{name}") == xnor


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("xnornet18", {"width": 6}, "multiple of 4 up to 1024, not 6"),
        ("bwn18", {"width": 20, "stem": "grouped3"}, "multiple of 16 up to 1024, not 20"),
        ("xnornet18", {"downsample": "reel"}, "did you mean 'real'"),
        ("xnornet18", {"precision": "ful"}, "did you mean 'full'"),
        (
            "xnornet18",
            {"stem": "conv5_relu"},
            "unknown stem 'conv5_relu'; did you mean 'conv7_relu'",
        ),
        ("xnornet18", {"gradient": "aprox"}, "unknown gradient 'aprox'; did you mean 'approx'"),
        ("bwn18", {"gradient": "ste"}, "unknown option of bwn18 'gradient'"),
        ("bwn18", {"scale": "layer"}, 'needs the scale "filter"'),
        ("xnornet18", {"output_stride": 4}, "output stride must be 8, 16 or 32, not 4"),
        ("xnornet18", {"depth": 50}, "depth 18 or 34, not 50"),
        ("xnornet18", {"padding_value": 0.5}, "padding value must be -1, 0 or 1"),
        ("xnornet18", {"clip": float("nan")}, "clip must be above 0"),
        ("xnornet_alexnet", {"width": 8}, "multiple of 3 up to 1024, not 8"),
        ("bwn_alexnet", {"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1"),
        ("xnornet_alexnet", {"dropout": 0.5}, "unknown option of xnornet_alexnet 'dropout'"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(BinsegError, match=message):
        create_backbone(name, **options)
