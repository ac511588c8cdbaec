"""Our backbones as encoders of segmentation-models-pytorch, and how smp comes to know them."""

import importlib
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch

import binseg
from binseg import smp_hook
from binseg.errors import BinsegError
from binseg.nn.backbones import create_backbone, list_backbones
from binseg.nn.backbones.open_stem import OpenStem
from binseg.nn.backbones.stems import create_stem
from binseg.nn.layers import BinaryConv2d, set_binarization
from binseg.nn.segmenter import create_model
from binseg.nn.smp_encoders import BinsegEncoder
from binseg.nn.smp_models import SMP_MODELS
from binseg.nn.smp_table import encoder_variant
from binseg.training.config import ModelConfig, OptimizerConfig
from binseg.training.optimization import parameter_groups

SMALL = {"encoder": "binseg-groupnet18", "width": 8, "bases": 2}


# --- the encoder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in list_backbones() if name != "groupnet_s8"])
def test_every_backbone_keeps_the_contract_of_encoders(name):
    torch.manual_seed(0)
    encoder = BinsegEncoder(backbone=name, options={"width": 16})
    x = torch.randn(2, 3, 64, 96)
    features = encoder(x)
    assert features[0] is x
    assert [f.shape[1] for f in features] == encoder.out_channels
    assert [tuple(f.shape[2:]) for f in features] == [(64 >> i, 96 >> i) for i in range(6)]
    assert encoder.output_stride == 32
    sum(feature.square().mean() for feature in features[1:]).backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_maps_are_those_of_the_backbone():
    torch.manual_seed(0)
    encoder = BinsegEncoder(backbone="groupnet18", options={"width": 8, "bases": 2}).eval()
    plain = create_backbone("groupnet18", output_stride=32, width=8, bases=2).eval()
    plain.load_state_dict(encoder.backbone.state_dict())
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        features = encoder(x)
        torch.testing.assert_close(features[1], plain.stem[0](x))
        for found, expected in zip(features[2:], plain(x), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("stem", ["conv7", "conv7_bn", "conv7_relu", "grouped3"])
def test_an_open_stem_is_the_stem_in_two_halves(stem):
    torch.manual_seed(0)
    closed = create_stem(stem, 16).eval()
    opened = OpenStem(closed)
    x = torch.randn(1, 3, 33, 45)
    fine = opened.before_pool(x)
    assert fine.shape == (1, opened.fine_channels, 17, 23)
    assert torch.equal(opened.after_pool(fine), closed(x))
    assert opened(x) is x
    assert opened.state_dict().keys() == closed.state_dict().keys()


def test_a_backbone_whose_stem_cannot_be_opened_is_refused():
    with pytest.raises(BinsegError, match="no encoder for smp"):
        BinsegEncoder(backbone="groupnet_s8", options={"width": 16})


def test_a_stem_without_pooling_is_refused():
    with pytest.raises(BinsegError, match="stride 2"):
        OpenStem(create_stem("conv3", 8))


@pytest.mark.parametrize(("depth", "strides"), [(1, (1, 2)), (3, (1, 2, 4, 8))])
def test_less_depth(depth, strides):
    encoder = BinsegEncoder(backbone="groupnet18", options={"width": 8}, depth=depth)
    features = encoder(torch.randn(1, 3, 64, 64))
    assert [64 // f.shape[2] for f in features] == list(strides)
    assert [f.shape[1] for f in features] == encoder.out_channels
    assert encoder.output_stride == strides[-1]
    with pytest.raises(BinsegError, match="1 to 5"):
        BinsegEncoder(backbone="groupnet18", depth=6)


@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_is_the_backbones_own(stride):
    with encoder_variant("binseg-groupnet18", width=8, bases=2) as name:
        network = smp.DeepLabV3Plus(name, encoder_weights=None, encoder_output_stride=stride)
    encoder = network.encoder
    assert encoder.backbone.strides == [4, 8, *[stride] * 2]
    assert encoder.output_stride == stride
    kept = create_backbone("groupnet18", width=8, bases=2, output_stride=stride)
    for found, expected in zip(encoder.backbone.modules(), kept.modules(), strict=True):
        if isinstance(expected, BinaryConv2d):
            assert found.dilations == expected.dilations
    assert network.eval()(torch.randn(1, 3, 32, 64)).shape == (1, 1, 32, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "encoder_weights=None"),  # smp's default is imagenet
        ({"encoder_weights": None, "in_channels": 4}, "3 channels, not 4"),
    ],
)
def test_what_smp_cannot_have(arguments, message):
    with pytest.raises(BinsegError, match=message):
        smp.Unet("binseg-groupnet18", **arguments)


