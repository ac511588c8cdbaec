"""The ResNets of one branch: each family's block written out, its sizes, and its twin."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.activations import AdaptiveSign, BinaryActivation, LearntSign
from binseg.nn.backbones import create_backbone, list_backbones
from binseg.nn.backbones.residual import RPReLU
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d

FAMILIES = ("bnn", "bireal", "resnete", "sdbnn", "reactnet")
CIFAR = ("sdbnn18_cifar", "sdbnn20_cifar")
DENSE = [f"{family}{depth}" for family in FAMILIES for depth in (18, 34)]


def network(name: str, seed: int = 0, **options):
    """In eval mode and float64, so that no sign hangs on a rounding; no parameter at its start."""
    torch.manual_seed(seed)
    net = create_backbone(name, **{"width": 16, **options}).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.2, 1)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_()
    return net


# --- one stage of each family by hand ---


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0).double()


def convolve(x: Tensor, weight: Tensor, conv: BinaryConv2d) -> Tensor:
    """3×3 with a border of +1, in which the image's own corner stays where it is."""
    dilation = conv.dilations[0]
    padded = F.pad(x, (dilation,) * 4, value=1.0)
    return F.conv2d(padded, weight, stride=conv.stride, dilation=dilation)


def normed(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * gain
    return x * gain.view(-1, 1, 1, 1)[:, 0] + shift.view(-1, 1, 1)


def per_filter(weight: Tensor) -> Tensor:
    return signs(weight) * weight.abs().mean(dim=(1, 2, 3), keepdim=True)


def bent(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope.view(-1, 1, 1))


def bnn(x, residual, units):
    for unit in units:
        x = normed(convolve(signs(x), signs(unit.conv.weight), unit.conv), unit.norm)
    return x + residual


def bireal(x, residual, units):
    (unit,) = units
    y = convolve(signs(x), per_filter(unit.conv.weight), unit.conv)
    return normed(y, unit.norm) + residual


def resnete(x, residual, units):
    (unit,) = units
    return normed(convolve(signs(x), signs(unit.conv.weight), unit.conv), unit.norm) + residual


def self_distribution(x, conv):
    asd = conv.binarize_input
    hidden = (x.mean(dim=(2, 3)) @ asd.squeeze.weight.T).clamp(min=0)
    moved = x + torch.sigmoid(hidden @ asd.excite.weight.T)[:, :, None, None]
    weight = conv.weight
    mean = weight.flatten(1).mean(dim=1).view(-1, 1, 1, 1)
    alpha = torch.sigmoid(conv.weight_logit).view(-1, 1, 1, 1)
    return convolve(signs(moved), signs(weight + alpha * 0.01 * mean), conv)


def sdbnn(x, residual, units):
    (unit,) = units
    y = normed(self_distribution(x, unit.conv), unit.norm) + residual
    return bent(y, unit.nonlinearity.weight)


def sdbnn18_cifar(x, residual, units):
    first, second = units
    y = normed(self_distribution(x, first.conv), first.norm).clamp(-1, 1)
    return (normed(self_distribution(y, second.conv), second.norm) + residual).clamp(-1, 1)


def sdbnn20_cifar(x, residual, units):
    (unit,) = units
    return (normed(self_distribution(x, unit.conv), unit.norm) + residual).clamp(-1, 1)


def reactnet(x, residual, units):
    (unit,) = units
    threshold = unit.conv.binarize_input.shift.view(-1, 1, 1)
    y = convolve(signs(x + threshold), per_filter(unit.conv.weight), unit.conv)
    curve = unit.nonlinearity
    before, after = (s.view(-1, 1, 1) for s in (curve.before_shift, curve.after_shift))
    return bent(normed(y, unit.norm) + residual + before, curve.prelu.weight) + after


FORMULAS = {
    **{f"{formula.__name__}18": formula for formula in (bnn, bireal, resnete, sdbnn, reactnet)},
    "sdbnn18_cifar": sdbnn18_cifar,
    "sdbnn20_cifar": sdbnn20_cifar,
}


def shortcut(x: Tensor, layers: nn.Sequential) -> Tensor:
    """The mean of 2×2 pixels, or of as many as there are at the border, and a 1×1 convolution."""
    _, conv, norm = layers
    rows, columns = x.shape[2:]
    sums = F.pad(x, (0, columns % 2, 0, rows % 2)).unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5))
    ones = F.pad(torch.ones(1, 1, rows, columns), (0, columns % 2, 0, rows % 2))
    mean = sums / ones.unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5))
    return normed(torch.einsum("nchw,oc->nohw", mean, conv.weight[:, :, 0, 0]), norm)


