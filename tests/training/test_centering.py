"""Latent weights of XNOR-Net and BWN are centered and clamped by the optimizer's own steps."""

import copy

import pytest
import torch

from binseg.nn.classifier import create_classifier
from binseg.nn.layers import BinaryConv2d
from binseg.training.config import OptimizerConfig
from binseg.training.optimization import create_optimizer


def network(name="xnornet18"):
    torch.manual_seed(0)
    return create_classifier(name, num_classes=3, width=8)


def step(net, optimizer, seed=1):
    torch.manual_seed(seed)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(
        net(torch.randn(4, 3, 33, 33)), torch.arange(4) % 3
    ).backward()
    optimizer.step()


def binary_weights(net):
    return {n: m.weight.detach() for n, m in net.named_modules() if isinstance(m, BinaryConv2d)}


def wanted(weight):
    """Mean over C_in taken off, position by position of the kernel, and what is beyond ±1 cut."""
    result = weight.clone()
    for out in range(weight.shape[0]):
        for row in range(weight.shape[2]):
            for column in range(weight.shape[3]):
                values = weight[out, :, row, column]
                result[out, :, row, column] = values - values.sum() / len(values)
    return result.clamp(-1, 1)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("name", ["xnornet18", "bwn18"])
def test_a_step_is_the_optimizers_own_then_centered_and_clamped(name, optimizer):
    """Against a copy whose optimizer has no such hook."""
    # so large a rate that some weights go beyond 1
    config = OptimizerConfig(name=optimizer, lr=0.6 if optimizer != "sgd" else 300.0)
    net = network(name)
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if isinstance(module, BinaryConv2d):
            module.centered_weight = False
    for each in (net, plain):
        step(each, create_optimizer(each, config))
    found, before = binary_weights(net), binary_weights(plain)
    for name_, weight in found.items():
        torch.testing.assert_close(weight, wanted(before[name_]), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(weight, before[name_], atol=1e-3)
    cut = torch.cat([weight.abs().flatten() == 1 for weight in found.values()])
    assert cut.any()
    assert not cut.all()
    real = dict(net.named_parameters()).keys() - {f"{n}.weight" for n in found}
    for name_ in real:
        assert torch.equal(net.get_parameter(name_), plain.get_parameter(name_)), name_


def test_filters_that_nothing_was_cut_from_have_mean_zero():
    net = network()
    optimizer = create_optimizer(net, OptimizerConfig(lr=0.05))
    seen = 0
    for seed in range(3):
        step(net, optimizer, seed)
        for weight in binary_weights(net).values():
            assert weight.abs().max() <= 1
            whole = (weight.abs() < 1).all(dim=1)
            assert weight.mean(dim=1)[whole].abs().max() < 1e-6
            seen += int(whole.sum())
    assert seen > 1000


def test_weights_are_centered_before_the_first_step():
    for weight in binary_weights(network()).values():
        assert weight.mean(dim=1).abs().max() < 1e-6


def test_other_networks_are_left_alone():
    torch.manual_seed(0)
    net = create_classifier("groupnet18", num_classes=3, width=8, bases=2)
    optimizer = create_optimizer(net, OptimizerConfig())
    step(net, optimizer)
    means = [weight.mean(dim=1).abs().max() for weight in binary_weights(net).values()]
    assert min(means) > 1e-4