# --- whole networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", SMP_MODELS)
@pytest.mark.parametrize("name", ["groupnet18", "binarydensenet37_dilated"])
def test_every_decoder_trains(model, name):
    torch.manual_seed(0)
    network = create_model(model, num_classes=3, encoder=f"binseg-{name}", width=16)
    logits = network(torch.randn(2, 3, 45, 70))
    assert logits.shape == (2, 3, 45, 70)
    logits.square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    weights = [m.weight for m in network.modules() if isinstance(m, BinaryConv2d)]
    assert weights
    assert all(weight.grad.any() for weight in weights)


def test_the_architecture_builds_the_same_network():
    first = create_model("smp_fpn", num_classes=3, **SMALL, atrous="bpac")
    assert first.architecture == {"name": "smp_fpn", "num_classes": 3, **SMALL, "atrous": "bpac"}
    second = create_model(**first.architecture)
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 3, 40, 33)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_the_configuration_reaches_the_encoder():
    config = ModelConfig(name="smp_unet", encoder="binseg-resnete18", width=8, precision="full")
    network = create_model(**config.arguments(3))
    assert network.own_backbone is network.network.encoder.backbone
    assert network.own_backbone.channels[0] == 8
    assert not any(isinstance(module, BinaryConv2d) for module in network.modules())


def test_training_knows_its_binary_layers_and_its_head():
    network = create_model("smp_unet", num_classes=3, **SMALL)
    set_binarization(network, activations="tanh", weights="real")
    convs = [m for m in network.modules() if isinstance(m, BinaryConv2d)]
    assert {(c.weight_mode, c.binarize_input.mode) for c in convs} == {("real", "tanh")}
    groups = parameter_groups(network, OptimizerConfig(lr=1.0, head_lr_scale=10, weight_decay=0.1))
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert {rate[id(conv.weight)] for conv in convs} == {(1.0, 0.0)}
    heads = [network.network.decoder, network.network.segmentation_head]
    assert {rate[id(p)][0] for head in heads for p in head.parameters()} == {10.0}


def test_an_encoder_of_smps_has_no_backbone_of_ours():
    network = create_model("smp_unet", num_classes=3, encoder="resnet18")
    assert network.own_backbone is None
    assert not any(isinstance(module, OpenStem) for module in network.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "binseg-groupnet81"}, "did you mean 'binseg-groupnet18'"),
        ({**SMALL, "base": 3}, "did you mean 'bases'"),
        ({**SMALL, "output_stride": 8}, "unknown option of binseg-groupnet18 'output_stride'"),
        ({**SMALL, "bases": 9}, "1 to 8 bases"),
        ({**SMALL, "encoder_weights": "imagenet"}, "no weights 'imagenet'"),
        ({"encoder": "resnet18", "bases": 2}, "option of smp_unet"),
    ],
)
def test_bad_options_are_refused(options, message):
    before = set(smp.encoders.encoders)
    with pytest.raises(BinsegError, match=message):
        create_model("smp_unet", num_classes=3, **options)
    assert set(smp.encoders.encoders) == before


# --- how smp comes to know them -------------------------------------------------------------------

BUILD = (
    "smp.Unet('binseg-groupnet18', encoder_weights=None, decoder_channels=(32, 16, 16, 8, 8))"
    ".encoder.out_channels"
)


@pytest.mark.parametrize(
    "script",
    [
        "import binseg, sys; assert 'torch' not in sys.modules\n"
        f"import segmentation_models_pytorch as smp; print({BUILD})",
        f"import segmentation_models_pytorch as smp, binseg; print({BUILD})",
    ],
    ids=["binseg first", "smp first"],
)
def test_both_orders_of_import(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[3, 64, 64, 128, 256, 512]", done.stderr


def test_reloading_loses_nothing_and_doubles_nothing():
    encoders = importlib.reload(smp.encoders)
    ours = [name for name in encoders.get_encoder_names() if name.startswith("binseg-")]
    assert ours == [f"binseg-{name}" for name in list_backbones()]
    importlib.reload(binseg)
    assert sum(isinstance(finder, smp_hook.EncoderFinder) for finder in sys.meta_path) == 1


def test_the_finder_looks_at_one_module_only(monkeypatch):
    finder = smp_hook.EncoderFinder()
    assert finder.find_spec("segmentation_models_pytorch", None) is None
    assert finder.find_spec("segmentation_models_pytorch.encoders.resnet", smp.__path__) is None
    spec = finder.find_spec("segmentation_models_pytorch.encoders", smp.__path__)
    assert spec.origin == smp.encoders.__file__
    monkeypatch.setattr(sys, "meta_path", [finder])
    assert finder.find_spec("segmentation_models_pytorch.encoders", smp.__path__) is None


def test_no_trace_without_smp(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])
    for name in [name for name in sys.modules if name.split(".")[0] == smp.__name__]:
        monkeypatch.delitem(sys.modules, name)
    smp_hook.install()
    assert sys.meta_path == []


def test_an_smp_of_another_make_stays_usable():
    stranger = type(sys)("segmentation_models_pytorch.encoders")
    with pytest.warns(UserWarning, match="missing in segmentation_models_pytorch"):
        smp_hook._register(stranger)
