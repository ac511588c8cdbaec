"""Small networks that look trained: statistics, gains of both signs and slopes are random."""

from typing import Any

import torch
from torch import Tensor, nn

from binseg.data.datasets import ScenesDataset
from binseg.data.preprocess import Preprocessing
from binseg.nn.segmenter import Segmenter, create_model
from binseg.packed.agreement import network_input


def trained(seed: int = 0, **options: Any) -> Segmenter:
    """`create_model` in eval mode, groupnet18 of width 8 and 5 classes unless said otherwise."""
    torch.manual_seed(seed)
    model = create_model(**{"name": "groupnet18", "num_classes": 5, "width": 8, **options})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_()
            module.bias.data.normal_(0, 0.5)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.2, 1.0)
        elif isinstance(module, nn.PReLU):
            module.weight.data.normal_(0, 0.5)
    return model.eval()


def pictures(height: int = 45, width: int = 61) -> Tensor:
    """Noise and a drawn street scene, as a network takes them."""
    scene = network_input(ScenesDataset("train", 1, (height, width))[0].image, Preprocessing())
    generator = torch.Generator().manual_seed(0)
    return torch.cat([torch.randn(1, 3, height, width, generator=generator), scene])
