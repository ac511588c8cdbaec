"""Backbone + head = `Segmenter`; `create_model` builds one from names and numbers."""

from typing import Any

from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.backbones import Backbone, create_backbone, list_backbones
from binseg.nn.heads import HEADS, create_head, resize_logits


class Segmenter(nn.Module):
    """A semantic segmentation network.

    Args:
        backbone: see `binseg.nn.backbones.Backbone`.
        head: from the backbone's maps to logits on one of their grids.
        architecture: the arguments of `create_model` that build it again; JSON values only.

    Shapes:
        x: float32 (N, 3, H, W), normalised with the model file's mean and deviation.
        returns logits (N, num_classes, H, W).
    """

    def __init__(self, backbone: Backbone, head: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.architecture = architecture

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return int(self.architecture["num_classes"])

    def forward(self, x: Tensor) -> Tensor:
        return resize_logits(self.head(self.backbone(x)), x.shape[-2:])


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return list_backbones()


def create_model(
    name: str,
    *,
    num_classes: int,
    head: str = "fcn",
    output_stride: int | None = None,
    head_options: dict[str, Any] | None = None,
    **options: Any,
) -> Segmenter:
    """Build a network from names and numbers.

    Args:
        name: one of `list_models()`, e.g. "groupnet18".
        num_classes: channels of the logits.
        head: "fcn" (dilated), "fcn32s", "fcn16s" or "fcn8s".
        output_stride: 8, 16 or 32 input pixels to one of the last stage; None for what the head
            is meant for (8 for "fcn", 32 for the others).
        head_options: `kernel_size` and `dropout`, see `binseg.nn.heads.FCNHead`.
        **options: of the backbone, see e.g. `binseg.nn.backbones.groupnet.GroupNetOptions`;
            `precision="full"` gives the full-precision twin.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if head not in HEADS:
        raise unknown_name("head", head, HEADS)
    if not 2 <= num_classes <= 255:
        raise BinsegError(f"a network separates 2 to 255 classes, not {num_classes}")
    stride = HEADS[head].output_stride if output_stride is None else output_stride
    backbone = create_backbone(name, output_stride=stride, **options)
    head_options = dict(head_options or {})
    return Segmenter(
        backbone,
        create_head(head, backbone.channels, num_classes, **head_options),
        {
            "name": name,
            "num_classes": num_classes,
            "head": head,
            "output_stride": stride,
            "head_options": head_options,
            **options,
        },
    )
