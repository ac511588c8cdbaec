"""The packed network says what the trained one says, over the options of Group-Net."""

import itertools

import pytest
import torch
from torch import nn
from trained_networks import pictures, trained

from binseg.errors import BinsegError
from binseg.kernels import dispatch
from binseg.nn.layers import set_binarization
from binseg.nn.segmenter import SmpSegmenter
from binseg.packed.conv import PackedConv
from binseg.packed.fold import pack
from binseg.packed.groupnet import BinaryDownsample, RealDownsample
from binseg.packed.modules import PackedSegmenter

OPTIONS = [
    {"bases": bases, "shortcut": shortcut, "nonlinearity": nonlinearity, "downsample": downsample}
    for bases, shortcut, nonlinearity, downsample in itertools.product(
        (1, 2, 3), ("block", "conv"), ("relu", "tanh", "prelu"), ("binary", "real")
    )
]
OPTIONS += [
    {"bases": 2, "gates": gates, "merge": merge, "downsample": downsample}
    for gates, merge, downsample in itertools.product(
        ("shared", "per_branch", "none"), ("learnt", "mean"), ("binary", "real")
    )
]
OPTIONS += [
    {"bases": 2, "padding_value": value, "scale": scale}
    for value, scale in itertools.product((-1, 0, 1), ("none", "layer", "filter"))
]
OPTIONS += [
    {"bases": 3, "atrous": atrous, "output_stride": stride}
    for atrous, stride in itertools.product(("bpac", "one_rate", "off"), (8, 16, 32))
]
OPTIONS += [{"bases": 2, "head": head} for head in ("fcn", "fcn32s", "fcn16s", "fcn8s", "fcn4s")]
OPTIONS += [{"bases": 2, "head_options": {"kernel_size": 1}}]
OPTIONS += [{"bases": 2, "head": "fcn8s", "output_stride": 8}]
OPTIONS += [{"bases": 2, "width": width} for width in (4, 20, 36)]
OPTIONS += [{"bases": 2, "width": 16, "stem": "grouped3"}, {"name": "groupnet34", "bases": 2}]
OPTIONS += [
    {"name": "groupnet50", "width": 4, "bases": bases, "shortcut": shortcut, "downsample": down}
    for bases, shortcut, down in itertools.product((1, 2), ("block", "conv"), ("binary", "real"))
]
OPTIONS += [
    {"name": "groupnet50", "width": 8, "bases": 2, "nonlinearity": "prelu", "gates": "shared"},
    {"name": "groupnet50_star", "width": 4, "bases": 3, "gates": "none", "head": "fcn8s"},
    {"name": "groupnet18_star", "bases": 8, "width": 4},
]


def agree(model, packed, x) -> None:
    """Equal logits but for rounding, and equal classes but for ties of them."""
    with torch.inference_mode():
        expected, found = model(x), packed(x)
        assert found.shape == expected.shape
        assert found.dtype == torch.float32
        ids = packed.class_map(x)
    assert ids.dtype == torch.uint8
    scale = expected.abs().max().item()
    best = expected.topk(2, dim=1).values
    tie = best[:, 0] - best[:, 1] < 1e-5 * scale
    wrong = ids != expected.argmax(1)
    assert not (wrong & ~tie).any()
    assert wrong.float().mean() < 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_class_maps_and_logits(options):
    model = trained(seed=len(str(options)), **options)
    agree(model, pack(model), pictures())


@pytest.mark.parametrize("options", OPTIONS[::9], ids=str)
def test_on_the_reference_too(options):
    model = trained(**options)
    with dispatch.use("reference"):
        agree(model, pack(model), pictures(33, 40))


@pytest.mark.parametrize("size", [(1, 1), (2, 200), (32, 33)])
def test_any_size(size):
    model = trained(bases=2, atrous="bpac", downsample="real", head="fcn8s")
    packed = pack(model)
    agree(model, packed, torch.randn(1, 3, *size))
    with torch.inference_mode():
        assert packed(torch.zeros(0, 3, *size)).shape == (0, 5, *size)
        assert packed.class_map(torch.zeros(0, 3, *size)).shape == (0, *size)


def test_the_comparison_can_fail():
    """One gate, one threshold, one λ: each of them is seen."""
    model = trained(bases=2)
    x = pictures()
    for damage in (
        lambda body: body.blocks[1].gates.mul_(0.5),
        lambda body: body.blocks[2].conv1.low.add_(20),
        lambda body: body.blocks[-1].lambdas.add_(0.5),
        lambda body: body.blocks[3].conv2.weight.bitwise_not_(),
    ):
        packed = pack(model)
        damage(packed.body)
        with pytest.raises(AssertionError):
            agree(model, packed, x)


def test_integers_stand_where_no_shortcut_does():
    def thresholds(**options):
        packed = pack(trained(bases=2, **options))
        return sum(m.threshold for m in packed.modules() if isinstance(m, PackedConv))

    assert thresholds() == 8  # the first of each of 8 blocks
    assert thresholds(shortcut="conv") == 0
    assert thresholds(name="groupnet50", width=4) == 2 * 16


