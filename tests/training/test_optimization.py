"""Which parameters decay, and how the learning rate moves."""

import math

import pytest
import torch

from binseg.errors import BinsegError
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import create_model
from binseg.training.config import OptimizerConfig
from binseg.training.optimization import (
    create_optimizer,
    learning_rate_factor,
    parameter_groups,
)


def test_only_real_weights_decay():
    model = create_model("groupnet18", num_classes=3, bases=2, width=8, downsample="real")
    groups = parameter_groups(model, OptimizerConfig(weight_decay=0.1, head_lr_scale=10, lr=1.0))
    names = {id(p): n for n, p in model.named_parameters()}
    placed = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(placed) == sorted(names.values())
    decayed = {names[id(p)] for g in groups if g["weight_decay"] for p in g["params"]}
    binary = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, BinaryConv2d)}
    convolutions = {
        f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)
    }
    assert binary
    assert decayed == convolutions
    for group in groups:
        assert {names[id(p)].startswith("head.") for p in group["params"]} == {group["lr"] == 10.0}


def test_learning_rate_by_formula():
    poly = OptimizerConfig(schedule="poly", power=0.9, warmup=0.1)
    cosine = OptimizerConfig(schedule="cosine", warmup=0.0)
    assert learning_rate_factor(poly, 0, 100) == pytest.approx(1 / 11)
    assert learning_rate_factor(poly, 10, 100) == 1.0
    assert learning_rate_factor(poly, 55, 100) == pytest.approx(0.5**0.9)
    assert learning_rate_factor(poly, 100, 100) == 0.0
    assert learning_rate_factor(cosine, 25, 100) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate_factor(OptimizerConfig(schedule="constant", warmup=0), 99, 100) == 1.0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)],
)
def test_optimizers_by_name(name, kind):
    model = torch.nn.Conv2d(1, 1, 1)
    assert type(create_optimizer(model, OptimizerConfig(name=name))) is kind


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan])
def test_a_learning_rate_must_be_above_zero(lr):
    with pytest.raises(BinsegError, match=r"optimizer\.lr must be above 0"):
        OptimizerConfig(lr=lr)
