"""Where the packed network differs from the trained one, a number next to 0 was rounded."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from trained_networks import pictures, trained

from binseg.data.datasets import ScenesDataset
from binseg.data.preprocess import Preprocessing
from binseg.kernels import ops
from binseg.kernels.layout import unpack_bits
from binseg.nn.layers import BinaryConv2d
from binseg.packed.agreement import network_input
from binseg.packed.file import load
from binseg.packed.fold import pack

WEIGHTS = Path(__file__).parents[2] / "weights" / "camvid_base.safetensors"

NEAR = 1e-5
"""Largest value, in root mean squares of its channel, whose sign rounding may turn: float32 rounds
at 6e-8, and a few dozen roundings stand between the picture and the last map."""


class Signs:
    """What each binary convolution of both networks reads, in the order of their run."""

    def __init__(self, model, monkeypatch):
        self.real: list[Tensor] = []
        self.bits: list[Tensor] = []
        for module in model.modules():
            if isinstance(module, BinaryConv2d):
                module.register_forward_pre_hook(lambda _, inputs: self.real.append(inputs[0]))
        for name in ("conv_bits", "conv_real", "conv_merge"):
            monkeypatch.setattr(ops, name, self._watched(getattr(ops, name)))

    def _watched(self, operator):
        def run(bits, weight, shape, *args, **kwargs):
            self.bits.append(unpack_bits(bits, shape.in_channels))
            return operator(bits, weight, shape, *args, **kwargs)

        return run

    def first_differences(self, model, packed, x) -> list[float]:
        """|value| of the trained network's numbers at the first map whose signs differ, in root
        mean squares of their channels; empty if all signs in both networks are the same."""
        self.real.clear()
        self.bits.clear()
        with torch.inference_mode():
            model(x)
            packed(x)
        assert len(self.real) == len(self.bits) > 0
        for real, bits in zip(self.real, self.bits, strict=True):
            if len(real) != len(bits):  # a shared shortcut takes the bases for pictures
                real = real.unflatten(0, (len(bits), -1)).flatten(1, 2)
            values = ops.nhwc(real, bits.shape[3])
            turned = (values >= 0) != bits
            if turned.any():
                size = values.square().mean(dim=(0, 1, 2), keepdim=True).sqrt()
                return (values.abs() / size)[turned].tolist()
        return []


def explained(signs, model, packed, x) -> list[float]:
    """Check one picture; returns how large the numbers were whose signs differ first."""
    found = signs.first_differences(model, packed, x)
    assert all(value <= NEAR for value in found)
    if not found:  # all bits are the same: only a tie of the scores may turn a class
        with torch.inference_mode():
            logits, ids = model(x), packed.class_map(x)
        best = logits.topk(2, dim=1).values
        tie = best[:, 0] - best[:, 1] <= NEAR * logits.abs().max()
        assert not ((ids != logits.argmax(1)) & ~tie).any()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"bases": 1},
        {"bases": 2, "downsample": "real", "nonlinearity": "prelu", "head": "fcn8s"},
        {"bases": 3, "shortcut": "conv", "nonlinearity": "tanh", "scale": "filter"},
        {"bases": 2, "shortcut": "conv", "gates": "per_branch", "atrous": "bpac"},
        {"name": "groupnet50", "width": 4, "bases": 2, "shortcut": "conv", "downsample": "real"},
    ],
    ids=str,
)
def test_every_difference_began_next_to_zero(options, monkeypatch):
    model = trained(**options)
    packed = pack(model)
    signs = Signs(model, monkeypatch)
    for index in range(4):
        scene = ScenesDataset("val", 4, (96, 128))[index].image
        explained(signs, model, packed, network_input(scene, Preprocessing()))


def test_on_the_camvid_network(monkeypatch):
    loaded = load(WEIGHTS)
    packed = pack(loaded.model)
    signs = Signs(loaded.model, monkeypatch)
    for index in range(3):
        scene = ScenesDataset("val", 3, (180, 240))[index].image
        explained(signs, loaded.model, packed, network_input(scene, loaded.preprocessing))


def test_what_is_no_rounding_is_seen(monkeypatch):
    model = trained(bases=2)
    signs = Signs(model, monkeypatch)
    for damage in (
        lambda body: body.blocks[0].gates.mul_(0.9),
        lambda body: body.blocks[2].conv1.low.add_(4),
        lambda body: body.blocks[3].conv2.curve.mul_(1.02),
    ):
        packed = pack(model)
        damage(packed.body)
        assert max(signs.first_differences(model, packed, pictures())) > NEAR
