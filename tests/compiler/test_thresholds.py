"""Integer thresholds and curves say what the trained layers say."""

import pytest
import torch
from small_graphs import check, graph_of, kinds, norm, program_of
from torch import nn

from binseg.compiler.affine import norm_affine
from binseg.compiler.passes import curves, signs, thresholds
from binseg.compiler.passes.thresholds import TooManyChangesError, find_thresholds
from binseg.nn.layers import BinaryConv2d

TERMS = 5


def inside(low: torch.Tensor, span: torch.Tensor, terms: int) -> torch.Tensor:
    """What the operator `conv_bits` makes of all sums: bool (channels, 2·terms + 1)."""
    sums = torch.arange(-terms, terms + 1)
    distance = (sums - low.long()[:, None]) & 0xFFFFFFFF
    return distance <= (span.long() & 0xFFFFFFFF)[:, None]


@pytest.mark.parametrize(
    ("after", "low", "span"),
    [
        (lambda s: s - 2, 2, 3),
        (lambda s: -1 - s, -5, 4),
        (lambda s: s * 0, -5, 10),
        (lambda s: s * 0 - 1, 6, 0),
        (lambda s: s * 0 + torch.nan, 6, 0),
        (lambda s: 2 - s.abs(), -2, 4),
        (lambda s: s.abs() - 3, 3, -6),
        (lambda s: -s.abs(), 0, 0),
        (lambda s: -s * 0.0, -5, 10),  # negative zero counts as ≥ 0
    ],
)
def test_by_hand(after, low, span):
    found = find_thresholds(after, 1, TERMS, name="layer")
    assert [x.item() for x in found] == [low, span]
    assert [x.dtype for x in found] == [torch.int32, torch.int32]


@pytest.mark.parametrize("chunk", [1, 7, 40, 1 << 20])
def test_any_set_with_two_changes_at_most(chunk, monkeypatch):
    """All of them at once, one in each channel, looked at in pieces of any size."""
    monkeypatch.setattr(thresholds, "_CHUNK", chunk)
    size = 2 * TERMS + 1
    places = torch.arange(size)
    sets = torch.stack(
        [
            ((places >= a) & (places < b)) ^ flip
            for a in range(size + 1)
            for b in range(a, size + 1)
            for flip in (False, True)
        ]
    )

    def after(sums):
        columns = (sums[0, 0, 0] + TERMS).long()
        return torch.where(sets[:, columns], 1.0, -1.0)[None, :, None]

    low, span = find_thresholds(after, len(sets), TERMS, name="layer")
    assert torch.equal(inside(low, span, TERMS), sets)
    assert low.min() >= -TERMS
    assert low.max() <= TERMS + 1
    assert span.abs().max() <= 2 * TERMS + 1


def test_a_set_that_is_no_range_is_refused_by_name():
    def after(sums):
        return torch.where((sums.abs() == 2) | (sums == 0), 1.0, -1.0)

    with pytest.raises(TooManyChangesError, match=r"stages\.1\.unit1: .* changes its sign 6 times"):
        find_thresholds(after, 3, TERMS, name="stages.1.unit1")


@pytest.mark.parametrize("scale", ["none", "layer", "filter"])
def test_prelu_with_negative_slopes_gives_ranges_of_every_kind(scale):
    torch.manual_seed(0)
    conv = BinaryConv2d(8, 8, 3, bases=2, shared_input=True, scale=scale)
    act, after = nn.PReLU(16), norm(16)
    act.weight.data.normal_()
    # |s| beyond a bound: a set that is outside an interval
    act.weight.data[0], after.weight.data[0], after.bias.data[0] = -1, 1, -5
    after.running_mean[0], after.running_var[0] = 0, 1
    graph = graph_of(BinaryConv2d(3, 8, 1), conv, act, after, BinaryConv2d(8, 4, 1, bases=2))
    signs.take_signs(graph)
    thresholds.find_integer_thresholds(graph)
    *_, node = graph.of("conv_bits")  # the first one is of the convolution before
    assert node.outputs.keys() == {"bits"}
    terms = conv.in_channels * 9
    sums = torch.arange(-terms, terms + 1.0).expand(1, 16, 1, -1)
    with torch.no_grad():
        expected = after(act(sums * factor(conv, scale)))[0, :, 0] >= 0
    found = inside(node.tensors["low"], node.tensors["span"], terms)
    assert torch.equal(found, expected)
    ends = {(bool(row[0]), bool(row[-1])) for row in found}
    assert ends == {(True, True), (True, False), (False, True), (False, False)}
    assert node.tensors["span"][0] < 0


