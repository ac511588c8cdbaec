"""Backbones started from others: more bases, fewer bases, real weights."""

import copy
import math

import pytest
import torch

from binseg.nn.adapt import adapt_tensors
from binseg.nn.backbones import create_backbone
from binseg.nn.layers import BinaryConv2d

SMALL = {"width": 8, "output_stride": 16}


def backbone(name: str = "groupnet18_star", **options):
    torch.manual_seed(3)
    return create_backbone(name, **{**SMALL, "downsample": "real", **options}).eval()


def started(source, target, **options):
    tensors = adapt_tensors(source, source.state_dict(), target, **options)
    target.load_state_dict(tensors)
    return target


def maps(network):
    # in float64, where no sum of other order flips a sign
    torch.manual_seed(0)
    with torch.no_grad():
        return copy.deepcopy(network).double()(torch.randn(2, 3, 45, 33).double())


def same(one, other):
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(maps(one), maps(other), strict=True))


def randomized(network):
    """Statistics, slopes and gates away from where they start, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.3)
        assert name
    return network


@pytest.mark.parametrize("gates", ["shared", "per_branch", "none"])
@pytest.mark.parametrize("depth", [18, 50])
def test_the_same_architecture_is_copied_exactly(gates, depth):
    name = f"groupnet{depth}"
    source = randomized(backbone(name, bases=2, gates=gates, downsample="binary"))
    target = backbone(name, bases=2, gates=gates, downsample="binary")
    assert not same(source, target)
    started(source, target)
    for key, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[key])
    assert same(source, target)


@pytest.mark.parametrize("bases", [3, 4, 5])
@pytest.mark.parametrize("gates", ["shared", "per_branch", "none"])
def test_more_bases_without_noise_give_the_same_merged_maps(bases, gates):
    source = randomized(backbone(bases=2, gates=gates, nonlinearity="prelu"))
    target = backbone(bases=bases, gates=gates, nonlinearity="prelu")
    assert same(source, started(source, target, noise=0.0))


def test_one_base_starts_many():
    source = randomized(backbone(bases=1))
    assert same(source, started(source, backbone(bases=3), noise=0.0))


def test_there_and_back_again():
    source = randomized(backbone(bases=2))
    four = started(source, backbone(bases=4), noise=0.0)
    assert same(source, started(four, backbone(bases=2)))


def test_bases_lie_where_they_should():
    source = randomized(backbone(bases=2, nonlinearity="prelu"))
    target = started(source, backbone(bases=3, nonlinearity="prelu"), noise=0.0)
    old, new = source.stages[1][1], target.stages[1][1]
    for layer in (0, 1, 2):
        theirs = old.unit1[layer].weight.chunk(2)
        ours = new.unit1[layer].weight.chunk(3)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[2], theirs[0])
    assert torch.equal(new.unit2[2].running_var.chunk(3)[2], old.unit2[2].running_var.chunk(2)[0])
    one, two = old.lambdas.tolist()
    assert new.lambdas.tolist() == pytest.approx([one / 2, two, one / 2])
    assert new.theta.tolist() == pytest.approx([*old.theta.tolist(), old.theta[0].item()])


def test_fewer_bases_keep_the_size_of_the_merge():
    source = randomized(backbone(bases=4))
    with torch.no_grad():
        source.stages[0][0].lambdas.copy_(torch.tensor([0.5, -0.25, 1.0, 0.25]))
    target = started(source, backbone(bases=2))
    # Σ|λ| is 2, that of the first two 0.75
    assert target.stages[0][0].lambdas.tolist() == pytest.approx([0.5 * 2 / 0.75, -0.25 * 2 / 0.75])
    old, new = source.stages[3][1].unit2[0].weight, target.stages[3][1].unit2[0].weight
    assert torch.equal(new, old[: len(new)])


def test_noise_flips_few_signs_of_the_copies_and_none_of_the_first():
    source = backbone(bases=2, width=32)
    target = started(source, backbone(bases=4, width=32), seed=1)
    old, new = source.stages[3][0].unit2[0].weight, target.stages[3][0].unit2[0].weight
    first, copies = new[: len(old)], new[len(old) :]
    assert torch.equal(first, old)
    flipped = ((copies < 0) != (old < 0)).double().mean().item()
    assert flipped == pytest.approx(math.atan(0.1) / math.pi, abs=0.002)
    again = started(source, backbone(bases=4, width=32), seed=1)
    assert torch.equal(again.stages[3][0].unit2[0].weight, new)
    other = started(source, backbone(bases=4, width=32), seed=2)
    assert not torch.equal(other.stages[3][0].unit2[0].weight, new)


def test_gates_are_repeated_averaged_or_left():
    shared = randomized(backbone(bases=2, gates="shared"))
    each = randomized(backbone(bases=2, gates="per_branch"))
    (one,) = shared.stages[2][0].theta.tolist()
    assert started(shared, backbone(bases=2)).stages[2][0].theta.tolist() == [one, one]
    mean = each.stages[2][0].theta.mean().item()
    target = started(each, backbone(bases=2, gates="shared"))
    assert target.stages[2][0].theta.tolist() == pytest.approx([mean])
    fresh = backbone(bases=2)
    before = fresh.stages[2][0].theta.clone()
    assert torch.equal(started(backbone(bases=2, gates="none"), fresh).stages[2][0].theta, before)
    assert started(each, backbone(bases=2, gates="none")).stages[2][0].theta is None


def test_a_mean_becomes_equal_lambdas_and_the_other_way_round():
    mean = randomized(backbone(bases=3, merge="mean"))
    learnt = started(mean, backbone(bases=3))
    assert learnt.stages[0][1].lambdas.tolist() == pytest.approx([1 / 3] * 3)
    assert same(mean, learnt)
    started(learnt, backbone(bases=3, merge="mean"))


def test_dilations_and_strides_may_differ():
    source = randomized(backbone(bases=2, output_stride=32))
    target = started(source, backbone(bases=2, output_stride=8, atrous="bpac"))
    assert torch.equal(target.stages[3][1].unit1[0].weight, source.stages[3][1].unit1[0].weight)


@pytest.mark.parametrize("downsample", ["real", "binary"])
@pytest.mark.parametrize("bases", [1, 3])
def test_the_full_precision_twin_starts_the_binary_network(downsample, bases):
    source = randomized(backbone(precision="full", nonlinearity="prelu"))
    target = backbone(bases=bases, nonlinearity="prelu", downsample=downsample)
    slopes = target.stages[1][0].downsample.layers[1]
    started(source, target, noise=0.0)
    for new in target.stages[1][0].unit2[0].weight.chunk(bases):
        assert torch.equal(new, source.stages[1][0].unit2[0].weight)
    for new in target.stages[1][0].unit2[2].bias.chunk(bases):
        assert torch.equal(new, source.stages[1][0].unit2[2].bias)
    theirs = source.stages[1][0].downsample.layers
    ours = target.stages[1][0].downsample.layers
    conv, norm = (0, 2) if downsample == "binary" else (1, 2)
    assert torch.equal(ours[conv].weight, theirs[1].weight)
    assert torch.equal(ours[norm].running_mean, theirs[2].running_mean)
    assert ours[1] is slopes


def test_layer_wise_decomposition_starts_from_one_base():
    source = randomized(backbone("groupnet18", bases=1, downsample="binary"))
    options = {"bases": 3, "decomposition": "layer", "downsample": "binary"}
    target = started(source, backbone("groupnet18", **options), noise=0.0)
    assert target.stages[0][0].unit1[1].lambdas.tolist() == pytest.approx([1 / 3] * 3)
    assert same(source, target)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"width": 12}, "size mismatch"),
        ({"downsample": "binary"}, "Missing key"),
        ({"nonlinearity": "prelu"}, "Missing key"),
        ({"stem": "grouped3", "width": 16}, "stem"),
    ],
)
def test_another_architecture_does_not_load(options, word):
    target = backbone(bases=4, **options)
    source = backbone(bases=2)
    if "downsample" in options:
        source, target = target, backbone(bases=2)
    with pytest.raises(RuntimeError, match=word):
        started(source, target)


@pytest.mark.parametrize(
    "name", ["bireal18", "reactnet18", "resnete18", "sdbnn18", "xnornet18", "bwn18"]
)
def test_the_twins_of_other_families_start_theirs(name):
    source, target = create_backbone(name, precision="full"), create_backbone(name)
    started(source, target)
    theirs = source.state_dict()
    binary = [key for key, module in target.named_modules() if isinstance(module, BinaryConv2d)]
    assert len(binary) >= 16
    for key in binary:
        assert torch.equal(target.get_submodule(key).weight, theirs[f"{key}.weight"])
