"""Packed classifiers say what the trained ones say, AlexNet among them."""

import pytest
import torch
from torch import nn
from trained_networks import agree, looks_trained

from binseg.errors import BinsegError
from binseg.nn.backbones import list_backbones
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d, set_binarization
from binseg.packed.alexnet import FirstLayer
from binseg.packed.calibration import Range
from binseg.packed.classifier import PackedClassifier
from binseg.packed.fold import pack
from binseg.packed.folding import Folding


def classifier(name, **options):
    torch.manual_seed(0)
    return looks_trained(create_classifier(name, num_classes=7, **options))


CLASSIFIERS = [
    ("xnornet_alexnet", {"width": 12}, (223, 254)),
    ("xnornet_alexnet", {"width": 3, "input_scale": True}, (227, 224)),
    ("xnornet_alexnet", {"width": 3, "padding_value": 0}, (224, 224)),
    ("bwn_alexnet", {"width": 12}, (225, 227)),
    ("xnornet18", {"width": 8}, (45, 61)),
    ("bwn18", {"width": 8, "output_stride": 16}, (45, 61)),
    ("groupnet18", {"width": 8, "bases": 2}, (45, 61)),
]


@pytest.mark.parametrize(("name", "options", "size"), CLASSIFIERS, ids=str)
def test_classifiers(name, options, size):
    model = classifier(name, **options)
    packed = pack(model)
    assert isinstance(packed, PackedClassifier)
    assert not list(packed.parameters())
    assert packed.architecture == model.architecture
    x = torch.randn(3, 3, *size)
    agree(model, packed, x)
    assert packed(x).shape == (3, 7)
    packed.fc.bias[3] += 1
    with pytest.raises(AssertionError):
        agree(model, packed, x)


def test_no_family_of_classifiers_alone_is_forgotten():
    for name in set(list_backbones(dense=False)) - set(list_backbones()):
        packed = pack(create_classifier(name, num_classes=3, width=12))
        assert isinstance(packed, PackedClassifier)


@pytest.mark.parametrize("rest", ["bf16", "int8"])
def test_classifiers_in_low_precision(rest):
    model = classifier("bwn_alexnet", width=12)
    x = torch.randn(4, 3, 224, 226)
    packed = pack(model, rest=rest, calibration=[x])
    assert packed.rest == rest
    with torch.inference_mode():
        expected, found = model(x), packed(x)
    assert (found - expected).square().mean() < 2e-3 * expected.var()
    xnor = pack(classifier("xnornet_alexnet", width=3), rest=rest, calibration=[x])
    assert xnor(x).isfinite().all()


@pytest.mark.parametrize("size", [(223, 230), (224, 227), (225, 254), (226, 224)])
@torch.no_grad()
def test_eight_bits_put_alexnets_first_border_in_its_place(size):
    """Whole numbers, so that eight bits are exact and every shifted pixel shows."""
    model = classifier("bwn_alexnet", width=3)
    stem = model.backbone.stem
    stem.conv.weight.data = torch.randint(-127, 128, stem.conv.weight.shape).float()
    stem.conv.weight.data[:, 0, 0, 0] = 127
    folding = Folding("int8", {stem.conv: Range(-10.0, 245.0)})
    # the gain of a BatchNorm would not be a whole number
    stem.after[0] = nn.BatchNorm2d(3, eps=0.0).eval()
    x = torch.randint(-10, 246, (1, 3, *size)).float()
    found = FirstLayer(stem, folding)(x).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, stem(x), rtol=1e-5, atol=0.5)


def test_a_packed_alexnet_refuses_pictures_that_do_not_fit():
    packed = pack(classifier("xnornet_alexnet", width=3))
    with pytest.raises(BinsegError, match="223 to 254 pixels a side, not 222 × 224"):
        packed(torch.zeros(1, 3, 222, 224))
    with pytest.raises(BinsegError, match="float32 pictures"):
        packed(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))


def test_classifiers_that_cannot_be_packed_are_refused():
    model = classifier("bwn18", width=8)
    with pytest.raises(BinsegError, match="packed already"):
        pack(pack(model))
    with pytest.raises(BinsegError, match="nothing in this network is 1 bit"):
        pack(classifier("bwn18", width=8, precision="full"))
    with pytest.raises(BinsegError, match="int8 needs pictures"):
        pack(model, rest="int8")
    set_binarization(model, weights="real")
    with pytest.raises(BinsegError, match="conv1 is not binary yet"):
        pack(model)
    with pytest.raises(BinsegError, match="a Sequential cannot be packed"):
        pack(nn.Sequential(BinaryConv2d(3, 3, 3)))