def factor(conv: BinaryConv2d, scale: str) -> torch.Tensor:
    magnitude = conv.weight.detach().abs()
    if scale == "layer":
        found = magnitude.reshape(conv.bases, -1).mean(1).repeat_interleave(conv.out_channels)
    else:
        found = magnitude.mean(dim=(1, 2, 3)) if scale == "filter" else torch.ones(len(magnitude))
    return found.view(1, -1, 1, 1)


def test_layers_between_that_mix_channels_leave_no_threshold():
    layers = [BinaryConv2d(3, 8, 3), nn.AvgPool2d(2), norm(8), BinaryConv2d(8, 4, 1)]
    graph = graph_of(*layers)
    signs.take_signs(graph)
    thresholds.find_integer_thresholds(graph)
    assert not graph.of("conv_bits")
    check(program_of(*layers), *layers)


class Comb(nn.Hardtanh):
    """Changes its sign more often than a threshold can; it is read as a hardtanh."""

    __module__ = "torch.nn"

    def forward(self, x):
        return torch.sin(3 * x)


def test_what_changes_its_sign_too_often_stays_real():
    graph = graph_of(BinaryConv2d(3, 4, 3), Comb(), BinaryConv2d(4, 4, 1))
    signs.take_signs(graph)
    thresholds.find_integer_thresholds(graph)
    assert len(graph.of("binary")) == 2
    assert not graph.of("conv_bits")


@pytest.mark.parametrize("nonlinearity", [None, nn.ReLU(), nn.PReLU(16), nn.Tanh()], ids=str)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("scale", ["none", "layer", "filter"])
def test_curves(nonlinearity, normalised, scale):
    torch.manual_seed(0)
    conv = BinaryConv2d(3, 8, 3, bases=2, shared_input=True, scale=scale)
    layers = [nonlinearity] if nonlinearity is not None else []
    if isinstance(nonlinearity, nn.PReLU):
        nonlinearity.weight.data.normal_()
    layers += [norm(16)] if normalised else []
    graph = graph_of(conv, *layers)
    signs.take_signs(graph)
    curves.fit_curves(graph)
    (node,) = graph.of("conv_real")
    assert len(graph.of("act", "affine")) == 0
    tanh = isinstance(nonlinearity, nn.Tanh)
    assert node.attributes.get("tanh", False) == tanh
    terms = 27
    sums = torch.arange(-terms, terms + 1.0, dtype=torch.float64)
    first, second, third = node.tensors["curve"][:, :, None]
    if tanh:
        found = first * torch.tanh(second * sums) + third
    else:
        found = first * sums.clamp(min=0) + second * sums.clamp(max=0) + third
    with torch.no_grad():
        expected = nn.Sequential(*layers)(sums.float().view(1, 1, 1, -1) * factor(conv, scale))
    torch.testing.assert_close(found.float(), expected[0, :, 0], rtol=1e-5, atol=1e-5)


def test_a_nonlinearity_that_is_no_curve_follows_it():
    layers = [BinaryConv2d(3, 8, 3), nn.SiLU(), norm(8)]
    assert kinds(program_of(*layers)) == ["pack_sign", "conv_real", "affine"]
    check(program_of(*layers), *layers)


def test_a_batchnorm_is_its_own_numbers_to_the_last_bit():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(64)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_()
    norm.running_var.uniform_(0.1, 2)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    gain, bias = norm_affine(norm.train())
    x = 3 * torch.randn(2, 64, 33, 41)
    found = torch.addcmul(bias.float(), x.permute(0, 2, 3, 1), gain.float())
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    assert torch.equal(found.permute(0, 3, 1, 2), norm.eval()(x))
