"""A packed network that differs: by the trained one's sensitivity, or by a fault."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from trained_networks import images, noise, trained

from binseg.compiler.pack import pack
from binseg.compiler.packed import PackedSegmenter
from binseg.compiler.verification import PERTURBATION, agreement, perturbed, verify
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import Segmenter

MINIMUM = 0.999


def inputs():
    return images().split(1)


def test_what_agrees_is_not_tried_further():
    model = trained(bases=2)
    found = verify(model, pack(model), inputs, minimum=MINIMUM)
    assert (found.images, found.equal, found.own) == (2, 1.0, None)
    assert agreement(model, pack(model), inputs()) == 1.0


def damaged(packed: PackedSegmenter) -> PackedSegmenter:
    """With a slip in the last convolution's bias."""
    program = packed.program
    name = program.operators[-1].tensors["bias"]
    bias = program.tensors[name].copy()
    bias[0] += np.float32(10)
    tensors = {**program.tensors, name: bias}
    return PackedSegmenter(replace(program, tensors=tensors), packed.preprocessing)


def test_a_fault_is_no_sensitivity():
    model = trained(bases=2)
    found = verify(model, damaged(pack(model)), inputs, minimum=MINIMUM)
    assert found.equal < MINIMUM
    assert found.own == 1.0
    assert not found.is_sensitivity


class Edge(Segmenter):
    """Sees one number next to 0, whose sign decides a whole quarter of the classes."""

    def __init__(self, nudge: float) -> None:
        super().__init__({"num_classes": 2})
        self.nudge = nudge
        self.bits = BinaryConv2d(1, 1, 1)

    def forward(self, x):
        first = x[:, :1, :1, :1]
        sign = torch.where(first * (1 + self.nudge) - X >= 0, 1.0, -1.0)
        scores = torch.ones(len(x), 2, *x.shape[2:])
        scores[:, 1, : x.shape[2] // 2, : x.shape[3] // 2] = 1 + sign
        return scores


X = 0.75


class Other(nn.Module):
    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def class_map(self, x):
        return self.model.class_map(x)


@pytest.mark.parametrize(("nudge", "sensitive"), [(-3e-7, True), (-1e-3, False)])
def test_a_sensitive_network_is_told_from_a_fault(nudge, sensitive):
    """Both differ on the same pixels; the one by what rounding does, the other by far more."""
    x = torch.full((1, 3, 8, 8), X if sensitive else X * (1 + 5e-4))
    found = verify(Edge(0.0), Other(Edge(nudge)), lambda: [x], minimum=MINIMUM)
    assert found.equal == 0.75
    assert found.own == (0.75 if sensitive else 1.0)
    assert found.is_sensitivity == sensitive


def test_perturbations_are_small_and_different():
    x = noise(1, 16, 16)
    first, second = perturbed(x, 0), perturbed(x, 1)
    assert torch.equal(first, perturbed(x, 0))
    assert not torch.equal(first, second)
    assert ((first / x - 1).abs() < 1.2 * PERTURBATION).all()
    assert ((first / x - 1).abs() > 0.8 * PERTURBATION).all()


def test_sensitivity_is_that_of_the_images_that_differ():
    """A network that is sensitive elsewhere is no excuse."""
    quiet = torch.full((1, 3, 8, 8), 2 * X)
    edge = torch.full((1, 3, 8, 8), X)

    class Worse(Edge):
        def class_map(self, x):
            found = super().class_map(x)
            return found if x[0, 0, 0, 0] < 1.2 * X else 1 - found

    found = verify(Edge(0.0), Other(Worse(0.0)), lambda: [quiet, edge], minimum=MINIMUM)
    assert not found.is_sensitivity
