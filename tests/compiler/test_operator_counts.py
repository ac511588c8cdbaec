"""How many integer thresholds and merges each family's program has."""

import pytest
from small_graphs import counts
from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.nn.backbones import list_backbones
from binseg.nn.backbones.registry import backbone_options
from binseg.nn.classifier import create_classifier

# name → (convolutions from bits to bits by thresholds, convolutions that sum their bases)
FAMILIES = {
    "binarydensenet28": (0, 0),
    "binarydensenet37": (0, 0),
    "binarydensenet37_dilated": (0, 0),
    "binarydensenet45": (0, 0),
    "bireal18": (0, 0),
    "bireal34": (0, 0),
    "bnn18": (8, 0),
    "bnn34": (16, 0),
    "bwn18": (0, 0),
    "bwn34": (0, 0),
    "gbd18_v1": (8, 8),
    "gbd18_v2": (8, 4),
    "gbd18_v3": (8, 1),
    "gbd34_v1": (16, 16),
    "gbd34_v2": (16, 9),
    "gbd34_v3": (16, 1),
    "groupnet18": (8, 8),
    "groupnet18_star": (0, 8),
    "groupnet34": (16, 16),
    "groupnet34_star": (0, 16),
    "groupnet50": (32, 16),
    "groupnet50_star": (0, 16),
    "groupnet_s8": (0, 6),
    "lbd18": (0, 19),
    "lbd34": (0, 35),
    "reactnet18": (0, 0),
    "reactnet34": (0, 0),
    "resnete18": (0, 0),
    "resnete34": (0, 0),
    "sdbnn18": (0, 0),
    "sdbnn34": (0, 0),
    "xnornet18": (8, 0),
    "xnornet34": (16, 0),
}
OPTIONS = [
    ({"shortcut": "conv"}, 0, 8),
    ({"gates": "none"}, 8, 8),
    ({"gates": "shared"}, 8, 8),
    ({"downsample": "real"}, 8, 8),
    ({"merge": "mean"}, 8, 8),
    ({"group_blocks": 2}, 8, 4),
    ({"group_blocks": 0, "head": "fcn8s"}, 8, 1),
    ({"decomposition": "layer"}, 0, 19),
    ({"nonlinearity": "rprelu"}, 8, 8),
    ({"nonlinearity": "rprelu", "gates": "none"}, 8, 8),
    ({"bases": 1}, 8, 0),
    ({"head": "deeplabv3", "head_options": {"bases": 2}}, 8, 13),
    ({"head": "deeplabv3", "head_options": {"aspp": "real"}}, 8, 8),
    ({"name": "groupnet50", "shortcut": "conv"}, 0, 16),
    *(
        ({"name": name, "encoder": "binseg-groupnet18"}, 8, 8)
        for name in ("smp_unet", "smp_fpn", "smp_upernet", "smp_deeplabv3plus")
    ),
]
OTHERS = [
    ({"name": "bnn18", "downsample": "binary"}, 8),
    ({"name": "xnornet18", "downsample": "binary"}, 8),
    ({"name": "xnornet18", "input_scale": True}, 0),
    ({"name": "sdbnn18", "shortcut": "block"}, 0),
    ({"name": "reactnet18", "shortcut": "block"}, 8),
    ({"name": "bireal18", "threshold": "learnt", "nonlinearity": "hardtanh"}, 0),
]


def found(**options) -> tuple[int, int]:
    model = trained(**{"name": "groupnet18", "width": 8, **options})
    each = counts(pack(model).program)
    return each["conv_bits"], each["conv_merge"]


def test_every_family_is_pinned():
    assert FAMILIES.keys() == set(list_backbones())


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    bases = {"bases": 2} if "bases" in backbone_options(name) else {}
    assert found(name=name, **bases) == FAMILIES[name]


@pytest.mark.parametrize(("options", "bits", "merges"), OPTIONS, ids=str)
def test_options_of_group_net(options, bits, merges):
    assert found(**{"bases": 2, **options}) == (bits, merges)


@pytest.mark.parametrize(("options", "bits"), OTHERS, ids=str)
def test_options_of_others(options, bits):
    assert found(**options) == (bits, 0)


@pytest.mark.parametrize(
    ("name", "options", "bits"),
    [
        ("xnornet_alexnet", {}, 3),
        ("xnornet_alexnet", {"input_scale": True}, 0),
        ("bwn_alexnet", {}, 0),
    ],
)
def test_classifiers(name, options, bits):
    model = create_classifier(name, num_classes=3, width=3, **options).eval()
    assert counts(pack(model).program)["conv_bits"] == bits


def test_signs_of_one_map_are_taken_once():
    for name, apart in (("reactnet18", 0), ("sdbnn18", 16), ("xnornet18", 8)):
        each = counts(pack(trained(name=name)).program)
        # a learnt threshold goes into the operator before; an adaptive one needs the whole map
        assert each["pack_sign"] == apart


def test_what_shares_a_shortcut_is_one_operator():
    """A real 1×1 shortcut of K bases is one convolution, and repeats nothing."""
    program = pack(trained(bases=3, downsample="real", head="fcn")).program
    shared = [op for op in program.operators if op.attributes.get("bases") == 3]
    assert [op.kind for op in shared] == ["conv"] * 3
    assert "concat" not in counts(program)
    program = pack(trained(bases=3, head="fcn")).program
    shared = [op for op in program.operators if op.attributes.get("shared_weight")]
    assert [op.kind for op in shared] == ["conv_real"] * 3
