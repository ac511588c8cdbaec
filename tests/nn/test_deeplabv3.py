"""DeepLabV3's head: branches by hand, rates, and who gets binary ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trained_networks import looks_trained

from binseg.errors import BinsegError
from binseg.nn.heads.deeplabv3 import BinaryASPP, BinaryBranch, DeepLabV3Head, RealASPP
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model
from binseg.training.batchnorm import reestimate_batchnorm
from binseg.training.config import ModelConfig


def plus_minus(x):
    return torch.where(x >= 0, 1.0, -1.0)


def normalized(x, norm, channels=slice(None)):
    shape = (1, -1, 1, 1)
    mean, variance, gain, bias = (
        value[channels].view(shape)
        for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + norm.eps).sqrt() * gain + bias


def branch_by_hand(branch, x):
    """Σ λ_i BN_i(ReLU(mean|W_i| · sign(x) ⊛ sign(W_i))), the border filled with +1."""
    conv, _, norm = branch.unit
    border = conv.dilations[0] * (conv.kernel_size // 2)
    signs = F.pad(plus_minus(x), (border,) * 4, value=1.0)
    total = 0
    for base, weight in enumerate(conv.weight.chunk(branch.bases)):
        sums = F.conv2d(signs, plus_minus(weight), dilation=conv.dilations[0])
        channels = slice(base * len(weight), (base + 1) * len(weight))
        value = normalized(F.relu(sums * weight.abs().mean()), norm, channels)
        total = total + (value if branch.lambdas is None else branch.lambdas[base] * value)
    return total


@pytest.mark.parametrize("bases", [1, 3])
def test_binary_branches_by_hand(bases):
    torch.manual_seed(0)
    aspp = BinaryASPP(12, 7, (2, 5, 30), bases).eval()
    looks_trained(aspp)
    x = torch.randn(2, 12, 9, 11)
    with torch.no_grad():
        centered = normalized(x, aspp.norm)
        pooled = branch_by_hand(aspp.pooling, centered.mean(dim=(2, 3), keepdim=True))
        expected = [branch_by_hand(branch, centered) for branch in aspp.branches]
        expected.append(pooled.expand(-1, -1, 9, 11))
        torch.testing.assert_close(aspp(x), torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_real_branches_by_hand():
    torch.manual_seed(0)
    aspp = RealASPP(6, 4, (1, 3, 8)).eval()
    looks_trained(aspp)
    x = torch.randn(2, 6, 7, 10)
    expected = []
    for branch, rate in zip([*aspp.branches, aspp.pooling], (0, 1, 3, 8, 0), strict=True):
        conv, norm, _ = branch
        read = x.mean(dim=(2, 3), keepdim=True) if branch is aspp.pooling else x
        value = F.relu(
            normalized(F.conv2d(F.pad(read, (rate,) * 4), conv.weight, dilation=max(rate, 1)), norm)
        )
        expected.append(value.expand(-1, -1, 7, 10))
    torch.testing.assert_close(aspp(x), torch.cat(expected, dim=1), rtol=1e-4, atol=1e-5)


def dilations(head):
    convs = [m for m in head.aspp.modules() if isinstance(m, BinaryConv2d | nn.Conv2d)]
    return [
        rate
        for conv in convs
        for rate in (conv.dilations if isinstance(conv, BinaryConv2d) else conv.dilation[:1])
    ]


@pytest.mark.parametrize("aspp", ["binary", "real"])
@pytest.mark.parametrize(
    ("stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])]
)
def test_rates_shrink_with_the_grid(aspp, stride, rates):
    model = create_model(
        "groupnet18",
        num_classes=3,
        width=8,
        bases=1,
        head="deeplabv3",
        output_stride=stride,
        head_options={"aspp": aspp},
    )
    assert dilations(model.head) == [1, *rates, 1]


def test_output_stride_8_unless_asked_otherwise():
    model = create_model("groupnet18", num_classes=3, width=8, bases=1, head="deeplabv3")
    assert model.backbone.strides[-1] == 8


def test_a_rate_is_at_least_1():
    head = DeepLabV3Head([16], 2, output_stride=32, rates=(1, 2, 40))
    assert dilations(head) == [1, 1, 1, 10, 1]


def test_channels_are_256_or_those_of_the_map():
    assert DeepLabV3Head([64, 260], 2).refine[0].weight.shape == (256, 256, 3, 3)
    assert DeepLabV3Head([64, 40], 2).project[0].weight.shape == (40, 200, 1, 1)


@pytest.mark.parametrize("options", [{}, {"bases": 2}, {"aspp": "real"}, {"dropout": 0.0}])
@pytest.mark.parametrize("size", [(45, 61), (9, 8)])
def test_training_reaches_every_parameter(options, size):
    torch.manual_seed(0)
    model = create_model(
        "groupnet18", num_classes=3, width=8, bases=2, head="deeplabv3", head_options=options
    )
    logits = model(torch.randn(3, 3, *size))
    assert logits.shape == (3, 3, *size)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.head.parameters())
    assert all(p.grad.any() for p in model.head.parameters())


def test_a_binary_branch_is_a_group():
    branch = BinaryBranch(5, 4, 3, 2, bases=4)
    assert branch.unit[0].weight.shape == (16, 5, 3, 3)
    assert branch.lambdas.shape == (4,)
    assert branch(torch.randn(2, 5, 6, 7)).shape == (2, 4, 6, 7)
    assert BinaryBranch(5, 4, 3, 2, bases=1).lambdas is None


@pytest.mark.parametrize("options", [{}, {"aspp": "binary", "bases": 2}])
def test_the_twin_is_real_whatever_was_asked(options):
    arguments = {
        "name": "groupnet18", "num_classes": 3, "width": 8, "head": "deeplabv3",
        "head_options": options,
    }  # fmt: skip
    assert isinstance(create_model(**arguments).head.aspp, BinaryASPP)
    twin = create_model(**arguments, precision="full")
    assert isinstance(twin.head.aspp, RealASPP)
    assert isinstance(create_model(**twin.architecture).head.aspp, RealASPP)
    assert not any(isinstance(module, BinaryConv2d) for module in twin.modules())


def test_one_image_cannot_train_it_but_may_end_a_calibration():
    model = create_model("groupnet18", num_classes=3, width=8, bases=1, head="deeplabv3")
    image = torch.randn(1, 3, 40, 40)
    with pytest.raises(BinsegError, match="batch_size"):
        model(image)
    assert model.eval()(image).shape == (1, 3, 40, 40)
    model.train()
    batches = [torch.randn(2, 3, 40, 40), image]
    assert reestimate_batchnorm(model, batches, lambda x: x) == 3
    norm = model.head.aspp.pooling.unit[2]
    assert norm.running_mean.isfinite().all()
    assert norm.running_var.isfinite().all()
    assert norm.running_mean.any()


def test_the_keys_of_a_configuration():
    config = ModelConfig(
        width=8, bases=2, head="deeplabv3", aspp="binary", aspp_bases=3, aspp_rates=(2, 4, 6),
        dropout=0.25,
    )  # fmt: skip
    head = create_model(**config.arguments(3)).head
    assert dilations(head) == [1] * 3 + [2] * 3 + [4] * 3 + [6] * 3 + [1] * 3
    assert head.dropout.p == 0.25
    with pytest.raises(BinsegError, match="kernel_size"):
        create_model(**ModelConfig(head="deeplabv3", head_kernel=1).arguments(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 3}, "option of head deeplabv3 'kernel_size'"),
        ({"aspp": "binari"}, "did you mean 'binary'"),
        ({"bases": 9}, "1 to 8 bases"),
        ({"rates": [6, 12]}, "three rates"),
        ({"rates": [0, 6, 12]}, "at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"rate": 3}, "did you mean 'rates'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BinsegError, match=message):
        create_model("groupnet18", num_classes=3, width=8, head="deeplabv3", head_options=options)
