"""Group-Net's structure: gates, merges, strides, and a rate of its own for each base."""

import pytest
import torch

from binseg.errors import BinsegError
from binseg.nn.backbones.groupnet import (
    BasicGroupBlock,
    GroupNet,
    GroupNetOptions,
    stage_dilations,
)
from binseg.nn.layers import BinaryConv2d, set_binarization

SMALL = {"bases": 2, "width": 16}


def small(**options) -> GroupNet:
    return GroupNet(GroupNetOptions(**{**SMALL, **options}))


@pytest.mark.parametrize("depth", [18, 34, 50])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("shortcut", ["block", "conv"])
def test_strides_and_channels(depth, output_stride, shortcut):
    net = small(depth=depth, output_stride=output_stride, shortcut=shortcut).eval()
    height, width = 61, 83
    maps = net(torch.randn(1, 3, height, width))
    expansion = 4 if depth == 50 else 1
    assert net.channels == [16 * expansion * 2**i for i in range(4)]
    assert net.strides == [min(4 * 2**i, output_stride) for i in range(4)]
    for feature, channels, stride in zip(maps, net.channels, net.strides, strict=True):
        assert feature.shape == (1, channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("bases", [1, 2, 5, 8])
@pytest.mark.parametrize("gates", ["shared", "per_branch", "none"])
@pytest.mark.parametrize("merge", ["learnt", "mean"])
def test_every_parameter_is_trained(bases, gates, merge):
    net = small(bases=bases, gates=gates, merge=merge, atrous="bpac", width=8)
    sum(feature.square().mean() for feature in net(torch.randn(2, 3, 40, 40))).backward()
    untrained = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untrained


@pytest.mark.parametrize("gates", ["shared", "per_branch"])
def test_gate_and_merge_by_hand(gates):
    torch.manual_seed(0)
    options = GroupNetOptions(bases=3, width=4, gates=gates)
    block = BasicGroupBlock(options, 4, 4, stride=1, dilations=(1, 1, 1), first=False)
    branches, merged = torch.randn(2, 12, 5, 6), torch.randn(2, 4, 5, 6)
    seen = {}
    block._branches = lambda x, shortcut: seen.setdefault("x", x) * 2
    out, new_merged = block(branches, merged)
    for base in range(3):
        gate = torch.sigmoid(block.theta[base if gates == "per_branch" else 0])
        own = branches[:, 4 * base : 4 * base + 4]
        expected = gate * own + (1 - gate) * merged
        torch.testing.assert_close(seen["x"][:, 4 * base : 4 * base + 4], expected)
    expected = sum(block.lambdas[b] * out[:, 4 * b : 4 * b + 4] for b in range(3))
    torch.testing.assert_close(new_merged, expected)


def test_gates_start_in_the_unit_interval_and_the_first_block_has_none():
    net = small(bases=4, gates="per_branch")
    blocks = [block for stage in net.stages for block in stage]
    assert blocks[0].theta is None
    assert all(block.theta.shape == (4,) for block in blocks[1:])
    values = torch.cat([block.theta for block in blocks[1:]] + [block.lambdas for block in blocks])
    assert values.min() >= 0
    assert values.max() < 1
    assert values.unique().numel() > 20
    shared = small(gates="shared")
    assert all(
        b.theta.shape == (1,) for stage in shared.stages for b in stage if b.theta is not None
    )


def test_bases_are_independent_when_the_gates_are_open():
    """With σ(θ) = 1 a branch reads only its own predecessor: base 1 cannot see base 0."""
    torch.manual_seed(0)
    options = GroupNetOptions(bases=2, width=4, gates="per_branch")
    block = BasicGroupBlock(options, 4, 4, stride=1, dilations=(1, 1), first=False).eval()
    with torch.no_grad():
        block.theta.fill_(100.0)
    branches, merged = torch.randn(1, 8, 6, 6), torch.randn(1, 4, 6, 6)
    other = branches.clone()
    other[:, :4] = torch.randn(1, 4, 6, 6)
    before, after = block(branches, merged)[0], block(other, merged)[0]
    assert torch.equal(before[:, 4:], after[:, 4:])
    assert not torch.equal(before[:, :4], after[:, :4])


@pytest.mark.parametrize("shortcut", ["block", "conv"])
def test_block_by_hand(shortcut):
    """sign → convolution → ReLU → BatchNorm → + shortcut, twice, for each base."""
    torch.manual_seed(0)
    options = GroupNetOptions(bases=2, width=4, shortcut=shortcut)
    block = BasicGroupBlock(options, 4, 4, stride=1, dilations=(1, 1), first=True).eval()
    x = torch.randn(2, 4, 6, 5)
    out, _ = block(x, x)
    for base in range(2):
        value = x
        for index, unit in enumerate((block.unit1, block.unit2)):
            conv, norm = unit[0], unit[2]
            weight = conv.weight[4 * base : 4 * base + 4]
            binary = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean()
            signs = torch.where(value >= 0, 1.0, -1.0)
            y = (
                torch.nn.functional.conv2d(
                    torch.nn.functional.pad(signs, (1, 1, 1, 1), value=1.0), binary
                ).relu()
                / (1 + norm.eps) ** 0.5
            )
            around = value if shortcut == "conv" else (x if index == 1 else 0)
            value = y + around
        torch.testing.assert_close(out[:, 4 * base : 4 * base + 4], value, rtol=1e-4, atol=1e-4)


# --- BPAC ---


def reach(net: GroupNet, stage: int, base: int) -> int:
    """Columns from the centre to the farthest input pixel that one output pixel depends on.

    Only `base` of the stage's second block is let through to the output, and its input is taken as
    one map, so the distance is that of the two 3×3 convolutions of this base alone.
    """
    block = net.stages[stage - 1][1].eval()
    set_binarization(block, activations="tanh", weights="real")
    channels = block.unit2[0].out_channels
    size = 61
    x = torch.randn(1, block.bases * channels, size, size, requires_grad=True)
    merged = torch.zeros(1, channels, size, size)
    out = block(x, merged)[0][:, base * channels : (base + 1) * channels]
    out[0, :, size // 2, size // 2].sum().backward()
    touched = x.grad[0].abs().sum(dim=(0, 1)).nonzero().flatten()
    return int((touched - size // 2).abs().max())


def test_each_base_has_its_own_rate_by_its_receptive_field():
    """Two 3×3 convolutions at rate r see 2r pixels to each side; rates 2, 3, 4 and 6, 7, 8."""
    torch.manual_seed(0)
    net = small(bases=3, atrous="bpac", width=8)
    assert [reach(net, 3, base) for base in range(3)] == [4, 6, 8]
    assert [reach(net, 4, base) for base in range(3)] == [12, 14, 16]


@pytest.mark.parametrize(("atrous", "expected"), [("one_rate", [8, 16]), ("off", [4, 8])])
def test_ablations_have_one_rate_for_all_bases(atrous, expected):
    torch.manual_seed(0)
    net = small(bases=3, atrous=atrous, width=8)
    for base in range(3):
        assert [reach(net, stage, base) for stage in (3, 4)] == expected


@pytest.mark.parametrize(
    ("output_stride", "stage3", "stage4"),
    [(8, (2, 3, 4, 5, 6), (6, 7, 8, 9, 10)), (16, (1, 2, 3, 4, 5), (3, 4, 5, 6, 7)),
     (32, (1, 2, 3, 4, 5), (1, 2, 3, 4, 5))],
)  # fmt: skip
def test_rates_of_the_paper_and_on_coarser_grids(output_stride, stage3, stage4):
    options = GroupNetOptions(bases=5, atrous="bpac", output_stride=output_stride)
    assert stage_dilations(options, 1) == stage_dilations(options, 2) == (1,) * 5
    assert stage_dilations(options, 3) == stage3
    assert stage_dilations(options, 4) == stage4


# --- the twin and the options ---


def test_the_twin_has_no_binary_layer_and_the_same_topology():
    twin, one = small(precision="full"), small(bases=1, downsample="real")
    assert not any(isinstance(m, BinaryConv2d) for m in twin.modules())
    assert {n: p.shape for n, p in twin.named_parameters()} == {
        n: p.shape for n, p in one.named_parameters()
    }
    x = torch.randn(1, 3, 40, 40)
    assert [f.shape for f in twin(x)] == [f.shape for f in one(x)]


def test_binary_downsample_is_shared_by_the_branches():
    net = small(bases=3, downsample="binary")
    layers = [m for m in net.modules() if isinstance(m, BinaryConv2d) and m.kernel_size == 1]
    assert [layer.weight.shape[0] for layer in layers] == [32, 64, 128]
    real = small(bases=3, downsample="real")
    assert not [m for m in real.modules() if isinstance(m, BinaryConv2d) and m.kernel_size == 1]


@pytest.mark.parametrize("stem", ["conv7", "grouped3"])
def test_stems_give_values_of_both_signs(stem):
    net = small(stem=stem)
    y = net.stem(torch.randn(4, 3, 33, 47))
    assert y.shape == (4, 16, 9, 12)
    share = (y >= 0).float().mean()
    assert 0.2 < share < 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 101}, "18, 34 or 50"),
        ({"bases": 9}, "1 to 8"),
        ({"output_stride": 4}, "8, 16 or 32"),
        ({"gates": "sharde"}, "did you mean 'shared'"),
        ({"atrous": "bpca"}, "did you mean 'bpac'"),
        ({"width": 30}, "multiple of 4"),
        ({"rates": (0, 6)}, "rates"),
        ({"stem": "conv3"}, "another than conv3"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BinsegError, match=message):
        GroupNetOptions(**options)