def test_downsampling_is_what_was_trained():
    for option, kind in (("binary", BinaryDownsample), ("real", RealDownsample)):
        packed = pack(trained(bases=3, downsample=option))
        found = [block.downsample for block in packed.body.blocks]
        assert [type(layer) for layer in found if layer is not None] == [kind] * 3
        if option == "binary":
            assert all(layer.conv.weight.shape[0] == 1 for layer in found if layer is not None)


def test_the_trained_network_stays_as_it_is():
    model = trained(bases=2, nonlinearity="prelu").train()
    model.backbone.stages[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    packed = pack(model, rest="int8", calibration=[pictures()])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not list(packed.parameters())
    assert packed.num_classes == 5
    assert packed.architecture == model.architecture
    assert packed.rest == "int8"


def test_a_state_dict_holds_all_of_it():
    x = pictures()
    for rest in ("fp32", "bf16", "int8"):
        one, other = (
            pack(trained(seed, bases=2, downsample="real"), rest=rest, calibration=[x])
            for seed in (0, 1)
        )
        with torch.inference_mode():
            assert not torch.equal(one(x), other(x))
            other.load_state_dict(one.state_dict())
            assert torch.equal(one(x), other(x))


def mid_training(model):
    set_binarization(model, activations="tanh", weights="real")


def half_way(model):
    set_binarization(model, activations="sign", weights="real")


def with_nan(model):
    model.head.score[4].bias.data[0] = torch.nan


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (mid_training, r"backbone\..* is not binary yet"),
        (half_way, r"backbone\.stages\.0\.0\.unit1\.0 is not binary yet"),
        (with_nan, r"head\.score\.4\.bias holds nan"),
    ],
)
def test_a_network_that_cannot_be_packed_is_refused(harm, message):
    model = trained(bases=2)
    harm(model)
    with pytest.raises(BinsegError, match=message):
        pack(model)


def test_what_holds_no_bits_or_is_packed_is_refused():
    smp = SmpSegmenter(nn.Conv2d(3, 2, 1), {"num_classes": 2})
    for model in (trained(precision="full"), smp):
        with pytest.raises(BinsegError, match="nothing in this network is 1 bit"):
            pack(model)
    with pytest.raises(BinsegError, match="packed already"):
        pack(pack(trained()))
    with pytest.raises(BinsegError, match="did you mean 'int8'"):
        pack(trained(), rest="int4")


@pytest.mark.parametrize("calibration", [None, []])
def test_int8_needs_pictures(calibration):
    with pytest.raises(BinsegError, match="int8 needs pictures to calibrate on"):
        pack(trained(), rest="int8", calibration=calibration)


@pytest.mark.parametrize(
    "x", [torch.zeros(1, 4, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8).byte()]
)
@pytest.mark.parametrize("rest", ["fp32", "int8"])
def test_other_tensors_are_refused(x, rest):
    packed = pack(trained(), rest=rest, calibration=[pictures()])
    for call in (packed, packed.class_map, packed.scores):
        with pytest.raises(BinsegError, match="float32 pictures"):
            call(x)


def test_scores_lie_on_the_heads_grid():
    packed = pack(trained(output_stride=16))
    assert packed.scores(torch.zeros(2, 3, 48, 80)).shape == (2, 5, 3, 5)
    assert isinstance(packed, PackedSegmenter)


@pytest.mark.parametrize(
    ("options", "rest"),
    [
        ({"bases": 2, "downsample": "real", "head": "fcn8s"}, "fp32"),
        ({"bases": 2, "downsample": "real", "width": 16, "stem": "grouped3"}, "bf16"),
        ({"bases": 2, "downsample": "real"}, "int8"),
        ({"bases": 1, "shortcut": "conv"}, "fp32"),
    ],
    ids=str,
)
def test_export_to_pictures_of_any_size(options, rest):
    x = pictures(40, 56)
    packed = pack(trained(**options), rest=rest, calibration=[x])
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(packed, (x,), dynamic_shapes=({2: auto, 3: auto},)).module()
    with torch.no_grad():
        for each in (x, pictures(64, 80)):
            assert torch.equal(exported(each), packed(each))


@pytest.mark.parametrize(
    ("options", "rest"),
    [
        ({"bases": 2, "downsample": "real", "head": "fcn8s"}, "fp32"),
        ({"name": "groupnet50", "bases": 2, "shortcut": "conv", "width": 4}, "int8"),
    ],
    ids=str,
)
def test_compile(options, rest):
    x = pictures(40, 56)
    packed = pack(trained(**options), rest=rest, calibration=[x])
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(packed, backend="aot_eager", fullgraph=True)(x)
        expected = packed(x)
    scale = expected.abs().max().item()
    # the compiler takes real layers apart, which may turn a sign next to 0
    close = torch.isclose(found, expected, rtol=0, atol=1e-4 * scale)
    assert close.float().mean() > 0.9


def test_the_class_map_compiles():
    packed = pack(trained(bases=2))
    x = pictures(40, 56)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(packed.class_map, backend="aot_eager", fullgraph=True)
        assert (compiled(x) == packed.class_map(x)).float().mean() > 0.999


def test_autocast_changes_the_rest_only():
    x = pictures()
    packed = pack(trained(bases=2, downsample="real"))
    with torch.inference_mode():
        plain = packed(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = packed(x)
            assert packed.class_map(x).dtype == torch.uint8
    assert found.dtype == torch.float32
    assert not torch.equal(found, plain)
