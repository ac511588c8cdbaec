"""Every family, option and head: the program gives what the trained network gives."""

import itertools

import pytest
import torch
from torch import nn
from trained_networks import images, looks_trained, noise, trained

from binseg.compiler.pack import pack
from binseg.nn.classifier import create_classifier
from binseg.training.batchnorm import reestimate_batchnorm

GROUP_NETS = [
    {"bases": bases, "shortcut": shortcut, "nonlinearity": nonlinearity, "downsample": downsample}
    for bases, shortcut, nonlinearity, downsample in itertools.product(
        (1, 2, 3), ("block", "conv"), ("relu", "tanh", "prelu"), ("binary", "real")
    )
]
GROUP_NETS += [
    {"bases": 2, "gates": gates, "merge": merge, "downsample": downsample}
    for gates, merge, downsample in itertools.product(
        ("shared", "per_branch", "none"), ("learnt", "mean"), ("binary", "real")
    )
]
GROUP_NETS += [
    {"bases": 2, "padding_value": value, "scale": scale}
    for value, scale in itertools.product((-1, 0, 1), ("none", "layer", "filter"))
]
GROUP_NETS += [
    {"bases": 3, "atrous": atrous, "output_stride": stride}
    for atrous, stride in itertools.product(("bpac", "one_rate", "off"), (8, 16, 32))
]
GROUP_NETS += [{"bases": 2, "head": f"fcn{which}"} for which in ("", "32s", "16s", "8s", "4s")]
GROUP_NETS += [
    {"bases": 2, "head_options": {"kernel_size": 1}},
    {"bases": 2, "head": "fcn8s", "output_stride": 8},
    {"bases": 2, "width": 16, "stem": "grouped3"},
    {"name": "groupnet34", "bases": 2},
    {"name": "groupnet50", "width": 8, "bases": 2, "nonlinearity": "prelu", "gates": "shared"},
    {"name": "groupnet50_star", "width": 4, "bases": 3, "gates": "none", "head": "fcn8s"},
    {"name": "groupnet18_star", "bases": 8, "width": 4},
    *({"bases": 2, "width": width} for width in (4, 20, 36)),
]
GROUP_NETS += [
    {"name": "groupnet50", "width": 4, "bases": bases, "shortcut": shortcut, "downsample": down}
    for bases, shortcut, down in itertools.product((1, 2), ("block", "conv"), ("binary", "real"))
]
GROUP_NETS += [
    {"name": "groupnet18_star", "nonlinearity": "rprelu", "threshold": "learnt", "bases": bases}
    for bases in (1, 2)
]
GROUP_NETS += [
    {"name": "groupnet_s8", "head": "unet", "width": 16},
    {"name": "groupnet_s8", "head": "unet", "width": 16, "bases": 2, "atrous": "bpac"},
    {"name": "groupnet_s8", "head": "unet", "width": 16, "nonlinearity": "prelu",
     "threshold": "zero", "output_stride": 16},
]  # fmt: skip
DECOMPOSITIONS = [
    {"decomposition": "layer", "bases": bases, "shortcut": shortcut, "nonlinearity": nonlinearity}
    for bases, shortcut, nonlinearity in itertools.product(
        (1, 2, 3), ("block", "conv"), ("relu", "tanh", "prelu")
    )
]
DECOMPOSITIONS += [
    {"decomposition": "layer", "bases": 2, "merge": merge, "scale": scale, "downsample": downsample}
    for merge, scale, downsample in itertools.product(
        ("learnt", "mean"), ("none", "layer", "filter"), ("binary", "real")
    )
]
DECOMPOSITIONS += [
    {"decomposition": "layer", "bases": 3, "atrous": "bpac", "head": "fcn8s", "padding_value": -1},
    {"name": "lbd34", "bases": 8, "width": 4},
    {"name": "groupnet50", "decomposition": "layer", "bases": 2, "width": 4, "shortcut": "conv"},
]
DECOMPOSITIONS += [
    {"group_blocks": size, "bases": bases, "gates": gates, "head": head}
    for size, bases, gates, head in itertools.product(
        (0, 2), (1, 3), ("none", "shared", "per_branch"), ("fcn", "fcn8s")
    )
]
DECOMPOSITIONS += [
    {"group_blocks": size, "bases": 2, "shortcut": "conv", "nonlinearity": "prelu", **more}
    for size, more in itertools.product(
        (0, 2), ({"downsample": "real"}, {"merge": "mean", "atrous": "bpac", "head": "fcn16s"})
    )
]
DECOMPOSITIONS += [
    {"name": name, "bases": 2, "head": "fcn8s", "output_stride": 8}
    for name in ("gbd18_v1", "gbd34_v2", "gbd34_v3")
]
DECOMPOSITIONS += [
    {"name": "groupnet50", "group_blocks": size, "bases": 2, "width": 4, "head": "fcn8s"}
    for size in (0, 2)
]
HEADS = [
    {"bases": 2, "head": "deeplabv3", "head_options": options, "output_stride": stride}
    for options, stride in (
        ({}, 8),
        ({"bases": 3}, 8),
        ({"rates": [1, 2, 5]}, 16),
        ({"aspp": "real"}, 32),
        ({"aspp": "real", "rates": [2, 3, 4]}, 8),
    )
]
FAMILIES = ["bnn18", "bireal18", "resnete18", "sdbnn18", "reactnet18"]
RES_NETS = [{"name": name, "downsample": d} for name in FAMILIES for d in ("real", "binary")]
RES_NETS += [{"name": name.replace("18", "34"), "width": 4} for name in FAMILIES]
RES_NETS += [
    {"name": "bireal18", "threshold": threshold, "nonlinearity": layer, "shortcut": shortcut}
    for threshold, layer, shortcut in itertools.product(
        ("zero", "learnt", "adaptive"), ("none", "hardtanh", "prelu", "rprelu"), ("block", "conv")
    )
]
RES_NETS += [{"name": "bireal18", "threshold": "learnt", "nonlinearity": "relu"}]
RES_NETS += [
    {"name": name, "head": head}
    for name in ("bnn18", "sdbnn18")
    for head in ("fcn32s", "fcn16s", "fcn8s")
]
RES_NETS += [{"name": "reactnet18", "output_stride": stride} for stride in (16, 32)]
RES_NETS += [
    {"name": "bireal18", "padding_value": value, "scale": scale, "shifted_weight": True}
    for value, scale in itertools.product((-1, 0, 1), ("none", "layer", "filter"))
]
RES_NETS += [
    {"name": "reactnet18", "stem": stem, "width": 16}
    for stem in ("conv7", "conv7_relu", "grouped3", "conv3")
]
RES_NETS += [{"name": "sdbnn18", "width": width} for width in (20, 36)]
DENSE_NETS = [
    {"name": f"binarydensenet{depth}", "head": head}
    for depth in ("28", "37", "37_dilated", "45")
    for head in ("fcn", "fcn8s")
]
DENSE_NETS += [
    {"name": "binarydensenet28", **options}
    for options in (
        *({"output_stride": stride, "head": "fcn16s"} for stride in (8, 16, 32)),
        *({"padding_value": value} for value in (-1, 0)),
        *({"scale": scale, "gradient": "approx"} for scale in ("layer", "filter")),
        {"width": 16, "stem": "grouped3"},
        {"stem": "conv7"},
        {"width": 36, "head": "fcn32s"},
    )
]
XNOR_NETS = [
    {"name": "xnornet18"},
    {"name": "xnornet18", "downsample": "binary"},
    {"name": "xnornet18", "input_scale": True, "head": "fcn8s"},
    {"name": "xnornet18", "input_scale": True, "downsample": "binary", "output_stride": 16},
    {"name": "xnornet18", "padding_value": 0, "head": "fcn32s"},
    {"name": "xnornet18", "padding_value": -1, "head": "fcn16s", "width": 20},
    {"name": "xnornet34", "stem": "grouped3", "width": 16},
    {"name": "xnornet18", "scale": "none", "weight_gradient": "clip"},
    {"name": "bwn18"},
    {"name": "bwn18", "downsample": "binary", "head": "fcn8s"},
    {"name": "bwn18", "output_stride": 32, "scale": "none", "weight_gradient": "clip"},
    {"name": "bwn34", "stem": "grouped3", "width": 16, "head": "fcn16s"},
]
SMP = [
    {"name": name, "encoder": "binseg-groupnet18", "bases": 2}
    for name in ("smp_unet", "smp_fpn", "smp_upernet", "smp_deeplabv3plus")
]
SMP += [
    {"name": name, "encoder": f"binseg-{backbone}"}
    for name in ("smp_unet", "smp_fpn")
    for backbone in ("binarydensenet37_dilated", "bwn18", "reactnet18", "resnete18", "xnornet18")
]
SMP += [
    {
        "name": "smp_unet",
        "encoder": "binseg-groupnet18",
        "bases": 2,
        "stem": "grouped3",
        "width": 16,
    }
]
CLASSIFIERS = [
    ("xnornet_alexnet", {"width": 12}, (223, 254)),
    ("xnornet_alexnet", {"width": 3, "input_scale": True}, (227, 224)),
    ("xnornet_alexnet", {"width": 3, "padding_value": 0}, (224, 224)),
    ("bwn_alexnet", {"width": 12}, (225, 227)),
    ("xnornet18", {"width": 8}, (45, 61)),
    ("resnete18", {"width": 8}, (45, 61)),
    ("bwn18", {"width": 8, "output_stride": 16}, (45, 61)),
    ("groupnet18", {"width": 8, "bases": 2}, (45, 61)),
    ("sdbnn18_cifar", {"width": 8}, (32, 32)),
    ("sdbnn20_cifar", {"width": 8}, (32, 30)),
]


