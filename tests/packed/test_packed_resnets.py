"""The ResNets of one branch, packed: every family says what the trained one says."""

import itertools

import pytest
import torch
from test_packed_file import LABELS
from torch import nn
from trained_networks import agree_on_all_pixels, pictures, trained

from binseg.data.preprocess import Preprocessing
from binseg.kernels import dispatch
from binseg.nn.backbones import create_backbone
from binseg.nn.backbones.stems import create_stem
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d
from binseg.packed.calibration import Range
from binseg.packed.conv import PackedConv
from binseg.packed.file import load, save
from binseg.packed.fold import pack
from binseg.packed.folding import Folding
from binseg.packed.resnet import PackedResNet, PackedUnit
from binseg.packed.rest import Int8Conv
from binseg.packed.signs import AdaptiveSigns, LearntSigns
from binseg.packed.stems import PackedStem
from binseg.summarize import measure_size
from binseg.training.batchnorm import reestimate_batchnorm

FAMILIES = ["bnn18", "bireal18", "resnete18", "sdbnn18", "reactnet18"]
CIFAR = ["sdbnn18_cifar", "sdbnn20_cifar"]

OPTIONS = [{"name": name, "downsample": d} for name in FAMILIES for d in ("real", "binary")]
OPTIONS += [{"name": name.replace("18", "34"), "width": 4} for name in FAMILIES]
OPTIONS += [
    {"threshold": threshold, "nonlinearity": nonlinearity, "shortcut": shortcut}
    for threshold, nonlinearity, shortcut in itertools.product(
        ("zero", "learnt", "adaptive"), ("none", "hardtanh", "prelu", "rprelu"), ("block", "conv")
    )
]
OPTIONS += [{"threshold": "learnt", "nonlinearity": "relu"}]
OPTIONS += [
    {"name": name, "head": head}
    for name in ("bnn18", "sdbnn18")
    for head in ("fcn32s", "fcn16s", "fcn8s")
]
OPTIONS += [{"name": "reactnet18", "output_stride": stride} for stride in (8, 16, 32)]
OPTIONS += [
    {"padding_value": value, "scale": scale, "shifted_weight": True}
    for value, scale in itertools.product((-1, 0, 1), ("none", "layer", "filter"))
]
OPTIONS += [
    {"name": "reactnet18", "stem": stem, "width": 16}
    for stem in ("conv7", "conv7_relu", "grouped3", "conv3")
]
OPTIONS += [{"name": "sdbnn18", "width": width} for width in (20, 36)]


def settle(network: nn.Module) -> nn.Module:
    """Give it learnt shifts, and statistics of its own sums."""
    for name, parameter in network.named_parameters():
        if name.endswith(("shift", "weight_logit")):
            parameter.data.normal_(0, 0.5)
    reestimate_batchnorm(network, [pictures(), pictures(64, 96)], lambda x: x)
    return network.eval()


def residual(seed: int = 0, **options):
    return settle(trained(seed, **{"name": "bireal18", **options}))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_class_maps_and_logits(options):
    model = residual(**options)
    agree_on_all_pixels(model, pack(model), pictures())


@pytest.mark.parametrize("name", FAMILIES)
def test_on_the_reference_too(name):
    model = residual(name=name, downsample="binary")
    with dispatch.use("reference"):
        agree_on_all_pixels(model, pack(model), pictures(33, 40))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (2, 70)])
def test_any_size(name, size):
    model = residual(name=name, head="fcn8s")
    packed = pack(model)
    agree_on_all_pixels(model, packed, torch.randn(1, 3, *size))
    with torch.inference_mode():
        assert packed.class_map(torch.zeros(0, 3, *size)).shape == (0, *size)


@pytest.mark.parametrize("name", CIFAR)
@torch.inference_mode()
def test_maps_of_small_pictures(name):
    torch.manual_seed(0)
    net = settle(create_backbone(name, width=8).eval())
    packed = PackedResNet(net, frozenset(range(len(net.channels))), Folding("fp32"))
    x = pictures(33, 35)
    for found, expected in zip(packed(x), net(x), strict=True):
        torch.testing.assert_close(found.permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5)


