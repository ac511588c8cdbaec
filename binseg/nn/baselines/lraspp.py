"""LR-ASPP on MobileNetV3-Small, from torchvision's layers.

Source: Howard et al. 2019, "Searching for MobileNetV3" (arXiv 1905.02244), section 6.4; torchvision
has the head and the backbone, but only the large network put together.
"""

from torch import Tensor, nn

from binseg.nn.backbones.registry import Backbone


class MobileNetV3Small(Backbone):
    """torchvision's MobileNetV3-Small at output stride 16, with the two maps that the head reads.

    Shapes:
        x: (N, 3, H, W).
        returns (N, 24, ⌈H / 8⌉, ⌈W / 8⌉) and (N, 576, ⌈H / 16⌉, ⌈W / 16⌉).
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v3_small

        layers = list(mobilenet_v3_small(weights=None, dilated=True).features)
        self.channels, self.strides = [24, 576], [8, 16]
        # the first map is that of the block that reaches stride 8
        self.fine, self.deep = nn.Sequential(*layers[:3]), nn.Sequential(*layers[3:])

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = self.fine(x)
        return [fine, self.deep(fine)]


def lraspp_head(num_classes: int) -> nn.Module:
    """torchvision's head on these two maps; logits at stride 8."""
    from torchvision.models.segmentation.lraspp import LRASPPHead

    head: nn.Module = LRASPPHead(24, 576, num_classes, 128)
    return _Named(head)


class _Named(nn.Module):
    """Gives torchvision's head its maps by the names that it asks for."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, deep = features
        logits: Tensor = self.head({"low": fine, "high": deep})
        return logits
