"""Whole networks: heads, names, files."""

import re

import pytest
import torch

from binseg.errors import BinsegError
from binseg.nn.backbones import list_backbones
from binseg.nn.backbones.registry import backbone_options
from binseg.nn.heads import HEADS, FCNHead
from binseg.nn.segmenter import create_model

# one of each family: deeper members have the same maps
FAMILIES = [name for name in list_backbones() if not re.search("34|37|45", name)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_every_family_with_every_head(name, head):
    bases = {"bases": 2} if "bases" in backbone_options(name) else {}
    model = create_model(name, num_classes=5, head=head, width=8, **bases)
    logits = model(torch.randn(2, 3, 37, 51))
    assert logits.shape == (2, 5, 37, 51)
    logits.square().mean().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "head" in n)


@pytest.mark.parametrize(
    ("head", "stride"), [("fcn", 8), ("fcn32s", 32), ("fcn8s", 32), ("fcn4s", 32)]
)
def test_output_stride_follows_the_head(head, stride):
    assert (
        create_model("groupnet18", num_classes=2, width=8, head=head).backbone.strides[-1] == stride
    )
    model = create_model("groupnet18", num_classes=2, width=8, head=head, output_stride=16)
    assert model.backbone.strides[-1] == 16


def test_skip_sums_by_hand():
    """FCN-8s: scores of stage 4, up to stage 3 and added, up to stage 2 and added."""
    torch.manual_seed(0)
    head = FCNHead([4, 8, 16, 32], 3, skips=2).eval()
    maps = [torch.randn(1, c, 32 // s, 32 // s) for c, s in ((4, 1), (8, 2), (16, 4), (32, 8))]

    def up(x):
        return torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")

    expected = up(up(head.score(maps[3])) + head.skips[0](maps[2])) + head.skips[1](maps[1])
    torch.testing.assert_close(head(maps), expected)


def test_the_architecture_builds_the_same_network():
    first = create_model("groupnet18_star", num_classes=4, head="fcn16s", bases=3, width=8,
                         atrous="bpac", head_options={"kernel_size": 1})  # fmt: skip
    second = create_model(**first.architecture)
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 3, 40, 33)
    assert torch.equal(first.eval()(x), second.eval()(x))


def test_star_differs_from_the_plain_one_in_shortcuts_and_nonlinearity():
    plain, star = (
        create_model(name, num_classes=2, width=8).backbone.options
        for name in ("groupnet18", "groupnet18_star")
    )
    assert (plain.shortcut, plain.nonlinearity) == ("block", "relu")
    assert (star.shortcut, star.nonlinearity) == ("conv", "tanh")
    assert plain.bases == star.bases == 5


def test_smp_models_take_images_of_any_size():
    model = create_model("smp_unet", num_classes=3, encoder="resnet18").eval()
    assert model(torch.randn(1, 3, 45, 70)).shape == (1, 3, 45, 70)
    assert model.architecture == {"name": "smp_unet", "num_classes": 3, "encoder": "resnet18"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "groupnet81"}, "did you mean 'groupnet18'"),
        ({"name": "groupnet18", "head": "fcn18s"}, "unknown head"),
        ({"name": "groupnet18", "base": 3}, "did you mean 'bases'"),
        ({"name": "smp_unet", "bases": 3}, "option of smp_unet"),
        ({"name": "groupnet18", "head_options": {"kernel": 3}}, "did you mean 'kernel_size'"),
        ({"name": "groupnet18", "head_options": {"kernel_size": 5}}, "1 or 3"),
        ({"name": "groupnet18", "num_classes": 1}, "2 to 255"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(arguments, message):
    with pytest.raises(BinsegError, match=message):
        create_model(**{"num_classes": 3, **arguments})
