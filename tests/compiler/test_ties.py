"""Where the packed network differs from the trained one, a number next to 0 was rounded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.data.datasets import ScenesDataset
from binseg.data.preprocess import Preprocessing, network_input
from binseg.loaded import load
from binseg.nn.layers import BinaryConv2d
from binseg.program.interpreter import Interpreter

WEIGHTS = Path(__file__).parents[2] / "weights" / "camvid_base.safetensors"

NEAR = 1e-5
"""Largest value, in root mean squares of its channel, whose sign rounding may turn: float32 rounds
at 6e-8, and a few dozen roundings stand between the image and the last map."""


class Signs:
    """What each binary convolution of both networks reads, by the layer's name."""

    def __init__(self, model):
        self.real: dict[str, Tensor] = {}
        for name, module in model.named_modules():
            if isinstance(module, BinaryConv2d):
                module.register_forward_pre_hook(self._looker(name))

    def _looker(self, name):
        def look(module, inputs):
            self.real[name] = inputs[0]

        return look

    def first_differences(self, model, program, image, x) -> list[float]:
        """|value| of the trained network's numbers at the first map whose signs differ, in root
        mean squares of their channels; empty if all signs in both networks are the same."""
        with torch.inference_mode():
            model(x)
        values = dict(Interpreter(program).values(image))
        seen = 0
        for operator in program.operators:
            if operator.kind not in ("conv_bits", "conv_real", "conv_merge"):
                continue
            real = self.real[operator.tensors["weight"].rpartition(".")[0]]
            bits = torch.from_numpy(values[operator.inputs[0]])  # (H, W, B, C)
            if len(real) > 1:  # a shared shortcut takes the bases for images
                real = real.flatten(0, 1)[None]
            maps = real[0].permute(1, 2, 0).reshape(bits.shape)
            seen += 1
            turned = (maps >= 0) != bits
            if turned.any():
                size = maps.square().mean(dim=(0, 1), keepdim=True).sqrt()
                return (maps.abs() / size)[turned].tolist()
        assert seen == len(self.real)
        return []


def explained(signs, model, packed, image, preprocessing) -> None:
    """Check one image."""
    x = network_input(image, preprocessing)
    (resized,) = packed.images(x)
    found = signs.first_differences(model, packed.program, resized, x)
    assert all(value <= NEAR for value in found)
    if not found:  # all bits are the same: only a tie of the scores may turn a class
        with torch.inference_mode():
            logits, ids = model(x), packed.class_map(x)
        best = logits.topk(2, dim=1).values
        tie = best[:, 0] - best[:, 1] <= NEAR * logits.abs().max()
        assert not ((ids != logits.argmax(1)) & ~tie).any()


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
def test_every_difference_began_next_to_zero(options):
    model = trained(**options)
    packed = pack(model)
    signs = Signs(model)
    for index in range(4):
        scene = ScenesDataset("val", 4, (96, 128))[index].image
        explained(signs, model, packed, scene, Preprocessing())


def test_on_the_camvid_network():
    loaded = load(WEIGHTS)
    packed = pack(loaded.model, preprocessing=loaded.preprocessing)
    signs = Signs(loaded.model)
    for index in range(2):
        scene = ScenesDataset("val", 3, (90, 120))[index].image
        explained(
            signs, loaded.model, packed, scene, replace(loaded.preprocessing, short_side=None)
        )


def test_what_is_no_rounding_is_seen():
    model = trained(bases=2)
    signs = Signs(model)
    scene = ScenesDataset("val", 1, (96, 128))[0].image
    x = network_input(scene, Preprocessing())
    for role, change in (
        ("gates", lambda t: t * np.float32(0.9)),
        ("low", lambda t: t + t.dtype.type(4)),
        ("curve", lambda t: t * np.float32(1.02)),
    ):
        program = pack(model).program
        name = [op for op in program.operators if role in op.tensors][1].tensors[role]
        tensors = {**program.tensors, name: change(program.tensors[name])}
        damaged = replace(program, tensors=tensors)
        assert max(signs.first_differences(model, damaged, scene, x)) > NEAR
