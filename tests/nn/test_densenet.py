"""BinaryDenseNet's structure: parts by hand, strides, dilations, published sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from binseg.errors import BinsegError
from binseg.nn.backbones.densenet import (
    DenseLayer,
    DenseNet,
    DenseNetOptions,
    Transition,
    reduced_channels,
)
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model
from binseg.summarize import measure_size

# channels before and after each stage, with 64 to begin with and 64 more for each layer
STAGES = {
    "binarydensenet28": [(64, 448), (160, 544), (192, 576), (256, 576)],
    "binarydensenet37": [(64, 448), (128, 640), (192, 960), (256, 640)],
    "binarydensenet37_dilated": [(64, 448), (128, 640), (192, 960), (256, 640)],
    "binarydensenet45": [(64, 448), (160, 928), (288, 1184), (288, 800)],
}
every_network = pytest.mark.parametrize("name", STAGES)


def small(**options) -> DenseNet:
    torch.manual_seed(0)
    return DenseNet(DenseNetOptions(**{"width": 8, **options}))


def look_trained(norm: nn.BatchNorm2d) -> None:
    """Statistics and gains of both signs."""
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 2)


def normalized(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    mean, variance, gain, shift = (
        each.detach().view(1, -1, 1, 1)
        for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + 1e-5).sqrt() * gain + shift


# --- the parts by hand ---


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize("padding_value", [1, -1])
def test_layer_by_hand(dilation, padding_value):
    """BatchNorm → sign → convolution of ±1 → beside the input, which comes first."""
    torch.manual_seed(0)
    layer = DenseLayer(DenseNetOptions(width=4, padding_value=padding_value), 10, dilation).eval()
    look_trained(layer.norm)
    x = torch.randn(2, 10, 7, 9)
    signs = torch.where(normalized(layer.norm, x) >= 0, 1.0, -1.0)
    framed = F.pad(signs, (dilation,) * 4, value=padding_value)
    weight = torch.where(layer.conv.weight >= 0, 1.0, -1.0)
    expected = torch.cat([x, F.conv2d(framed, weight, dilation=dilation)], dim=1)
    assert torch.equal(layer(x), expected)
    assert expected.shape == (2, 14, 7, 9)


@pytest.mark.parametrize("dilation", [1, 2])
def test_layer_of_the_twin_by_hand(dilation):
    torch.manual_seed(0)
    layer = DenseLayer(DenseNetOptions(width=4, precision="full"), 10, dilation).eval()
    look_trained(layer.norm)
    x = torch.randn(2, 10, 7, 9)
    positive = normalized(layer.norm, x).clamp(min=0)
    beside = F.conv2d(positive, layer.conv.weight, padding=dilation, dilation=dilation)
    torch.testing.assert_close(layer(x), torch.cat([x, beside], dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(7, 9), (6, 5), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_transition_by_hand(size, stride):
    """BatchNorm before the maximum (gains may be negative), then ReLU, then the convolution."""
    torch.manual_seed(0)
    transition = Transition(10, 6, stride).eval()
    norm, _, _, conv = transition
    look_trained(norm)
    assert (norm.weight < 0).any()
    x = torch.randn(2, 10, *size)
    y = normalized(norm, x)
    if stride == 2:
        height, width = size
        y = F.pad(y, (0, width % 2, 0, height % 2), value=-torch.inf)
        y = y.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax(dim=(3, 5))
    expected = torch.einsum("nchw,oc->nohw", y.clamp(min=0), conv.weight[:, :, 0, 0])
    torch.testing.assert_close(transition(x), expected, rtol=1e-4, atol=1e-5)


def test_gradients_end_at_the_clip():
    """1{|x| ≤ 1.3} for activations and for latent weights."""
    layer = DenseLayer(DenseNetOptions(width=4), 2, 1).eval()
    x = torch.tensor([-1.4, -1.25, 0.0, 1.25, 1.4]).view(1, 1, 1, 5).repeat(1, 2, 1, 1)
    x.requires_grad_()
    # an odd number of odd terms, so that no sum of ±1 is 0
    layer(x)[:, 2:].mul(torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 4, 1, 1)).sum().backward()
    assert [bool(v) for v in x.grad[0, 0, 0]] == [False, True, True, True, False]
    layer.train()
    with torch.no_grad():
        layer.conv.weight.fill_(1.25)[:, 0] = 1.35
    layer.zero_grad()
    layer(torch.randn(1, 2, 5, 5)).square().sum().backward()
    assert not layer.conv.weight.grad[:, 0].any()
    assert layer.conv.weight.grad[:, 1].any()


# --- the whole ---


@every_network
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(61, 83), (64, 96)])
def test_maps_at_every_output_stride(name, output_stride, size):
    torch.manual_seed(0)
    backbone = create_model(name, num_classes=2, width=8, output_stride=output_stride).backbone
    if name == "binarydensenet37_dilated":
        output_stride = 8
    with torch.no_grad():
        maps = backbone.eval()(torch.randn(1, 3, *size))
    assert backbone.strides == [min(4 * 2**i, output_stride) for i in range(4)]
    assert backbone.channels == [after // 8 for _, after in STAGES[name]]
    for found, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert found.shape == (1, channels, *(-(-side // stride) for side in size))


def dilations(backbone: DenseNet) -> list[set[int]]:
    return [
        {m.dilations[0] for m in stage.modules() if isinstance(m, BinaryConv2d)}
        for stage in backbone.stages
    ]


@pytest.mark.parametrize(
    ("output_stride", "expected"), [(8, [1, 1, 2, 4]), (16, [1, 1, 1, 2]), (32, [1, 1, 1, 1])]
)
def test_what_is_not_pooled_is_dilated(output_stride, expected):
    assert dilations(small(output_stride=output_stride)) == [{rate} for rate in expected]
    twin = small(output_stride=output_stride, precision="full")
    assert [stage[0].conv.dilation[0] for stage in twin.stages] == expected


def test_the_dilated_network_has_output_stride_8_as_classifier_too():
    classifier = create_classifier("binarydensenet37_dilated", num_classes=3, width=8)
    assert dilations(classifier.backbone) == [{1}, {1}, {2}, {4}]
    assert classifier.backbone.strides == [4, 8, 8, 8]
    plain = create_classifier("binarydensenet37", num_classes=3, width=8)
    assert dilations(plain.backbone) == [{1}] * 4
    assert plain.backbone.strides == [4, 8, 16, 32]
    assert [t.shape for t in plain.state_dict().values()] == [
        t.shape for t in classifier.state_dict().values()
    ]


def test_the_last_map_is_normalized_and_the_others_are_what_the_layers_gave():
    net = small().eval()
    look_trained(net.ends[3][0])
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = net(x)
        y = net.stages[0](net.stem(x))
        assert torch.equal(maps[0], y)
        y = net.stages[1](net.ends[0](y))
        assert torch.equal(maps[1], y)
        y = net.stages[3](net.ends[2](net.stages[2](net.ends[1](y))))
    torch.testing.assert_close(maps[3], normalized(net.ends[3][0], y).clamp(min=0))
    assert (maps[1] < 0).any()


def test_no_two_batchnorms_in_a_row():
    for stem in ("conv7", "conv7_bn", "conv7_relu", "grouped3"):
        net = small(width=16, stem=stem)
        assert isinstance(net.stem[-1], nn.MaxPool2d)
        assert net.stem(torch.randn(1, 3, 33, 47)).shape == (1, 16, 9, 12)


def test_small_images_keep_their_size_in_the_stem():
    net = small(stem="conv3", output_stride=8).eval()
    assert net.strides == [1, 2, 4, 8]
    assert dilations(net) == [{1}] * 4
    maps = net(torch.randn(1, 3, 19, 32))
    assert [tuple(m.shape[2:]) for m in maps] == [(19, 32), (10, 16), (5, 8), (3, 4)]


@every_network
@pytest.mark.parametrize("precision", ["binary", "full"])
def test_every_parameter_is_trained(name, precision):
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, width=8, precision=precision, head="fcn8s")
    model(torch.randn(2, 3, 45, 61)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@every_network
def test_the_twin_has_no_binary_layer_and_the_same_parameters(name):
    one, twin = (
        create_classifier(name, num_classes=3, width=8, precision=precision).eval()
        for precision in ("binary", "full")
    )
    assert sum(isinstance(m, BinaryConv2d) for m in one.modules()) == sum(
        (after - before) // 64 for before, after in STAGES[name]
    )
    assert not any(isinstance(m, BinaryConv2d) for m in twin.modules())
    assert {n: p.shape for n, p in one.named_parameters()} == {
        n: p.shape for n, p in twin.named_parameters()
    }
    x = torch.randn(1, 3, 40, 51)
    assert one(x).shape == twin(x).shape == (1, 3)


@every_network
@pytest.mark.parametrize("head", ["fcn", "fcn32s", "fcn16s", "fcn8s"])
def test_heads_at_odd_sizes(name, head):
    model = create_model(name, num_classes=5, width=4, head=head).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 37, 51)).shape == (2, 5, 37, 51)


# --- published figures ---


def on_meta(name):
    with torch.device("meta"):
        return create_classifier(name, num_classes=1000)


@every_network
def test_parameters_by_hand(name):
    """Stem, layers, transitions, classifier, and two numbers a channel of each BatchNorm."""
    stages = STAGES[name]
    last = stages[-1][1]
    binary = sum(9 * 64 * c for before, after in stages for c in range(before, after, 64))
    real = 7 * 7 * 3 * 64 + last * 1000 + 1000
    real += sum(stages[i][1] * stages[i + 1][0] for i in range(3))
    norms = 64 + sum(after for _, after in stages)
    norms += sum(c for before, after in stages for c in range(before, after, 64))
    size = measure_size(on_meta(name))
    assert (size.binary, size.real) == (binary, real + 2 * norms)
    assert size.packed_bytes == binary // 8 + 4 * (real + 4 * norms)


@pytest.mark.parametrize(
    ("name", "parameters", "mebibytes"),
    [
        ("binarydensenet28", 5_150_504, 4.12),
        ("binarydensenet37", 8_734_120, 5.25),
        ("binarydensenet37_dilated", 8_734_120, 5.25),
        ("binarydensenet45", None, 7.54),
    ],
)
def test_published_sizes(name, parameters, mebibytes):
    """Of the public re-trainings (Larq Zoo): BatchNorm's statistics are counted, in 2²⁰ bytes."""
    size = measure_size(on_meta(name))
    assert round(size.packed_bytes / 2**20, 2) == mebibytes
    if parameters is not None:
        assert size.float_bytes == 4 * parameters