@pytest.mark.parametrize("name", FORMULAS)
@torch.no_grad()
def test_a_stage_by_hand(name):
    stage = network(name).stages[1]
    x = torch.randn(2, 16, 9, 7, dtype=torch.float64)
    found = expected = x
    for block in stage:
        found = block(found)
        residual = expected
        if block is stage[0]:
            residual = shortcut(expected, block.downsample)
        else:
            assert block.downsample is None
        expected = FORMULAS[name](expected, residual, block.units)
    assert found.shape == (2, 32, 5, 4)
    torch.testing.assert_close(found, expected)


def test_rprelu_by_hand():
    curve = RPReLU(2)
    curve.before_shift.data = torch.tensor([1.0, -2.0])
    curve.after_shift.data = torch.tensor([10.0, 20.0])
    curve.prelu.weight.data = torch.tensor([0.5, -1.0])
    x = torch.tensor([[-3.0, 1.0], [1.0, 3.0]]).view(1, 2, 1, 2)
    # (−3 + 1)·0.5 + 10 and 1 + 1 + 10; (1 − 2)·(−1) + 20 and 3 − 2 + 20
    assert curve(x).flatten().tolist() == [9.0, 12.0, 21.0, 21.0]


@pytest.mark.parametrize("name", [*FORMULAS, "resnete34"])
@torch.no_grad()
def test_without_its_convolutions_a_network_is_its_shortcuts(name):
    """Where no convolution gives anything, three shortcuts with weights are all that is left."""
    net = network(name)
    x = torch.randn(1, 3, 45, 61, dtype=torch.float64)
    y = net.stem(x)
    for found, stage in zip(switched_off(net)(x), net.stages, strict=True):
        for block in stage:
            y = y if block.downsample is None else block.downsample(y)
            y = block.units[-1].nonlinearity(y)
        torch.testing.assert_close(found, y)


def switched_off(net):
    for stage in net.stages:
        for block in stage:
            for unit in block.units:
                nn.init.zeros_(unit.norm.weight)
                nn.init.zeros_(unit.norm.bias)
                unit.norm.running_mean.zero_()
    return net


# --- sizes ---


def binary_layers(net: nn.Module) -> list[BinaryConv2d]:
    return [module for module in net.modules() if isinstance(module, BinaryConv2d)]


@pytest.mark.parametrize(
    ("name", "convolutions", "shortcuts"),
    [("bnn18", 16, 8), ("bnn34", 32, 16), ("sdbnn18_cifar", 16, 8), ("sdbnn20_cifar", 18, 18)]
    + [(f"{family}18", 16, 16) for family in FAMILIES[1:]]
    + [(f"{family}34", 32, 32) for family in FAMILIES[1:]],
)
def test_convolutions_and_shortcuts(name, convolutions, shortcuts):
    net = create_backbone(name, width=16)
    assert len(binary_layers(net)) == convolutions
    blocks = [block for stage in net.stages for block in stage]
    assert len(blocks) == shortcuts
    downsampling = [index for index, block in enumerate(blocks) if block.downsample is not None]
    firsts = [0]
    for stage in net.stages:
        firsts.append(firsts[-1] + len(stage))
    assert downsampling == firsts[1:-1]
    binary = create_backbone(name, width=16, downsample="binary")
    assert len(binary_layers(binary)) == convolutions + len(downsampling)


BITS18 = 147_456 + 516_096 + 2_064_384 + 8_257_536
BITS34 = 221_184 + 1_105_920 + 6_782_976 + 12_976_128
"""9·C_in·C_out, summed over the four stages."""
REST = 9_408 + 172_032 + 513_000
"""7×7 stem, 1×1 convolutions of three shortcuts, 512·1000 + 1000 of the linear layer."""
NORMS18, NORMS34 = 2 * (64 + 3_840 + 896), 2 * (64 + 7_552 + 896)
"""Two numbers for each channel of the stem, the convolutions and the shortcuts."""


