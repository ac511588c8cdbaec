"""Parameter groups, optimizers and learning rates."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from binseg.nn.binarize import center_and_clamp_
from binseg.nn.layers import BinaryConv2d
from binseg.training.config import OptimizerConfig

_HEADS = ("head.", "network.decoder.", "network.segmentation_head.")


def parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Groups for an optimizer: weight decay for real weights of two dimensions or more only.

    Binary weights, BatchNorm, biases, gates and λ have none: decay pulls latent weights to the
    threshold where they flip at random, and the others are scales. Parameters under `head` get
    `head_lr_scale`; in networks of segmentation-models-pytorch, decoder and head do.
    """
    binary = {id(module.weight) for module in network.modules() if isinstance(module, BinaryConv2d)}
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in _trainable(network):
        decays = parameter.ndim >= 2 and id(parameter) not in binary
        in_head = name.startswith(_HEADS)
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


def create_optimizer(
    network: nn.Module, config: OptimizerConfig, *, fused: bool = True
) -> torch.optim.Optimizer:
    """The optimizer that `config` names, over `parameter_groups`.

    After each of its steps, latent weights that are to be centered are (XNOR-Net).

    Args:
        network: what is trained.
        config: name and settings.
        fused: one kernel for all parameters where there is one: on a CPU a tenth of the whole
            training step less. Gradients of a scaled loss (fp16) cannot be clipped with it.
    """
    optimizer = _create(parameter_groups(network, config), config, fused=fused)
    centered = [
        module.weight
        for module in network.modules()
        if isinstance(module, BinaryConv2d) and module.centered_weight
    ]

    def center(*_: Any) -> None:
        for weight in centered:
            center_and_clamp_(weight)

    if centered:
        optimizer.register_step_post_hook(center)
    return optimizer


def _create(
    groups: list[dict[str, Any]], config: OptimizerConfig, *, fused: bool
) -> torch.optim.Optimizer:
    fused &= all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    if config.name == "adam":
        return torch.optim.Adam(groups, lr=config.lr, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused)


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


def adopt_settings(
    optimizer: torch.optim.Optimizer, network: nn.Module, config: OptimizerConfig
) -> None:
    """Put the configuration's settings into an optimizer whose state came from a checkpoint."""
    fresh = create_optimizer(network, config).param_groups
    for group, wanted in zip(optimizer.param_groups, fresh, strict=True):
        for key in ("peak_lr", "weight_decay", "momentum"):
            if key in wanted:
                group[key] = wanted[key]
