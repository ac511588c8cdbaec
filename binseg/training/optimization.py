"""Parameter groups, optimizers and learning rates."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from binseg.errors import BinsegError
from binseg.nn.layers import BinaryConv2d
from binseg.training.config import OptimizerConfig


def parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups for an optimizer: weight decay for real weights of two dimensions or more only.

    Binary weights, BatchNorm, biases, gates and λ have none: decay pulls latent weights to the
    threshold where they flip at random, and the others are scales. Parameters under `head` get
    `head_lr_scale`.
    """
    binary = {id(module.weight) for module in network.modules() if isinstance(module, BinaryConv2d)}
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in _trainable(network):
        decays = parameter.ndim >= 2 and id(parameter) not in binary
        in_head = name.startswith("head.")
        lr = config.lr * (config.head_lr_scale if in_head else 1.0)
        group = groups.setdefault(
            (decays, in_head),
            {
                "params": [],
                "lr": lr,
                "peak_lr": lr,
                "weight_decay": config.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _trainable(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in network.named_parameters() if p.requires_grad)


def create_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over `parameter_groups`.

    Raises:
        BinsegError: a learning rate or weight decay below 0.
    """
    if config.lr <= 0 or config.weight_decay < 0:
        raise BinsegError(
            f"optimizer.lr must be above 0 and optimizer.weight_decay at least 0, "
            f"not {config.lr} and {config.weight_decay}"
        )
    groups = parameter_groups(network, config)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    if config.name == "adam":
        return torch.optim.Adam(groups, lr=config.lr)
    return torch.optim.AdamW(groups, lr=config.lr)


def learning_rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """Share of the peak learning rate at `step` of `steps`.

    Rises linearly over the first `warmup` share, then falls to 0: poly (1 − p)^power (Chen et al.
    2018, "DeepLab", section 4.1.1) or cosine (1 + cos πp) / 2 of the remaining progress p. It is a
    function of the step alone, so that a resumed run cannot differ.
    """
    warmup = round(config.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    if config.schedule == "poly":
        return (1.0 - progress) ** config.power
    if config.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