def settle(network: nn.Module, *images: torch.Tensor) -> nn.Module:
    """Give it learnt shifts, and statistics of its own sums."""
    for name, parameter in network.named_parameters():
        if name.endswith(("shift", "weight_logit")):
            parameter.data.normal_(0, 0.5)
    reestimate_batchnorm(network, list(images), lambda x: x)
    return network.eval()


@torch.inference_mode()
def agree(model, packed, x) -> None:
    """Logits equal but for rounding; the same class at every pixel that is no tie."""
    expected, found = model(x), packed(x)
    assert found.dtype == torch.float32
    scale = expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)
    best = expected.topk(2, dim=1).values
    tie = best[:, 0] - best[:, 1] < 1e-5 * scale
    assert not ((packed.class_map(x) != expected.argmax(1)) & ~tie).any()


@pytest.mark.parametrize("options", GROUP_NETS + DECOMPOSITIONS + HEADS + XNOR_NETS, ids=str)
def test_group_nets_and_xnor_nets(options):
    model = trained(seed=len(str(options)), **options)
    agree(model, pack(model), images())


@pytest.mark.parametrize("options", RES_NETS + DENSE_NETS, ids=str)
def test_res_nets_and_dense_nets(options):
    model = settle(trained(**options), images(), images(64, 96))
    agree(model, pack(model), images())


@pytest.mark.parametrize("options", SMP, ids=str)
def test_decoders_of_smp(options):
    model = trained(**options)
    with torch.inference_mode():  # no class always wins, so that a wrong map shows
        logits = model(images())
        conv = next(m for m in model.network.segmentation_head if isinstance(m, nn.Conv2d))
        conv.bias -= logits.mean(dim=(0, 2, 3))
    agree(model, pack(model), images())


@pytest.mark.parametrize(("name", "options", "size"), CLASSIFIERS, ids=str)
@torch.inference_mode()
def test_classifiers(name, options, size):
    torch.manual_seed(0)
    model = looks_trained(create_classifier(name, num_classes=7, **options))
    x = noise(2, *size)
    expected, found = model(x), pack(model)(x)
    assert found.shape == (2, 7)
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=tolerance)