def test_channels_keep_their_proportions():
    assert reduced_channels(448, 2.7, 64) == 160
    assert reduced_channels(960, 4.0, 64) == 256
    for name, stages in STAGES.items():
        for width in (4, 16, 128):
            with torch.device("meta"):
                backbone = create_classifier(name, num_classes=2, width=width).backbone
            before = [stage[0].norm.num_features for stage in backbone.stages]
            found = list(zip(before, backbone.channels, strict=True))
            assert found == [(a * width // 64, b * width // 64) for a, b in stages]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 121}, "28, 37 or 45"),
        ({"output_stride": 4}, "8, 16 or 32"),
        ({"width": 30}, "multiple of 4"),
        ({"width": 24, "stem": "grouped3"}, "multiple of 16"),
        ({"clip": 0}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"precision": "ful"}, "did you mean 'full'"),
        ({"stem": "conv8"}, "did you mean 'conv7'"),
        ({"scale": "layers"}, "did you mean 'layer'"),
        ({"gradient": "sto"}, "did you mean 'ste'"),
        ({"weight_gradient": "clop"}, "did you mean 'clip'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BinsegError, match=message):
        DenseNetOptions(**options)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(BinsegError, match="did you mean 'binarydensenet28'"):
        create_model("binarydensenet29", num_classes=2)
    with pytest.raises(BinsegError, match="did you mean 'width'"):
        create_model("binarydensenet28", num_classes=2, widht=8)
