"""Backbone + head = `Segmenter`; `create_model` builds one from names and numbers."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.backbones import Backbone, create_backbone, list_backbones
from binseg.nn.heads import HEADS, create_head, resize_logits

_SMP_MODELS = {
    "smp_deeplabv3plus": "deeplabv3plus",
    "smp_fpn": "fpn",
    "smp_unet": "unet",
    "smp_upernet": "upernet",
}


class Segmenter(nn.Module):
    """A semantic segmentation network.

    Args:
        architecture: the arguments of `create_model` that build it again; JSON values only.

    Shapes:
        x: float32 (N, 3, H, W), normalised with the model file's mean and deviation.
        returns logits (N, num_classes, H, W).
    """

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        self.architecture = architecture

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return int(self.architecture["num_classes"])

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def class_map(self, x: Tensor) -> Tensor:
        """The class of each pixel, uint8 (N, H, W); of equal logits the lowest id wins."""
        return self(x).argmax(dim=1).to(torch.uint8)


class BackboneSegmenter(Segmenter):
    """A backbone, a head on its maps, and bilinear upsampling to the picture's size."""

    def __init__(self, backbone: Backbone, head: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__(architecture)
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return resize_logits(self.head(self.backbone(x)), x.shape[-2:])


class SmpSegmenter(Segmenter):
    """A full-precision network of segmentation-models-pytorch: a teacher or a baseline.

    Pictures are padded at the right and the bottom to the multiple of the encoder's stride that
    these networks ask for, by repeating their border.
    """

    _MULTIPLE = 32

    def __init__(self, network: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__(architecture)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padding = (0, -width % self._MULTIPLE, 0, -height % self._MULTIPLE)
        return self.network(F.pad(x, padding, mode="replicate"))[..., :height, :width]


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return sorted([*list_backbones(), *_SMP_MODELS])


def create_model(
    name: str,
    *,
    num_classes: int,
    head: str | None = None,
    output_stride: int | None = None,
    head_options: dict[str, Any] | None = None,
    **options: Any,
) -> Segmenter:
    """Build a network from names and numbers.

    Args:
        name: one of `list_models()`, e.g. "groupnet18"; the smp_ models are full-precision networks
            of segmentation-models-pytorch, which take `encoder` and `encoder_weights` only.
        num_classes: channels of the logits.
        head: "fcn" (dilated; the default), "fcn32s", "fcn16s" or "fcn8s".
        output_stride: 8, 16 or 32 input pixels to one of the last stage; None for what the head
            is meant for (8 for "fcn", 32 for the others).
        head_options: `kernel_size` and `dropout`, see `binseg.nn.heads.FCNHead`.
        **options: of the backbone, see e.g. `binseg.nn.backbones.groupnet.GroupNetOptions`;
            `precision="full"` gives the full-precision twin.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if not 2 <= num_classes <= 255:
        raise BinsegError(f"a network separates 2 to 255 classes, not {num_classes}")
    if name in _SMP_MODELS:
        for option, value in (("head", head), ("output_stride", output_stride)):
            if value is not None:
                options[option] = value
        return _create_smp(name, num_classes, **options, **(head_options or {}))
    if name not in list_backbones():
        raise unknown_name("model", name, list_models())
    head = "fcn" if head is None else head
    if head not in HEADS:
        raise unknown_name("head", head, HEADS)
    stride = HEADS[head].output_stride if output_stride is None else output_stride
    backbone = create_backbone(name, output_stride=stride, **options)
    head_options = dict(head_options or {})
    return BackboneSegmenter(
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


def _create_smp(
    name: str,
    num_classes: int,
    *,
    encoder: str = "resnet34",
    encoder_weights: str | None = None,
    **options: Any,
) -> SmpSegmenter:
    for option in options:
        raise unknown_name(f"option of {name}", option, ["encoder", "encoder_weights"])
    # seconds to import, and not every machine that trains has it
    import segmentation_models_pytorch as smp

    try:
        network = smp.create_model(
            _SMP_MODELS[name],
            encoder_name=encoder,
            encoder_weights=encoder_weights,
            classes=num_classes,
        )
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        message = " ".join(str(error).split())[:200]
        raise BinsegError(
            f"segmentation-models-pytorch cannot build '{encoder}' with weights "
            f"'{encoder_weights}': {message}"
        ) from error
    # the trained weights are in the file, so opening it must not download others
    return SmpSegmenter(network, {"name": name, "num_classes": num_classes, "encoder": encoder})
