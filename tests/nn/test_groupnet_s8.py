"""The encoder whose bits begin at stride 8, the decoder of binary blocks, and RPReLU in blocks."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from binseg.errors import BinsegError
from binseg.nn.activations import RPReLU
from binseg.nn.adapt import adapt_tensors
from binseg.nn.backbones import create_backbone
from binseg.nn.backbones.groupnet_s8 import GroupNetS8Options
from binseg.nn.heads import UNetHead
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model


def binary_convs(network: nn.Module) -> list[BinaryConv2d]:
    return [module for module in network.modules() if isinstance(module, BinaryConv2d)]


def test_no_bits_above_stride_8() -> None:
    backbone = create_backbone("groupnet_s8", width=64)
    assert (backbone.channels, backbone.strides) == ([16, 64, 96, 128], [4, 8, 16, 32])
    sizes = []
    for conv in binary_convs(backbone):
        conv.register_forward_hook(lambda _, args, out: sizes.append(tuple(out.shape[1:])))
    maps = backbone.eval()(torch.zeros(1, 3, 96, 160))
    assert [tuple(each.shape[1:]) for each in maps] == [
        *((16, 24, 40), (64, 12, 20), (96, 6, 10), (128, 3, 5))
    ]
    # two blocks of two convolutions a stage
    assert sizes == [(64, 12, 20)] * 4 + [(96, 6, 10)] * 4 + [(128, 3, 5)] * 4


def test_every_base_has_its_rate_in_the_last_two_stages() -> None:
    def rates(stage: int, **options: object) -> tuple[int, ...]:
        return GroupNetS8Options(bases=3, **options).dilations(stage)  # type: ignore[arg-type]

    assert [rates(stage) for stage in range(3)] == [(1, 1, 1)] * 3
    bpac = {"atrous": "bpac", "rates": (1, 2)}
    assert [rates(stage, **bpac) for stage in range(3)] == [(1, 1, 1), (1, 2, 3), (2, 3, 4)]
    assert rates(2, **bpac, output_stride=16) == (4, 6, 8)
    assert rates(2, **{**bpac, "atrous": "one_rate"}) == (4, 4, 4)
    assert rates(2, **bpac, precision="full") == (1,)
    assert rates(2, output_stride=8) == (4, 4, 4)


def test_the_head_takes_precision_and_units_from_the_backbone() -> None:
    network = create_model("groupnet_s8", num_classes=5, head="unet", width=32)
    thresholds = {type(conv.binarize_input).__name__ for conv in binary_convs(network)}
    assert thresholds == {"LearntSign"}
    other = create_model(
        *("groupnet_s8",), num_classes=5, head="unet", width=32, nonlinearity="prelu",
        threshold="zero",
    )  # fmt: skip
    assert {type(conv.binarize_input).__name__ for conv in binary_convs(other)} == {
        "BinaryActivation"
    }
    twin = create_model("groupnet_s8", num_classes=5, head="unet", width=32, precision="full")
    assert not binary_convs(twin)
    assert binary_convs(network.head)


@pytest.mark.parametrize("precision", ["binary", "full"])
def test_odd_sizes_and_gradients(precision: str) -> None:
    network = create_model(
        "groupnet_s8", num_classes=5, head="unet", width=32, bases=2, precision=precision
    )
    logits = network.train()(torch.randn(2, 3, 70, 90))
    assert logits.shape == (2, 5, 70, 90)
    logits.square().mean().backward()
    unreached = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


def test_the_head_joins_all_maps() -> None:
    """The scores change with each map, and are as fine as the finest."""
    torch.manual_seed(0)
    channels = [8, 16, 24, 32]
    head = UNetHead(channels, 5).eval()
    maps = [torch.randn(1, c, 24 // 2**i, 32 // 2**i) for i, c in enumerate(channels)]
    with torch.no_grad():
        before = head(maps)
        assert before.shape == (1, 5, 24, 32)
        for index in range(len(maps)):
            changed = [each * 2 if place == index else each for place, each in enumerate(maps)]
            assert not torch.equal(head(changed), before)


def test_the_head_refuses_two_maps() -> None:
    with pytest.raises(BinsegError, match="three maps or more, not 2"):
        UNetHead([8, 16], 5)


def test_the_twin_starts_the_binary_network() -> None:
    twin = create_backbone("groupnet_s8", width=32, precision="full")
    bits = create_backbone("groupnet_s8", width=32)
    names = dict(bits.state_dict())
    adapted = adapt_tensors(twin, dict(twin.state_dict()), bits, seed=0)
    assert adapted.keys() == names.keys()
    assert all(adapted[name].shape == names[name].shape for name in names)


def test_rprelu_follows_the_sum_with_the_shortcut() -> None:
    """Group-Net's block by hand: x1 = RPReLU(BN(conv(x)) + x), twice."""
    torch.manual_seed(0)
    network = create_backbone(
        "groupnet18_star", width=16, bases=1, nonlinearity="rprelu", threshold="learnt"
    ).eval()
    block = network.stages[0][0]
    for name, parameter in block.named_parameters():
        if "shift" in name or "prelu" in name:
            nn.init.normal_(parameter, std=0.5)
    x = torch.randn(1, 16, 9, 11)
    out = x
    for unit, after in ((block.unit1, block.after1), (block.unit2, block.after2)):
        conv, norm = unit
        signs = torch.where(out + conv.binarize_input.shift.view(1, -1, 1, 1) >= 0, 1.0, -1.0)
        weight = torch.where(conv.weight >= 0, 1.0, -1.0) * conv.weight.abs().mean()
        padded = nn.functional.pad(signs, (1, 1, 1, 1), value=1.0)
        total = norm(nn.functional.conv2d(padded, weight)) + out
        shifted = total + after.before_shift.view(1, -1, 1, 1)
        slope = after.prelu.weight.view(1, -1, 1, 1)
        out = torch.where(shifted >= 0, shifted, slope * shifted)
        out = out + after.after_shift.view(1, -1, 1, 1)
    _, merged = block(x, x)
    torch.testing.assert_close(merged, out)


def test_rprelu_trains_by_its_formulas_gradients() -> None:
    torch.manual_seed(0)
    layer = RPReLU(5).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 5, 4, 6, dtype=torch.double, requires_grad=True)
    gradient = torch.randn(3, 5, 4, 6, dtype=torch.double)
    found = []
    for mode in (True, False):  # evaluation goes through torch's own PReLU
        layer.train(mode)
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        y.backward(gradient)
        found.append([y.detach(), x.grad, *(each.grad for each in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_channels_grow_with_the_width() -> None:
    sizes = [create_backbone("groupnet_s8", width=w).channels for w in (32, 64)]
    assert all(2 * small == large for small, large in zip(*sizes, strict=True))
    assert all(a < b for a, b in pairwise(sizes[0]))
