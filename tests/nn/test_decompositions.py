"""Layer-wise decomposition, and groups of one block, of two, and of the whole network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trained_networks import looks_trained

from binseg.errors import BinsegError
from binseg.nn.backbones import create_backbone
from binseg.nn.backbones.group_units import ConvUnit
from binseg.nn.backbones.groupnet import GroupNet, GroupNetOptions
from binseg.nn.bases import BaseSum
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model

NAMES = [f"{name}{depth}{version}" for depth in (18, 34) for name, version in
         (("lbd", ""), ("gbd", "_v1"), ("gbd", "_v2"), ("gbd", "_v3"))]  # fmt: skip
SMALL = {"bases": 3, "width": 8}


def small(**options) -> GroupNet:
    return GroupNet(GroupNetOptions(**{**SMALL, **options}))


def blocks_of(net: GroupNet) -> list:
    return [block for stage in net.stages for block in stage]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_names_and_strides(name, output_stride):
    net = create_backbone(name, output_stride=output_stride, **SMALL).eval()
    height, width = 45, 61
    with torch.no_grad():
        maps = net(torch.randn(1, 3, height, width))
    assert net.options.depth == int(name[3:5])
    assert net.strides == [min(4 * 2**i, output_stride) for i in range(4)]
    for feature, channels, stride in zip(maps, net.channels, net.strides, strict=True):
        assert feature.shape == (1, channels, -(-height // stride), -(-width // stride))


def test_what_the_names_stand_for():
    options = [create_backbone(name, **SMALL).options for name in NAMES[:4]]
    assert [o.decomposition for o in options] == ["layer", "group", "group", "group"]
    assert [o.group_blocks for o in options[1:]] == [1, 2, 0]
    assert all(o.gates == "none" for o in options[1:])
    assert all((o.shortcut, o.nonlinearity) == ("block", "relu") for o in options)


@pytest.mark.parametrize("head", ["fcn", "fcn8s"])
@pytest.mark.parametrize("merge", ["learnt", "mean"])
@pytest.mark.parametrize(
    "options",
    [
        {"decomposition": "layer"},
        {"decomposition": "layer", "bases": 1},
        {"decomposition": "layer", "downsample": "real", "atrous": "bpac"},
        *(
            {"group_blocks": size, "gates": gates}
            for size in (0, 2)
            for gates in ("none", "shared")
        ),
        {"group_blocks": 2, "gates": "per_branch", "name": "groupnet50"},
    ],
    ids=str,
)
def test_a_gradient_reaches_every_parameter(options, merge, head):
    torch.manual_seed(0)
    arguments = {"name": "groupnet18", "head": head, **SMALL, "merge": merge, **options}
    model = create_model(num_classes=3, output_stride=8, **arguments)
    logits = model(torch.randn(2, 3, 45, 61))
    F.cross_entropy(logits, torch.randint(0, 3, (2, 45, 61))).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_is_group_nets(name):
    twin = create_backbone(name, precision="full", **SMALL)
    plain = create_backbone(f"groupnet{twin.options.depth}", precision="full", **SMALL)
    shapes = [{n: p.shape for n, p in net.named_parameters()} for net in (twin, plain)]
    assert shapes[0] == shapes[1]
    assert not any(isinstance(module, BinaryConv2d | BaseSum) for module in twin.modules())


# --- LBD ---


@pytest.mark.parametrize("merge", ["learnt", "mean"])
@pytest.mark.parametrize("training", [True, False])
def test_a_unit_of_lbd_by_hand(merge, training):
    """nonlinearity and BatchNorm follow y = Σ_i λ_i·BinConv_i(sign(x)); each base its rate."""
    torch.manual_seed(0)
    options = GroupNetOptions(decomposition="layer", merge=merge, nonlinearity="tanh", bases=3)
    unit = ConvUnit(options, 4, 5, 3, stride=2, dilations=(1, 2, 3)).train(training)
    x = torch.randn(2, 4, 9, 7)
    lambdas = [1 / 3] * 3
    if merge == "learnt":
        lambdas = unit[1].lambdas.tolist()
        assert len(set(lambdas)) == 3
        assert min(lambdas) >= 0
        assert max(lambdas) < 1
    expected = torch.zeros(2, 5, 5, 4)
    signs = torch.where(x >= 0, 1.0, -1.0)
    for base, rate in enumerate((1, 2, 3)):
        weight = unit[0].weight[5 * base : 5 * base + 5].detach()
        binary = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean()
        padded = F.pad(signs, (rate,) * 4, value=1.0)
        expected += lambdas[base] * F.conv2d(padded, binary, stride=2, dilation=rate)
    expected = torch.tanh(expected)
    norm = nn.BatchNorm2d(5).train(training)
    torch.testing.assert_close(unit(x), norm(expected), rtol=1e-4, atol=1e-4)


def test_lbd_decomposes_every_binary_convolution():
    net = small(decomposition="layer", depth=34)
    convs = [module for module in net.modules() if isinstance(module, BinaryConv2d)]
    assert len(convs) == 2 * 16 + 3
    assert all(conv.bases == 3 and conv.shared_input for conv in convs)
    assert sum(isinstance(module, BaseSum) for module in net.modules()) == len(convs)
    assert all(block.theta is None and block.lambdas is None for block in blocks_of(net))
    real = small(decomposition="layer", downsample="real")
    assert sum(isinstance(module, BaseSum) for module in real.modules()) == 16


@pytest.mark.parametrize("shortcut", ["block", "conv"])
def test_a_base_without_weight_in_lbd_changes_nothing(shortcut):
    """With λ = (1, 0) the network is the one of its first base."""
    torch.manual_seed(0)
    net = looks_trained(small(decomposition="layer", bases=2, shortcut=shortcut))
    one = small(bases=1, shortcut=shortcut).eval()
    state = {}
    for name, tensor in net.state_dict().items():
        if name.endswith("lambdas"):
            tensor.copy_(torch.tensor([1.0, 0.0]))
            continue
        head, _, place = name.rpartition(".unit")
        if not head:  # units of downsampling
            head, _, place = name.rpartition(".layers")
        parts = place.split(".")
        if head and len(parts) == 3:
            tensor = tensor[: len(tensor) // 2] if parts[1] == "0" else tensor
            parts[1] = str(max(0, int(parts[1]) - 1))  # there is no sum
            name = name[: len(name) - len(place)] + ".".join(parts)
        state[name] = tensor
    one.load_state_dict(state)
    x = torch.randn(1, 3, 45, 61)
    for found, expected in zip(net(x), one(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# --- GBD ---


def single(net: GroupNet, base: int) -> GroupNet:
    """The network of one branch with the weights of `base`; what branches share it has, too."""
    alone = small(bases=1, depth=net.options.depth, shortcut=net.options.shortcut)
    own = alone.state_dict()
    for name, tensor in net.state_dict().items():
        if name in own:
            size = own[name].shape
            if tensor.shape != size:
                tensor = tensor.chunk(net.options.bases)[base]
            own[name] = tensor
    alone.load_state_dict(own)
    return alone.eval()


@pytest.mark.parametrize("depth", [18, 34])
@pytest.mark.parametrize("shortcut", ["block", "conv"])
@torch.no_grad()
def test_v3_is_an_ensemble_of_networks_run_one_by_one(depth, shortcut):
    torch.manual_seed(0)
    net = looks_trained(small(depth=depth, group_blocks=0, shortcut=shortcut))
    x = torch.randn(2, 3, 45, 61)
    alone = [single(net, base)(x) for base in range(3)]
    lambdas = blocks_of(net)[-1].lambdas
    *stages, last = net(x)
    expected = sum(weight * maps[-1] for weight, maps in zip(lambdas, alone, strict=True))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    for stage, found in enumerate(stages):  # what a head may read inside the group
        mean = sum(maps[stage] for maps in alone) / 3
        torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-4)


def run_alone(block, base: int, x):
    """A block's branch by formulas: sign → convolution → ReLU → BatchNorm, twice, + shortcut."""

    def unit(layers, x, base):
        conv, norm = layers[0], layers[2]
        rows = slice(base * conv.out_channels, (base + 1) * conv.out_channels)
        weight = conv.weight[rows]
        binary = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean()
        border = conv.dilations[base] * (conv.kernel_size - 1) // 2
        signs = F.pad(torch.where(x >= 0, 1.0, -1.0), (border,) * 4, value=1.0)
        y = F.conv2d(signs, binary, stride=conv.stride, dilation=conv.dilations[base]).relu()
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return F.batch_norm(y, *(tensor[rows] for tensor in statistics))

    shortcut = x if block.downsample is None else unit(block.downsample.layers, x, 0)
    return unit(block.unit2, unit(block.unit1, x, base), base) + shortcut


