"""bf16 and int8: ranges, and results close to float32."""

import pytest
import torch
from small_graphs import counts
from torch import nn
from trained_networks import images, looks_trained, noise, trained

from binseg.compiler.calibration import Range, activation_ranges, best_range
from binseg.compiler.pack import pack
from binseg.errors import BinsegError
from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d


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
    x = images()
    ranges = activation_ranges(model, [x, 2 * x])
    stem = model.backbone.stem[0]
    assert ranges.keys() == {m for m in model.modules() if isinstance(m, nn.Conv2d)}
    assert ranges[stem].high <= 2 * x.max()
    assert ranges[stem].high > x.max()


def test_only_inputs_that_are_real_are_looked_at():
    def kinds(**options):
        model = trained(**options)
        ranges = activation_ranges(model, [images()])
        binary = [m for m in model.modules() if isinstance(m, BinaryConv2d)]
        return len(binary), sum(isinstance(m, BinaryConv2d) for m in ranges)

    assert kinds(name="bwn18", downsample="binary") == (19, 19)
    assert kinds(name="xnornet18") == (16, 0)


@torch.inference_mode()
def relative_error(options, other_layers, seed=0) -> float:
    """Of the logits, in deviations; no class always wins, so that a wrong number shows."""
    model, x = trained(seed, **options), images(64, 80)
    expected = model(x)
    found = pack(model, other_layers=other_layers, calibration=[x])(x)
    return float((found - expected).square().mean().sqrt() / expected.std())


WITHOUT_SIGNS = [{"name": "bwn18"}, {"name": "bwn18", "downsample": "binary"},
                 {"name": "bwn34", "stem": "grouped3", "width": 16}]  # fmt: skip
WITH_SIGNS = [
    {"bases": 2, "downsample": "real"},
    {"bases": 2, "width": 16, "stem": "grouped3"},
    {"bases": 2, "head": "deeplabv3", "head_options": {"bases": 3}},
    {"bases": 2, "head": "deeplabv3", "head_options": {"aspp": "real"}},
    {"name": "xnornet18", "downsample": "binary"},
]


@pytest.mark.parametrize("other_layers", ["bf16", "int8"])
@pytest.mark.parametrize("options", WITHOUT_SIGNS, ids=str)
def test_without_signs_little_is_lost(options, other_layers):
    assert 0 < relative_error(options, other_layers) < 0.04


@pytest.mark.parametrize("other_layers", ["bf16", "int8"])
@pytest.mark.parametrize("options", WITH_SIGNS, ids=str)
def test_signs_turn_but_not_too_many(options, other_layers):
    """Noise and weights of noise: thousands of values lie next to 0."""
    assert 1e-6 < relative_error(options, other_layers) < 0.7


@pytest.mark.parametrize("other_layers", ["bf16", "int8"])
@torch.inference_mode()
def test_classifiers(other_layers):
    torch.manual_seed(0)
    model = looks_trained(create_classifier("bwn_alexnet", num_classes=7, width=12))
    x = noise(3, 224, 226)
    expected = model(x)
    found = pack(model, other_layers=other_layers, calibration=[x])(x)
    assert (found - expected).square().mean() < 2e-3 * expected.var()


def test_what_becomes_8_bits():
    def kinds(**options):
        packed = pack(trained(**options), other_layers="int8", calibration=[images()])
        found = counts(packed.program)
        return found["conv_int8"] + found["conv_int8_pool"], found["conv"]

    assert kinds(bases=2, downsample="real") == (1 + 3 + 1, 1)
    assert kinds(bases=2, downsample="real", head="fcn8s") == (1 + 3 + 1, 3)
    assert kinds(bases=2, head="deeplabv3", head_options={"aspp": "real"}) == (1 + 7, 1)
    assert kinds(name="bwn18", downsample="binary") == (1 + 19 + 1, 1)
    assert kinds(name="sdbnn18", downsample="binary") == (1 + 1, 1 + 2 * 19)
    # the image's bytes go straight into the stem, and chains of 8-bit layers need no real map
    packed = pack(trained(name="bwn18"), other_layers="int8", calibration=[images()])
    assert packed.program.operators[0].inputs == (0,)
    assert counts(packed.program)["quantize"] == 0