# --- what it is made of ---


def parts(kind, **options):
    return [m for m in pack(residual(**options)).body.modules() if isinstance(m, kind)]


@pytest.mark.parametrize(
    ("options", "integers", "post"),
    [
        ({"name": "bnn18"}, 8, 0),  # the first of each of 8 blocks
        ({"name": "bnn18", "threshold": "learnt"}, 8, 7),  # not after the last block
        ({"name": "bnn18", "threshold": "adaptive"}, 0, 0),
        ({"name": "bireal18"}, 0, 0),
        ({"name": "sdbnn18"}, 0, 16),
        ({"name": "reactnet18"}, 0, 16),
        ({"name": "bireal18", "nonlinearity": "hardtanh"}, 0, 0),
    ],
    ids=str,
)
def test_what_follows_the_convolutions(options, integers, post):
    convs = parts(PackedConv, **options)
    assert len(convs) == 16
    assert sum(conv.threshold for conv in convs) == integers
    assert sum(conv.post is not None for conv in convs) == post


@pytest.mark.parametrize(
    ("options", "learnt", "adaptive"),
    [
        ({"name": "bireal18", "downsample": "binary"}, 0, 0),
        ({"name": "reactnet18"}, 1, 0),  # of the stem's map; the others leave the convolutions
        ({"name": "reactnet18", "downsample": "binary"}, 1 + 3, 0),
        ({"name": "reactnet18", "nonlinearity": "hardtanh"}, 16, 0),
        ({"name": "sdbnn18"}, 0, 16),
        ({"name": "sdbnn18", "downsample": "binary"}, 0, 16 + 3),
    ],
    ids=str,
)
def test_signs_that_no_convolution_makes(options, learnt, adaptive):
    assert len(parts(LearntSigns, **options)) == learnt
    assert len(parts(AdaptiveSigns, **options)) == adaptive


def test_signs_are_made_once():
    for name in ("sdbnn18", "reactnet18"):
        units = parts(PackedUnit, name=name)
        made = [(unit.packs, unit.signs is not None) for unit in units]
        assert made == [(name == "reactnet18", name == "sdbnn18")] * 15 + [(False, False)]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("reactnet18", lambda body: body.signs.shift.add_(1)),
        ("reactnet18", lambda body: body.blocks[3].last.conv.post[3].add_(1)),
        ("reactnet18", lambda body: body.blocks[-1].last.conv.post[2].add_(1)),
        ("sdbnn18", lambda body: body.blocks[2].last.conv.post[1].add_(1)),
        ("sdbnn18", lambda body: body.blocks[5].last.signs.excite.neg_()),
        ("bnn18", lambda body: body.blocks[2].inner[0].low.add_(20)),
        ("bireal18", lambda body: body.blocks[4].last.conv.curve[1].neg_()),
        ("resnete18", lambda body: body.blocks[-1].last.conv.weight.bitwise_not_()),
    ],
)
def test_the_comparison_can_fail(name, damage):
    model = residual(name=name)
    packed = pack(model)
    damage(packed.body)
    with pytest.raises(AssertionError):
        agree_on_all_pixels(model, packed, pictures())


def test_shifted_weights_fold_away():
    model = residual(name="sdbnn18")
    conv = model.backbone.stages[0][1].units[0].conv
    # an α that turns the sign of a weight next to 0: mean 2, weight −0.01
    conv.weight.data.fill_(2.0)
    conv.weight.data[0, 0, 0, 0] = -0.01
    for logit, bit in ((-50.0, 0), (50.0, 1)):
        conv.weight_logit.data.fill_(logit)
        packed = pack(model).body.blocks[1].last.conv
        assert packed.give()["bits"][0] & 1 == bit


# --- files and the layers that are not binary ---


