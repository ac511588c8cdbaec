"""The plan of a two-step training."""

import pytest
import torch

from binseg.errors import BinsegError
from binseg.nn.activations import BinaryActivation
from binseg.nn.layers import BinaryConv2d
from binseg.training.binarization import plan_steps, set_temperature, step_at
from binseg.training.config import BinarizationConfig


def modes(layer: BinaryConv2d) -> tuple[str, str]:
    return layer.binarize_input.mode, layer.weight_mode


def test_three_steps_in_order():
    steps = plan_steps(BinarizationConfig(smooth_epochs=2, activation_epochs=3), 10)
    layer = BinaryConv2d(1, 1, 1)
    seen = []
    for epoch in range(10):
        step_at(steps, epoch).apply(layer)
        seen.append(modes(layer))
    assert seen == [("tanh", "real")] * 2 + [("sign", "real")] * 3 + [("sign", "binary")] * 5
    assert [step.final for step in steps] == [False, False, True]


def test_one_step_by_default():
    (step,) = plan_steps(BinarizationConfig(), 4)
    assert (step.start, step.end, step.final) == (0, 4, True)


def test_the_binary_step_may_not_be_empty():
    with pytest.raises(BinsegError, match="at least one"):
        plan_steps(BinarizationConfig(smooth_epochs=2, activation_epochs=2), 4)


def test_temperature_is_log_spaced():
    layer = torch.nn.Sequential(BinaryActivation("ede"), BinaryActivation("ede"))
    config = BinarizationConfig(ede_temperature=(0.1, 10.0))
    for progress, expected in ((0.0, 0.1), (0.5, 1.0), (1.0, 10.0)):
        set_temperature(layer, config, progress)
        assert [m.temperature for m in layer] == pytest.approx([expected] * 2)
