"""Real layers in 8 bits: ranges, exact sums, and a result close to float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trained_networks import pictures, trained

from binseg.errors import BinsegError
from binseg.nn.backbones.stems import create_stem
from binseg.packed.calibration import Range, activation_ranges, best_range
from binseg.packed.fold import pack
from binseg.packed.folding import Folding
from binseg.packed.rest import Int8Conv, folded, rest_conv, score_conv
from binseg.packed.stems import PackedStem


def test_a_range_holds_zero_and_has_a_byte_for_it():
    assert Range(-10.0, 245.0).scale == 1
    assert Range(-10.0, 245.0).zero_point == 10
    assert Range(0.0, 0.0).scale == 1
    for values in ([3.0, 5.0], [-3.0, -5.0], [0.0]):
        found = best_range(torch.tensor(values))
        assert found.low <= 0 <= found.high
        assert 0 <= found.zero_point <= 255
    assert best_range(torch.tensor([3.0, 5.0])).low == 0
    assert best_range(torch.tensor([-3.0, -5.0])).high == 0


def test_a_range_cuts_what_costs_more_than_it_gives():
    torch.manual_seed(0)
    values = torch.cat([torch.randn(20000), torch.tensor([6.0, -7.0])])
    whole = Range(-7.0, 6.0)

    def error(found):
        levels = (values / found.scale + found.zero_point).round().clamp(0, 255)
        return ((levels - found.zero_point) * found.scale - values).square().mean()

    found = best_range(values)
    assert found.low > whole.low or found.high < whole.high
    assert error(found) < error(whole)
    assert found.high > 3
    with pytest.raises(BinsegError, match="nan"):
        best_range(torch.tensor([1.0, torch.nan]))


def test_ranges_are_those_of_the_inputs():
    model = trained(bases=2, downsample="real", head="fcn8s")
    x = pictures()
    ranges = activation_ranges(model, [x, 2 * x])
    stem = model.backbone.stem[0]
    assert ranges.keys() == {m for m in model.modules() if isinstance(m, nn.Conv2d)}
    assert ranges[stem].high <= 2 * x.max()
    assert ranges[stem].high > x.max()


def whole_numbers(conv: nn.Conv2d) -> None:
    """Weights that 8 bits hold exactly."""
    torch.manual_seed(0)
    conv.weight.data = torch.randint(-127, 128, conv.weight.shape).float()
    conv.weight.data[:, 0, 0, 0] = 127


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("channels", "groups"), [((3, 5), 1), ((8, 16), 4), ((36, 70), 1)])
def test_exact_on_whole_numbers(channels, groups, kernel, stride):
    conv = nn.Conv2d(*channels, kernel, stride, kernel // 2, groups=groups)
    whole_numbers(conv)
    packed = rest_conv(conv, Folding("int8", {conv: Range(-10.0, 245.0)}))
    assert isinstance(packed, Int8Conv)
    x = torch.randint(-10, 246, (2, channels[0], 7, 10)).float()
    expected = conv(x).permute(0, 2, 3, 1)
    torch.testing.assert_close(packed(x.permute(0, 2, 3, 1)), expected, rtol=1e-6, atol=1e-2)


def test_values_outside_the_range_are_clipped():
    conv = nn.Conv2d(1, 1, 1, bias=False)
    conv.weight.data.fill_(127.0)
    packed = rest_conv(conv, Folding("int8", {conv: Range(-10.0, 245.0)}))
    x = torch.tensor([-50.0, -10.0, 0.0, 245.0, 900.0]).view(1, 1, 5, 1)
    assert (packed(x) / 127).flatten().tolist() == [-10, -10, 0, 245, 245]


def test_the_stem_in_one_operator():
    """Negative gains come after the maximum, as in the trained stem."""
    torch.manual_seed(0)
    stem = create_stem("conv7", 20).eval()
    whole_numbers(stem[0])
    norm = stem[2]
    norm.weight.data.normal_()
    norm.running_var.fill_(1e8)
    norm.running_mean.normal_(0, 1e4)
    x = torch.randint(-10, 246, (2, 3, 33, 41)).float()
    packed = PackedStem(stem, Folding("int8", {stem[0]: Range(-10.0, 245.0)}))
    assert packed.ending is not None
    with torch.no_grad():
        real, bits = packed(x)
        expected = stem(x).permute(0, 2, 3, 1).unsqueeze(3)
    torch.testing.assert_close(real, expected, rtol=1e-4, atol=1e-5)
    assert (norm.weight < 0).any()
    assert bits.shape == (2, 9, 11, 1, 1)


def test_a_stem_of_something_else_is_refused():
    with pytest.raises(BinsegError, match="Dropout in the stem"):
        PackedStem(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()), Folding("fp32"))
    with pytest.raises(BinsegError, match="3×3 max-pooling"):
        PackedStem(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)), Folding("fp32"))


def test_batchnorms_fold_on_both_sides():
    torch.manual_seed(0)
    before, conv, after = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4)
    for norm in (before, after):
        norm.weight.data.normal_()
        norm.bias.data.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 1)
    layers = nn.Sequential(before, conv, after).double().eval()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    kernels, bias = folded(conv, after, before)
    torch.testing.assert_close(F.conv2d(x, kernels, bias), layers(x), rtol=1e-5, atol=1e-5)
    scores = score_conv(conv.float(), before=before.float())
    found = scores(x.float().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, conv(before(x.float())), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 8, 9, 11, 16, 21, 40])
def test_scores_of_any_number_of_classes(classes):
    """Whole numbers, so that the order of the sums makes no difference."""
    generator = torch.Generator().manual_seed(classes)

    def whole(*shape):
        return torch.randint(-9, 10, shape, generator=generator).float()

    conv = nn.Conv2d(24, classes, 1)
    conv.weight.data.copy_(whole(classes, 24, 1, 1))
    conv.bias.data.copy_(whole(classes))
    x = whole(2, 3, 5, 24)
    scores = score_conv(conv)(x)
    assert scores.shape == (2, 3, 5, classes)
    assert torch.equal(scores, conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def test_too_many_channels_for_8_bits():
    with (
        torch.device("meta"),
        pytest.raises(BinsegError, match="too many channels for 8 bits; use bf16"),
    ):
        rest_conv(nn.Conv2d(8192, 4, 3), Folding("int8"))


@pytest.mark.parametrize(
    "options",
    [
        {"bases": 2, "downsample": "real"},
        {"bases": 2, "downsample": "real", "head": "fcn8s"},
        {"bases": 2, "width": 16, "stem": "grouped3"},
        {"bases": 1, "head_options": {"kernel_size": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("rest", ["bf16", "int8"])
def test_a_cheaper_rest_is_close(options, rest):
    """Layer by layer: the maps before the first sign, and the head on equal maps."""
    model = trained(**options)
    x = pictures(64, 80)
    exact, cheap = pack(model), pack(model, rest=rest, calibration=[x])
    with torch.inference_mode():
        expected, found = exact.body.stem(x)[0], cheap.body.stem(x)[0]
        assert relative_error(found, expected) < 0.05
        maps = exact.body(x)
        error = relative_error(cheap.head(maps), exact.head(maps))
        assert 0 < error < 0.1
        assert cheap.class_map(x).shape == (2, 64, 80)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root of the mean squared difference, in deviations of what was expected."""
    return float((found - expected).square().mean().sqrt() / expected.std())
