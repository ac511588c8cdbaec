"""DeepLabV3, packed, says what the trained one says."""

import pytest
import torch
from trained_networks import pictures, trained

from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing
from binseg.kernels import dispatch
from binseg.packed.conv import PackedConv
from binseg.packed.file import load, save
from binseg.packed.fold import pack
from binseg.packed.rest import Int8Conv

HEADS = [
    {},
    {"bases": 3},
    {"rates": [1, 2, 5]},
    {"aspp": "real"},
    {"aspp": "real", "rates": [2, 3, 4]},
]


def network(options, **others):
    return trained(bases=2, head="deeplabv3", head_options=options, **others)


@torch.inference_mode()
def agree(model, packed, x):
    expected, found = model(x), packed(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))
    best = expected.topk(2, dim=1).values
    tie = best[:, 0] - best[:, 1] < 1e-5 * float(expected.abs().max())
    assert not ((packed.class_map(x) != expected.argmax(1)) & ~tie).any()


@pytest.mark.parametrize("options", HEADS, ids=str)
@pytest.mark.parametrize("size", [(45, 61), (160, 133)])
def test_same_logits_and_class_maps(options, size):
    model = network(options)
    agree(model, pack(model), pictures(*size))


@pytest.mark.parametrize("stride", [16, 32])
def test_on_coarser_grids(stride):
    model = network({}, output_stride=stride)
    agree(model, pack(model), pictures(70, 101))


def test_on_the_reference_too():
    model = network({"bases": 2})
    with dispatch.use("reference"):
        agree(model, pack(model), pictures())


def test_the_comparison_can_fail():
    model, x = network({"bases": 2}), pictures()
    for damage in (
        lambda aspp: aspp.affine[1].add_(0.3),
        lambda aspp: aspp.branches[2].lambdas.add_(0.5),
        lambda aspp: aspp.pooling.conv.weight.bitwise_not_(),
        lambda aspp: aspp.branches[0].conv.curve.mul_(1.1),
    ):
        packed = pack(model)
        damage(packed.head.aspp)
        with pytest.raises(AssertionError):
            agree(model, packed, x)


@pytest.mark.parametrize("rest", ["bf16", "int8"])
@pytest.mark.parametrize("options", HEADS[1:4], ids=str)
@torch.inference_mode()
def test_low_precision_is_near(options, rest):
    # without a class that always wins, so that a wrong number shows
    model, x = network(options), pictures()
    expected = model(x)
    model.head.scores.bias.data -= expected.mean(dim=(0, 2, 3))
    expected = model(x)
    found = pack(model, rest=rest, calibration=[x])(x)
    error = (found - expected).square().mean().sqrt() / expected.std()
    assert error < 0.5
    assert error > 1e-6
    other = pack(network(options, seed=1), rest=rest, calibration=[x])(x)
    assert (other - expected).square().mean().sqrt() / expected.std() > 0.8


def test_only_what_is_binary_becomes_bits():
    binary = pack(network({"bases": 3})).head
    convs = [module for module in binary.modules() if isinstance(module, PackedConv)]
    assert [conv.bases for conv in convs] == [3] * 5
    real = pack(network({"aspp": "real"}), rest="int8", calibration=[pictures()]).head
    assert not any(isinstance(module, PackedConv) for module in real.modules())
    assert sum(isinstance(module, Int8Conv) for module in real.modules()) == 7


@pytest.mark.parametrize("rest", ["fp32", "int8"])
@pytest.mark.parametrize("options", [HEADS[1], HEADS[3]], ids=str)
@torch.inference_mode()
def test_files(tmp_path, options, rest):
    labels = LabelTable("five", tuple("abcde"), auto_palette(5), {i: i for i in range(5)})
    model, x = network(options), pictures()
    save(tmp_path / "float.safetensors", model, labels, Preprocessing())
    assert torch.equal(load(tmp_path / "float.safetensors").model(x), model(x))
    packed = pack(model, rest=rest, calibration=[x])
    save(tmp_path / "packed.safetensors", packed, labels, Preprocessing())
    loaded = load(tmp_path / "packed.safetensors").model
    assert torch.equal(loaded(x), packed(x))
    assert not list(loaded.parameters())
