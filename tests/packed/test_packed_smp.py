"""smp's decoders over our backbones: what is binary is packed, the rest stays as it is."""

import pytest
import torch
from torch import nn
from trained_networks import pictures, trained

from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.nn.segmenter import create_model
from binseg.nn.smp_models import SMP_MODELS
from binseg.packed.conv import PackedConv
from binseg.packed.file import load, read_header, save
from binseg.packed.fold import pack
from binseg.packed.modules import PackedSegmenter
from binseg.predictor import Predictor
from binseg.summarize import measure_size

LABELS = LabelTable("five", tuple("abcde"), auto_palette(5), {i: i for i in range(5)})


def network(name="smp_unet", backbone="groupnet18", **options):
    if backbone == "groupnet18":
        options.setdefault("bases", 2)
    model = trained(name=name, encoder=f"binseg-{backbone}", **options)
    center(model)
    return model


@torch.inference_mode()
def center(model):
    """No class always wins, so that a wrong map shows in the class map."""
    logits = model(pictures())
    conv = next(m for m in model.network.segmentation_head if isinstance(m, nn.Conv2d))
    conv.bias -= logits.mean(dim=(0, 2, 3))


@torch.inference_mode()
def agree(model, packed, x):
    expected, found = model(x), packed(x)
    assert found.shape == expected.shape
    scale = float(expected.std())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * scale)
    best = expected.topk(2, dim=1).values
    tie = best[:, 0] - best[:, 1] < 1e-3 * scale
    assert not ((packed.class_map(x) != expected.argmax(1)) & ~tie).any()
    assert len(expected.argmax(1).unique()) > 1


@pytest.mark.parametrize("name", SMP_MODELS)
@pytest.mark.parametrize("size", [(45, 61), (64, 96)])
def test_same_logits_and_class_maps(name, size):
    model = network(name)
    agree(model, pack(model), pictures(*size))


@pytest.mark.parametrize(
    "backbone", ["binarydensenet37_dilated", "bwn18", "reactnet18", "resnete18", "xnornet18"]
)
@pytest.mark.parametrize("name", ["smp_unet", "smp_fpn"])
def test_other_families(name, backbone):
    model = network(name, backbone)
    agree(model, pack(model), pictures())


@pytest.mark.parametrize("stem", ["conv7", "grouped3"])
def test_other_stems(stem):
    model = network(stem=stem, width=16)
    agree(model, pack(model), pictures())


def test_the_comparison_can_fail():
    model, x = network(), pictures()
    for damage in (
        lambda packed: packed.body.body.stem.fine.steps[0].weight.mul_(1.1),
        lambda packed: packed.body.body.blocks[3].conv2.weight.bitwise_not_(),
        lambda packed: packed.head.decoder.blocks[4].conv1[0].weight.mul_(1.1),
    ):
        packed = pack(model)
        damage(packed)
        with pytest.raises(AssertionError):
            agree(model, packed, x)


@pytest.mark.parametrize("rest", ["bf16", "int8"])
@torch.inference_mode()
def test_low_precision_is_for_the_encoder_alone(rest):
    model, x = network(downsample="real"), pictures()
    packed = pack(model, rest=rest, calibration=[x])
    expected = model(x)
    error = (packed(x) - expected).square().mean().sqrt() / expected.std()
    assert 1e-6 < error < 0.5
    dtypes = {p.dtype for p in packed.head.parameters()}
    assert dtypes == {torch.float32}


def test_only_what_is_binary_is_packed():
    model = network()
    packed = pack(model)
    assert isinstance(packed, PackedSegmenter)
    assert any(isinstance(module, PackedConv) for module in packed.body.modules())
    assert not any(parameter.requires_grad for parameter in packed.parameters())
    trained_head = model.network.decoder.state_dict()
    kept = packed.head.decoder.state_dict()
    assert kept.keys() == trained_head.keys()
    assert all(torch.equal(kept[name], trained_head[name]) for name in kept)
    # a copy: what happens to the trained network later does not change the packed one
    assert all(kept[name].data_ptr() != trained_head[name].data_ptr() for name in kept)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("rest", ["fp32", "int8"])
@pytest.mark.parametrize("name", SMP_MODELS)
@torch.inference_mode()
def test_files(tmp_path, name, rest):
    model, x = network(name), pictures()
    path = tmp_path / "float.safetensors"
    save(path, model, LABELS, Preprocessing())
    assert torch.equal(load(path).model(x), model(x))
    packed = pack(model, rest=rest, calibration=[x])
    path = tmp_path / "packed.safetensors"
    save(path, packed, LABELS, Preprocessing())
    loaded = load(path).model
    assert isinstance(loaded, PackedSegmenter)
    assert torch.equal(loaded(x), packed(x))
    assert torch.equal(loaded.class_map(x), packed.class_map(x))
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert read_header(path)["kind"] == "packed"
    # what is counted is what the file holds, but for its header
    size = path.stat().st_size
    assert measure_size(packed).packed_bytes <= size <= measure_size(packed).packed_bytes + 80_000


def test_a_decoder_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "packed.safetensors"
    packed = pack(network())
    packed.head.decoder.blocks[0].conv1[0].weight.data = torch.zeros(1, 2, 3, 3)
    save(path, packed, LABELS, Preprocessing())
    with pytest.raises(
        BinsegError, match=r"decoder\.blocks\.0\.conv1\.0\.weight is \(1, 2, 3, 3\)"
    ):
        load(path)


def test_pictures_to_class_maps(tmp_path):
    model = network()
    for kind, each in (("float", model), ("packed", pack(model))):
        save(tmp_path / f"{kind}.safetensors", each, LABELS, Preprocessing())
    image = torch.randint(0, 256, (50, 70, 3), generator=torch.Generator().manual_seed(0))
    found = [
        Predictor(tmp_path / f"{kind}.safetensors")(image.byte().numpy()).class_map
        for kind in ("float", "packed")
    ]
    assert found[0].shape == (50, 70)
    assert (found[0] != found[1]).mean() < 1e-3


def test_nothing_binary_nothing_to_pack():
    for options in ({"encoder": "resnet18"}, {"encoder": "binseg-groupnet18", "precision": "full"}):
        model = create_model("smp_unet", num_classes=3, **options)
        with pytest.raises(BinsegError, match="nothing in this network is 1 bit"):
            pack(model)
