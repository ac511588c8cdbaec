"""Backbone + pooling + linear layer = `Classifier`, for pretraining and for published figures."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.backbones import Backbone, create_backbone, list_backbones


class Classifier(nn.Module):
    """A backbone, the mean over its last map, and a real linear layer.

    Args:
        backbone: its last map is read.
        architecture: the arguments of `create_classifier` that build it again; JSON values only.

    Shapes:
        x: float32 (N, 3, H, W), normalised.
        returns logits (N, num_classes).
    """

    def __init__(self, backbone: Backbone, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone
        self.fc = nn.Linear(backbone.channels[-1], int(architecture["num_classes"]))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The map that is pooled, (N, C, H / output stride, W / output stride)."""
        last = self.backbone(x)[-1]
        return F.relu(last) if self.backbone.final_relu else last

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, num_classes) of `features`."""
        return self.fc(features.mean(dim=(2, 3)))


def create_classifier(name: str, *, num_classes: int, **options: Any) -> Classifier:
    """Build a classifier over the backbone called `name`.

    Args:
        name: one of `list_backbones(dense=False)`.
        num_classes: channels of the logits, at least 2.
        **options: of the backbone; its output stride is 32 where it has one and none is given.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if num_classes < 2:
        raise BinsegError(f"a classifier separates 2 classes or more, not {num_classes}")
    if name not in list_backbones(dense=False):
        raise unknown_name("model", name, list_backbones(dense=False))
    if name in list_backbones():
        options.setdefault("output_stride", 32)
    backbone = create_backbone(name, **options)
    return Classifier(backbone, {"name": name, "num_classes": num_classes, **options})
