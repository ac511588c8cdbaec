"""Small networks that look trained, and what a packed one must have in common with them."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from binseg.compiler.verification import agreement
from binseg.data.datasets import ScenesDataset
from binseg.data.preprocess import Preprocessing, network_input
from binseg.nn.segmenter import Segmenter, create_model

M = TypeVar("M", bound=nn.Module)


def looks_trained(module: M) -> M:
    """In eval mode, with random statistics, gains of both signs and slopes."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.normal_()
            layer.bias.data.normal_(0, 0.5)
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.2, 1.0)
        elif isinstance(layer, nn.PReLU):
            layer.weight.data.normal_(0, 0.5)
    return module.eval()


def trained(seed: int = 0, **options: Any) -> Segmenter:
    """`create_model` in eval mode, groupnet18 of width 8 and 5 classes unless said otherwise."""
    torch.manual_seed(seed)
    return looks_trained(
        create_model(**{"name": "groupnet18", "num_classes": 5, "width": 8, **options})
    )


def images(height: int = 45, width: int = 61) -> Tensor:
    """Noise and a drawn street scene, as a network takes them."""
    scene = network_input(ScenesDataset("train", 1, (height, width))[0].image, Preprocessing())
    return torch.cat([noise(1, height, width), scene])


def noise(number: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Images of random bytes, as a network takes them."""
    generator = torch.Generator().manual_seed(seed)
    size = (number, 3, height, width)
    return Preprocessing().normalize(
        torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    )


@torch.inference_mode()
def agree(model: nn.Module, packed: nn.Module, x: Tensor) -> None:
    """Equal logits but for rounding."""
    expected, found = model(x), packed(x)
    assert found.dtype == torch.float32
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=tolerance)


def agree_on_all_pixels(model: Segmenter, packed: Segmenter, x: Tensor) -> None:
    """Equal classes, and equal logits but for rounding."""
    assert agreement(model, packed, [x]) == 1
    agree(model, packed, x)