@pytest.mark.parametrize("rest", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("name", FAMILIES)
def test_round_trip_bit_for_bit(name, rest, tmp_path, monkeypatch):
    x = pictures()
    packed = pack(residual(name=name, downsample="binary"), rest=rest, calibration=[x])
    path = tmp_path / "packed.safetensors"
    save(path, packed, LABELS, Preprocessing())
    for kind in (BinaryConv2d, nn.Conv2d):

        def without_memory(self, *args, own=kind.__init__, **kwargs):
            own(self, *args, **kwargs)
            assert self.weight.is_meta

        monkeypatch.setattr(kind, "__init__", without_memory)
    loaded = load(path).model
    before, after = packed.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    with torch.inference_mode():
        assert torch.equal(loaded(x), packed(x))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rest", ["bf16", "int8"])
@torch.inference_mode()
def test_a_cheaper_rest_is_close(name, rest):
    """The maps before the first sign; one sign that turns changes many pixels behind it."""
    model = residual(name=name)
    x = pictures(64, 80)
    expected, found = (
        pack(model, rest=each, calibration=[x]).body.stem(x)[0] for each in ("fp32", rest)
    )
    assert (found - expected).square().mean().sqrt() < 0.05 * expected.std()


@pytest.mark.parametrize("name", ["conv7", "conv7_bn", "conv7_relu", "grouped3", "conv3"])
@torch.inference_mode()
def test_stems_of_whole_numbers_are_exact_in_8_bits(name):
    """Gains of both signs stand before and after the maximum; borders count as 0."""
    torch.manual_seed(0)
    stem = create_stem(name, 32).eval()
    whole = Range(-10.0, 245.0)
    ranges = {}
    for module in stem:
        if isinstance(module, nn.Conv2d):
            # whole numbers that 8 bits hold, small enough for the next convolution's 8 bits
            module.weight.data = torch.randint(-1, 2, module.weight.shape).float()
            module.weight.data[:, 0, 0, 0] = 127 / 127
            ranges[module] = whole
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.where(torch.arange(len(module.weight)) % 3 > 0, 1.0, -1.0)
            module.running_var.fill_(1 - module.eps)
            module.running_mean = torch.randint(-3, 4, module.running_mean.shape).float()
    x = torch.randint(-10, 246, (2, 3, 33, 41)).float()
    if name == "grouped3":
        x = x.clamp(-1, 1)
    packed = PackedStem(stem, Folding("int8", ranges))
    assert (packed.ending is None) == (name == "conv3")
    assert len(packed.steps) == {"grouped3": 2, "conv3": 1}.get(name, 0)
    assert all(isinstance(step, Int8Conv) for step in packed.steps)
    real, bits = packed(x)
    expected = stem(x).permute(0, 2, 3, 1).unsqueeze(3)
    # weights of −1, 0 and 1 become −127, 0 and 127 of 127ths, which float32 does not hold exactly
    torch.testing.assert_close(real, expected, rtol=1e-5, atol=1e-3)
    assert real.shape == ((2, 33, 41, 1, 32) if name == "conv3" else (2, 9, 11, 1, 32))
    assert bits.shape[-1] == 1
    assert (real >= 0).any()
    assert (real < 0).any()


def test_export_to_pictures_of_any_size():
    x = pictures(40, 56)
    model = residual(name="sdbnn18", stem="conv7_relu", shortcut="block")
    packed = pack(model, rest="int8", calibration=[x])
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(packed, (x,), dynamic_shapes=({2: auto, 3: auto},)).module()
    with torch.no_grad():
        for each in (x, pictures(64, 80)):
            assert torch.equal(exported(each), packed(each))


# --- sizes ---


def test_published_size():
    """1 bit for a binary weight and 32 for everything else, as in the published 4.03 MB, which are
    2²⁰ bytes each."""
    with torch.device("meta"):
        model = create_classifier("resnete18", num_classes=1000)
    assert measure_size(model).packed_bytes / 2**20 == pytest.approx(4.03, abs=0.005)


@pytest.mark.parametrize(("name", "rows"), [("sdbnn18", 1), ("reactnet18", 4)])
def test_files_hold_only_the_rows_that_follow_the_sum(name, rows):
    packed = pack(residual(name=name))
    conv = packed.body.blocks[0].last.conv
    stored = conv.give()
    assert stored["post"].shape == (rows, 8)
    assert stored["post"].shape == conv.expected()["post"].shape
    expected = conv.post.clone()
    conv.post.zero_()
    conv.take(stored)
    assert torch.equal(conv.post, expected)