@pytest.mark.parametrize(
    ("name", "binary", "others"),
    [
        ("bnn18", BITS18, REST + NORMS18),
        ("bnn34", BITS34, REST + NORMS34),
        ("bireal18", BITS18, REST + NORMS18),
        ("bireal34", BITS34, REST + NORMS34),
        ("resnete18", BITS18, REST + NORMS18 + 2 * 64),  # the stem has two BatchNorms
        ("resnete34", BITS34, REST + NORMS34 + 2 * 64),
        # three numbers a channel in RPReLU, one threshold for each channel that is read
        ("reactnet18", BITS18, REST + NORMS18 + 3 * 3_840 + 5 * 64 + 4 * 128 + 4 * 256 + 3 * 512),
        # PReLU, α, and two matrices C × C/8 for each convolution that reads C channels
        ("sdbnn18", BITS18, REST + NORMS18 + 2 * 3_840 + 5_120 + 16_384 + 65_536 + 196_608),
    ],
)
def test_parameters_of_the_classifiers(name, binary, others):
    with torch.device("meta"):
        model = create_classifier(name, num_classes=1000)
    weights = sum(layer.weight.numel() for layer in binary_layers(model))
    assert weights == binary
    assert sum(p.numel() for p in model.parameters()) - weights == others


def test_parameters_of_a_small_classifier():
    model = create_classifier("sdbnn20_cifar", num_classes=10)
    weights = sum(layer.weight.numel() for layer in binary_layers(model))
    assert weights == 13_824 + 50_688 + 202_752
    adaptive = 7 * 2 * 16 * 1 + 6 * 2 * 32 * 2 + 5 * 2 * 64 * 4
    others = 432 + 2_560 + 650 + 2 * (16 + 672 + 96) + 672 + adaptive
    assert sum(p.numel() for p in model.parameters()) - weights == others


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672)])
def test_the_twin_has_the_parameters_of_the_known_resnet(depth, parameters):
    with torch.device("meta"):
        twin = create_classifier(f"bireal{depth}", num_classes=1000, precision="full")
    assert sum(p.numel() for p in twin.parameters()) == parameters


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_strides_and_dilations(name, output_stride):
    net = create_backbone(name, width=8, output_stride=output_stride).eval()
    assert net.strides == [min(4 * 2**i, output_stride) for i in range(4)]
    assert net.channels == [8, 16, 32, 64]
    maps = net(torch.randn(1, 3, 45, 61))
    for found, channels, stride in zip(maps, net.channels, net.strides, strict=True):
        assert found.shape == (1, channels, -(-45 // stride), -(-61 // stride))
    for index, stage in enumerate(net.stages):
        dilation = 4 * 2**index // net.strides[index]
        assert {layer.dilations for layer in binary_layers(stage)} == {(dilation,)}


@pytest.mark.parametrize(("name", "strides"), zip(CIFAR, ([1, 2, 4, 8], [1, 2, 4]), strict=True))
@torch.no_grad()
def test_small_images(name, strides):
    assert name in list_backbones(dense=False)
    assert name not in list_backbones()
    model = create_classifier(name, num_classes=10, width=16).eval()
    assert model.backbone.strides == strides
    assert {layer.dilations for layer in binary_layers(model)} == {(1,)}
    maps = model.backbone(torch.randn(2, 3, 32, 32))
    assert [m.shape[1:] for m in maps] == [
        (16 * stride, 32 // stride, 32 // stride) for stride in strides
    ]
    assert model(torch.randn(2, 3, 31, 33)).shape == (2, 10)


# --- what the papers chose, and other choices ---


@pytest.mark.parametrize(
    ("family", "gradient", "clip", "weight_gradient", "scale", "threshold"),
    [
        ("bnn18", "ste", 1.0, "clip", "none", BinaryActivation),
        ("bireal34", "approx", 1.0, "clip", "filter", BinaryActivation),
        ("resnete18", "ste", 1.25, "clip", "none", BinaryActivation),
        ("sdbnn34", "approx", 1.0, "clip", "none", AdaptiveSign),
        ("sdbnn20_cifar", "ede", 1.0, "ede", "none", AdaptiveSign),
        ("reactnet18", "approx", 1.0, "clip", "filter", LearntSign),
    ],
)
def test_the_papers_choices(family, gradient, clip, weight_gradient, scale, threshold):
    net = create_backbone(family, width=16)
    for layer in binary_layers(net):
        assert type(layer.binarize_input) is threshold
        assert layer.binarize_input.gradient == gradient
        assert layer.clip == layer.binarize_input.clip == clip
        assert layer.weight_gradient == weight_gradient
        assert layer.scale == scale
        assert layer.padding_value == 1
        assert (layer.weight_logit is not None) == family.startswith("sdbnn")
    assert net.final_relu == family.startswith("resnete")


def test_hidden_units_of_the_adaptive_thresholds():
    for name, reduction in (("sdbnn18", 8), ("sdbnn18_cifar", 16)):
        for layer in binary_layers(create_backbone(name, width=64)):
            assert layer.binarize_input.squeeze.out_features == layer.in_channels // reduction


@pytest.mark.parametrize("name", [*DENSE, *CIFAR])
@pytest.mark.parametrize("downsample", ["real", "binary"])
def test_every_parameter_is_trained(name, downsample):
    torch.manual_seed(1)
    # of two hidden units, both may be at rest behind their ReLU
    net = create_backbone(name, width=16, downsample=downsample, reduction=2)
    maps = net(torch.randn(6, 3, 40, 40))
    sum(((m - torch.randn_like(m)) ** 2).mean() for m in maps).backward()
    untrained = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untrained
    assert all(p.grad.isfinite().all() for p in net.parameters())


# --- the twin ---


@pytest.mark.parametrize("name", [*DENSE, *CIFAR])
def test_the_twin_has_no_bits_and_the_same_topology(name):
    twin = create_backbone(name, width=16, precision="full")
    assert not any(isinstance(m, BinaryConv2d | BinaryActivation) for m in twin.modules())
    binary = create_backbone(name, width=16)
    weights = {n: p.shape for n, p in twin.named_parameters()}
    assert weights == {
        n: p.shape for n, p in binary.named_parameters() if not n.endswith("weight_logit")
        and ".binarize_input." not in n
    }  # fmt: skip
    x = torch.randn(2, 3, 40, 40)
    assert [m.shape for m in twin(x)] == [m.shape for m in binary(x)]


@pytest.mark.parametrize("name", ["bnn18", "bireal18", "sdbnn18_cifar"])
@torch.no_grad()
def test_a_block_of_the_twin_by_hand(name):
    """Zero padding, and a ReLU after each BatchNorm, after the sum where there is one."""
    block = network(name, precision="full").stages[1][1]
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    y = x
    for unit in block.units:
        y = normed(F.conv2d(y, unit.conv.weight, padding=1), unit.norm)
        if unit is block.units[-1]:
            y = y + x
        y = y.clamp(min=0)
    torch.testing.assert_close(block(x), y)


@pytest.mark.parametrize("name", ["sdbnn18", "reactnet18"])
def test_a_twin_keeps_nonlinearities_that_are_learnt(name):
    kind = {"sdbnn18": nn.PReLU, "reactnet18": RPReLU}[name]
    for precision in ("binary", "full"):
        assert nonlinearities(create_backbone(name, width=16, precision=precision)) == {kind}


def nonlinearities(net):
    return {
        type(unit.nonlinearity) for stage in net.stages for block in stage for unit in block.units
    }


# --- bad options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 50}, "depth 18, 20 or 34, not 50"),
        ({"width": 30}, "multiple of 4"),
        ({"width": 24, "stem": "grouped3"}, "multiple of 16"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"clip": float("nan")}, "clip must be above 0"),
        ({"output_stride": 4}, "8, 16 or 32"),
        ({"nonlinearity": "preul"}, "did you mean 'prelu'"),
        ({"threshold": "adaptiv"}, "did you mean 'adaptive'"),
        ({"stem": "conv7_rel"}, "did you mean 'conv7_relu'"),
        ({"shortcut": "blok"}, "did you mean 'block'"),
        ({"scale": "filtr"}, "did you mean 'filter'"),
        ({"precision": "ful"}, "did you mean 'full'"),
        ({"shift": True}, "option of bireal18"),
        ({"padding_value": 2.0}, "padding value"),
        ({"nonlinearity": "relu"}, r"after a ReLU every sign is \+1"),
        ({"nonlinearity": "relu", "threshold": "adaptive"}, r"after a ReLU every sign is \+1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BinsegError, match=message):
        create_backbone("bireal18", **{"width": 16, **options})


def test_a_relu_is_allowed_where_the_threshold_is_learnt():
    net = create_backbone("bireal18", width=16, nonlinearity="relu", threshold="learnt")
    assert nonlinearities(net) == {nn.ReLU}
