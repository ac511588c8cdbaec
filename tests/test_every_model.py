"""One tester for every backbone: what a user may do with one can be done with all."""

import re

import pytest
import torch
from torch import nn
from trained_networks import looks_trained, noise

from binseg.compiler.pack import pack
from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing
from binseg.loaded import load, save
from binseg.nn.backbones import list_backbones
from binseg.nn.backbones.registry import backbone_options
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model

CLASSES = 4
SIZE = (45, 61)
LABELS = LabelTable("four", tuple("abcd"), auto_palette(CLASSES), {i: i for i in range(CLASSES)})

every_model = pytest.mark.parametrize("name", list_backbones())
# deeper members of a family have no other kind of layer, and capturing them takes long
every_family = pytest.mark.parametrize(
    "name", [name for name in list_backbones() if not re.search("34|37$|45|50", name)]
)


def build(name, **options):
    torch.manual_seed(0)
    if "bases" in backbone_options(name):
        options.setdefault("bases", 2)
    return create_model(
        name, num_classes=CLASSES, width=16, **{"head": "fcn8s", "output_stride": 16, **options}
    )


def trained(name, **options):
    """In eval mode, with statistics of its own activations and gains of both signs."""
    model = looks_trained(build(name, **options))
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("shift"):
            parameter.data.normal_(0, 0.3)
    model.train()(images(4))
    return model.eval()


def images(number=2, seed=1):
    """Images of bytes, as a packed network takes them."""
    return noise(number, *SIZE, seed=seed)


@every_model
def test_a_step_of_training_reaches_every_parameter(name):
    model = build(name)
    logits = model(images())
    assert logits.shape == (2, CLASSES, *SIZE)
    nn.functional.cross_entropy(logits, torch.ones(2, *SIZE, dtype=torch.long)).backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    # the few hidden units of an adaptive threshold may all be off for an image
    unreached = [n for n, g in gradients.items() if not g.any() and "binarize_input" not in n]
    assert not unreached


@every_model
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_maps_are_as_promised_at_every_output_stride(name, stride):
    backbone = build(name, output_stride=stride).backbone.eval()
    with torch.no_grad():
        maps = backbone(images(1))
    # the network published as dilated is never coarser than its stride of 8
    assert backbone.strides[-1] == (8 if name.endswith("_dilated") else stride)
    for found, channels, own in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert found.shape == (1, channels, *(-(-side // own) for side in SIZE))


@every_model
def test_the_twin_has_no_bits(name):
    twin = build(name, precision="full")
    assert not any(isinstance(module, BinaryConv2d) for module in twin.modules())
    assert any(isinstance(module, BinaryConv2d) for module in build(name).modules())
    assert twin.eval()(images(1)).shape == (1, CLASSES, *SIZE)
    twin.train()(images()).square().mean().backward()
    assert all(p.grad is not None for p in twin.parameters())


@every_model
@torch.inference_mode()
def test_files_and_packing_keep_what_the_network_says(name, tmp_path):
    model, x = trained(name), images()
    expected = model(x)
    save(tmp_path / "float.safetensors", model, LABELS, Preprocessing())
    assert torch.equal(load(tmp_path / "float.safetensors").model(x), expected)
    packed = pack(model)
    save(tmp_path / "packed.safetensors", packed, LABELS, Preprocessing())
    for each in (packed, load(tmp_path / "packed.safetensors").model):
        found = each(x)
        # one value next to 0 may have been rounded to the other side, and spreads from there
        scale = expected.std()
        assert ((found - expected).abs() <= 1e-3 * scale).float().mean() >= 0.98
        assert (found.argmax(1) == expected.argmax(1)).float().mean() >= 0.99
    size = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert size[1] < size[0]


@every_family
def test_export_says_the_same(name):
    model, x = trained(name), images()
    # captured as torch.compile does, and whole
    program = torch.export.export(model, (x,), strict=True)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(x), model(x))


@pytest.mark.parametrize("name", ["groupnet18_star", "reactnet18"])
def test_compiled_says_the_same(name):
    model, x = trained(name), images()
    torch.compiler.reset()
    # what a compiler makes of the graph is the compiler's business
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), model(x))