@pytest.mark.parametrize("gates", ["none", "shared", "per_branch"])
@pytest.mark.parametrize("depth", [18, 34])
@torch.no_grad()
def test_v2_merges_after_two_blocks(gates, depth):
    torch.manual_seed(0)
    net = looks_trained(small(depth=depth, group_blocks=2, gates=gates, atrous="bpac"))
    x = torch.randn(1, 3, 45, 61)
    merged = net.stem(x)
    branches = [merged] * 3
    expected = []
    for stage in net.stages:
        for start in range(0, len(stage), 2):
            group = stage[start : start + 2]
            if group[0].theta is not None:
                gate = torch.sigmoid(group[0].theta).expand(3)
                inputs = [g * b + (1 - g) * merged for g, b in zip(gate, branches, strict=True)]
            else:
                inputs = [merged] * 3
            branches = inputs
            for block in group:
                branches = [run_alone(block, base, b) for base, b in enumerate(branches)]
            merged = sum(w * b for w, b in zip(group[-1].lambdas, branches, strict=True))
        expected.append(merged)
    for found, each in zip(net(x), expected, strict=True):
        torch.testing.assert_close(found, each, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "gated", "merging"),
    [
        ({"group_blocks": 1}, 7, 8),
        ({"group_blocks": 2}, 3, 4),
        ({"group_blocks": 0}, 0, 1),
        ({"group_blocks": 2, "gates": "none"}, 0, 4),
        ({"group_blocks": 2, "merge": "mean"}, 3, 0),
        ({"group_blocks": 2, "depth": 34}, 8, 9),  # stages of 3, 4, 6 and 3 blocks
        ({"group_blocks": 2, "depth": 50}, 8, 9),
        ({"group_blocks": 0, "depth": 50}, 0, 1),
    ],
)
def test_only_where_groups_meet_there_are_gates_and_lambdas(options, gated, merging):
    blocks = blocks_of(small(**options))
    assert sum(block.theta is not None for block in blocks) == gated
    assert sum(block.lambdas is not None for block in blocks) == merging


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decomposition": "layers"}, "did you mean 'layer'"),
        ({"group_blocks": 3}, "1 or 2 blocks, or 0"),
        ({"group_blocks": -1}, "1 or 2 blocks, or 0"),
        ({"decomposition": "layer", "group_blocks": 2}, "has no groups"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BinsegError, match=message):
        GroupNetOptions(**options)
