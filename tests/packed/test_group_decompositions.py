"""Packed layer-wise decomposition and groups of blocks say what the trained networks say."""

import itertools
from pathlib import Path

import pytest
import torch
from trained_networks import pictures, trained

from binseg.data.label_table import LabelTable, auto_palette
from binseg.data.preprocess import Preprocessing
from binseg.kernels import dispatch
from binseg.packed.agreement import agreement
from binseg.packed.conv import PackedConv
from binseg.packed.file import load, save
from binseg.packed.fold import pack
from binseg.packed.layer_conv import LayerDownsample, PackedLayerConv

WEIGHTS = Path(__file__).parents[2] / "weights" / "camvid_base.safetensors"
CLASSES = 5

OPTIONS = [
    {"decomposition": "layer", "bases": bases, "shortcut": shortcut, "nonlinearity": nonlinearity}
    for bases, shortcut, nonlinearity in itertools.product(
        (1, 2, 3), ("block", "conv"), ("relu", "tanh", "prelu")
    )
]
OPTIONS += [
    {"decomposition": "layer", "bases": 2, "merge": merge, "scale": scale, "downsample": downsample}
    for merge, scale, downsample in itertools.product(
        ("learnt", "mean"), ("none", "layer", "filter"), ("binary", "real")
    )
]
OPTIONS += [
    {"decomposition": "layer", "bases": 3, "atrous": "bpac", "head": "fcn8s", "padding_value": -1},
    {"name": "lbd34", "bases": 8, "width": 4},
    {"name": "groupnet50", "decomposition": "layer", "bases": 2, "width": 4, "shortcut": "conv"},
]
OPTIONS += [
    {"group_blocks": size, "bases": bases, "gates": gates, "head": head}
    for size, bases, gates, head in itertools.product(
        (0, 2), (1, 3), ("none", "shared", "per_branch"), ("fcn", "fcn8s")
    )
]
OPTIONS += [
    {"group_blocks": size, "bases": 2, "shortcut": "conv", "nonlinearity": "prelu", **rest}
    for size, rest in itertools.product(
        (0, 2), ({"downsample": "real"}, {"merge": "mean", "atrous": "bpac", "head": "fcn16s"})
    )
]
OPTIONS += [
    {"name": name, "bases": 2, "head": "fcn8s", "output_stride": 8}
    for name in ("gbd18_v1", "gbd34_v2", "gbd34_v3")
]
OPTIONS += [
    {"name": "groupnet50", "group_blocks": size, "bases": 2, "width": 4, "head": "fcn8s"}
    for size in (0, 2)
]


def agree(model, packed, x) -> None:
    """Logits equal but for rounding; the same class at every pixel that is no tie."""
    with torch.inference_mode():
        expected, found, ids = model(x), packed(x), packed.class_map(x)
    scale = expected.abs().max().item()
    best = expected.topk(2, dim=1).values
    tie = best[:, 0] - best[:, 1] < 1e-5 * scale
    assert not ((ids != expected.argmax(1)) & ~tie).any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_class_maps_and_logits(options):
    model = trained(seed=len(str(options)), **options)
    agree(model, pack(model), pictures())


@pytest.mark.parametrize("options", OPTIONS[::7], ids=str)
def test_on_the_reference_too(options):
    model = trained(**options)
    with dispatch.use("reference"):
        agree(model, pack(model), pictures(33, 40))


@pytest.mark.parametrize("name", ["lbd18", "gbd18_v2", "gbd18_v3"])
@pytest.mark.parametrize("size", [(1, 1), (2, 90), (32, 33)])
def test_any_size(name, size):
    model = trained(name=name, bases=2, head="fcn8s")
    packed = pack(model)
    agree(model, packed, torch.randn(1, 3, *size))
    with torch.inference_mode():
        assert packed(torch.zeros(0, 3, *size)).shape == (0, CLASSES, *size)


@pytest.mark.parametrize("name", ["lbd18", "gbd18_v1", "gbd18_v2", "gbd18_v3"])
def test_files_keep_what_the_network_says(name, tmp_path):
    table = LabelTable(
        "five", tuple("abcde"), auto_palette(CLASSES), {i: i for i in range(CLASSES)}
    )
    model = trained(name=name, bases=3, head="fcn8s", nonlinearity="prelu")
    packed, x = pack(model), pictures()
    for kind, network in (("float", model), ("packed", packed)):
        path = tmp_path / f"{kind}.safetensors"
        save(path, network, table, Preprocessing())
        with torch.inference_mode():
            assert torch.equal(load(path).model(x), network(x))
    sizes = [(tmp_path / f"{kind}.safetensors").stat().st_size for kind in ("float", "packed")]
    assert sizes[1] < sizes[0] / 2


def test_a_network_that_real_pictures_trained_opens_and_packs():
    loaded = load(WEIGHTS)
    scene = pictures(90, 120)[1:]
    assert agreement(loaded.model, pack(loaded.model), [scene]) > 0.999


def test_lbd_sums_in_every_layer():
    def kinds(**options):
        packed = pack(trained(decomposition="layer", **options))
        sums = [m for m in packed.modules() if isinstance(m, PackedLayerConv)]
        shortcuts = [m for m in packed.modules() if isinstance(m, LayerDownsample)]
        return len(sums), len(shortcuts)

    assert kinds(bases=2) == (19, 3)
    assert kinds(bases=2, downsample="real") == (16, 0)
    assert kinds(bases=1) == (0, 0)  # one base is no sum: thresholds as ever
    packed = pack(trained(decomposition="layer", bases=1))
    assert any(m.threshold for m in packed.modules() if isinstance(m, PackedConv))


def test_only_ends_of_groups_hold_lambdas():
    def held(**options):
        blocks = pack(trained(bases=2, **options)).body.blocks
        return [hasattr(block, "lambdas") for block in blocks]

    assert held(group_blocks=1) == [True] * 8
    assert held(group_blocks=2) == [False, True] * 4
    assert held(group_blocks=0) == [False] * 7 + [True]
    assert held(group_blocks=0, head="fcn8s") == [False] * 7 + [True]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("lbd18", lambda body: body.blocks[1].conv1.lambdas.mul_(torch.tensor([1.0, 0.5]))),
        ("lbd18", lambda body: body.blocks[2].downsample.conv.lambdas.mul_(2)),
        ("lbd18", lambda body: body.blocks[3].conv2.norm.bias.add_(1)),
        ("gbd18_v2", lambda body: body.blocks[1].lambdas.mul_(torch.tensor([1.0, 0.5]))),
        ("gbd18_v3", lambda body: body.blocks[7].lambdas.mul_(torch.tensor([1.0, 0.5]))),
    ],
)
def test_the_comparison_can_fail(name, damage):
    model = trained(name=name, bases=2)
    packed = pack(model)
    agree(model, packed, pictures())
    damage(packed.body)
    with pytest.raises(AssertionError):
        agree(model, packed, pictures())


def test_export_of_lbd_to_pictures_of_any_size():
    x = pictures(40, 56)
    packed = pack(trained(name="lbd18", bases=2, head="fcn8s"))
    auto = torch.export.Dim.AUTO
    exported = torch.export.export(packed, (x,), dynamic_shapes=({2: auto, 3: auto},)).module()
    with torch.no_grad():
        for each in (x, pictures(64, 80)):
            assert torch.equal(exported(each), packed(each))
