"""Integer thresholds and curves say what the trained layers say."""

import pytest
import torch
from torch import nn
from trained_networks import trained

from binseg.errors import BinsegError
from binseg.packed import thresholds
from binseg.packed.thresholds import find_thresholds, norm_affine, unit_curve, unit_thresholds

TERMS = 5


def inside(low: torch.Tensor, span: torch.Tensor, terms: int) -> torch.Tensor:
    """What `ops.conv_bits` makes of all sums: bool (channels, 2·terms + 1)."""
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

    with pytest.raises(BinsegError, match=r"stages\.1\.unit1: .* changes its sign 6 times"):
        find_thresholds(after, 3, TERMS, name="stages.1.unit1")


def test_prelu_with_negative_slopes_gives_ranges_of_every_kind():
    unit = trained(nonlinearity="prelu", bases=2).backbone.stages[0][0].unit1
    conv = unit[0]
    terms = conv.in_channels * 9
    low, span = unit_thresholds(unit, "unit")
    sums = torch.arange(-terms, terms + 1.0).expand(1, 16, 1, -1)
    factor = conv.weight.abs().reshape(2, -1).mean(1).repeat_interleave(8).view(1, -1, 1, 1)
    with torch.no_grad():
        expected = unit[2](unit[1](sums * factor))[0, :, 0] >= 0
    found = inside(low, span, terms)
    assert torch.equal(found, expected)
    ends = {(bool(row[0]), bool(row[-1])) for row in found}
    assert ends == {(True, True), (True, False), (False, True), (False, False)}
    assert (span < 0).any()  # a set that is outside an interval


@pytest.mark.parametrize("nonlinearity", ["relu", "prelu", "tanh"])
@pytest.mark.parametrize("scale", ["none", "layer", "filter"])
def test_curves(nonlinearity, scale):
    unit = trained(nonlinearity=nonlinearity, scale=scale, bases=2).backbone.stages[0][0].unit2
    curve, tanh = unit_curve(unit, "unit")
    assert tanh == (nonlinearity == "tanh")
    terms = 72
    sums = torch.arange(-terms, terms + 1.0, dtype=torch.float64)
    first, second, third = curve[:, :, None]
    if tanh:
        found = first * torch.tanh(second * sums) + third
    else:
        found = first * sums.clamp(min=0) + second * sums.clamp(max=0) + third
    factor = torch.ones(16)
    if scale == "layer":
        factor = unit[0].weight.abs().reshape(2, -1).mean(1).repeat_interleave(8)
    elif scale == "filter":
        factor = unit[0].weight.abs().mean(dim=(1, 2, 3))
    with torch.no_grad():
        expected = unit[2](unit[1](sums.float() * factor.view(1, -1, 1, 1)))[0, :, 0]
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-5)


def test_another_nonlinearity_is_refused():
    unit = trained().backbone.stages[0][0].unit2
    unit[1] = nn.GELU()
    with pytest.raises(BinsegError, match="unit: a GELU cannot be packed"):
        unit_curve(unit, "unit")


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
