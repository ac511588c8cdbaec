"""Backbone + head = `Segmenter`; `create_model` builds one from names and numbers."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.backbones import Backbone, create_backbone, list_backbones
from binseg.nn.baselines import BASELINES
from binseg.nn.heads import HEADS, create_head, resize_logits
from binseg.nn.shapes import crop_to
from binseg.nn.smp_grids import padded
from binseg.nn.smp_models import SMP_MODELS, create_smp_network


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

    def scores(self, x: Tensor) -> Tensor:
        """Logits on the head's own grid, (N, num_classes, h, w), before they are upsampled."""
        logits: Tensor = self(x)
        return logits

    def class_map(self, x: Tensor) -> Tensor:
        """The class of each pixel, uint8 (N, H, W); of equal logits the lowest id wins."""
        return self(x).argmax(dim=1).to(torch.uint8)


class BackboneSegmenter(Segmenter):
    """A backbone, a head on its maps, and bilinear upsampling to the image's size."""

    def __init__(self, backbone: Backbone, head: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__(architecture)
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return resize_logits(self.scores(x), x.shape[-2:])

    def scores(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(x))
        return scores


class SmpSegmenter(Segmenter):
    """A network of segmentation-models-pytorch: a full-precision one as a teacher or a baseline,
    or its decoder over one of our backbones.

    Images are padded to the sizes that these networks ask for, see `binseg.nn.smp_grids`.
    """

    def __init__(self, network: nn.Module, architecture: dict[str, Any]) -> None:
        super().__init__(architecture)
        self.network = network

    @property
    def own_backbone(self) -> Backbone | None:
        """Our backbone inside the encoder; None with an encoder of smp's."""
        backbone = getattr(getattr(self.network, "encoder", None), "backbone", None)
        return backbone if isinstance(backbone, Backbone) else None

    def forward(self, x: Tensor) -> Tensor:
        network = cast(Any, self.network)
        # what smp's own forward does after a check of sizes that padding makes superfluous
        features = network.encoder(padded(x))
        return crop_to(network.segmentation_head(network.decoder(features)), x)


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return sorted([*list_backbones(), *SMP_MODELS, *BASELINES])


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
        name: one of `list_models()`, e.g. "groupnet18"; the smp_ models are networks of
            segmentation-models-pytorch, which take `encoder` and `encoder_weights`, and the
            backbone's options where the encoder is "binseg-" and a backbone's name.
        num_classes: channels of the logits.
        head: "fcn" (dilated; the default), "fcn32s", "fcn16s", "fcn8s", "fcn4s",
            "unet" (binary decoder) or "deeplabv3".
        output_stride: 8, 16 or 32 input pixels to one of the last stage; None for what the head
            is meant for (8 for "fcn" and "deeplabv3", 32 for the others).
        head_options: see `binseg.nn.heads.FCNHead` (`kernel_size`, `dropout`) and
            `binseg.nn.heads.DeepLabV3Head` (`aspp`, `bases`, `rates`, `dropout`).
        **options: of the backbone, see e.g. `binseg.nn.backbones.groupnet.GroupNetOptions`;
            `precision="full"` gives the full-precision twin.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if not 2 <= num_classes <= 255:
        raise BinsegError(f"a network separates 2 to 255 classes, not {num_classes}")
    if name in SMP_MODELS:
        for option, value in (("head", head), ("output_stride", output_stride)):
            if value is not None:
                options[option] = value
        return _create_smp(name, num_classes, **options, **(head_options or {}))
    if name in BASELINES:
        return _create_baseline(
            name,
            num_classes,
            {"head": head, "output_stride": output_stride, **options, **(head_options or {})},
        )
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
        create_head(
            head,
            backbone.channels,
            num_classes,
            output_stride=backbone.strides[-1],
            backbone_options=options,
            **head_options,
        ),
        {
            "name": name,
            "num_classes": num_classes,
            "head": head,
            "output_stride": stride,
            "head_options": head_options,
            **options,
        },
    )


def _create_baseline(name: str, num_classes: int, options: dict[str, Any]) -> BackboneSegmenter:
    # it is full precision, and may be told so
    given = {
        key: value
        for key, value in options.items()
        if value is not None and (key, value) != ("precision", "full")
    }
    if given:
        raise BinsegError(
            f"{name} has no options, so {', '.join(sorted(given))} cannot be set; leave them out, "
            "or say null for them"
        )
    baseline = BASELINES[name]
    return BackboneSegmenter(
        baseline.backbone(), baseline.head(num_classes), {"name": name, "num_classes": num_classes}
    )


def _create_smp(name: str, num_classes: int, **options: Any) -> SmpSegmenter:
    network = create_smp_network(name, num_classes, **options)
    # the trained weights are in the file, so opening it must not download others
    options.pop("encoder_weights", None)
    options.setdefault("encoder", "resnet34")
    return SmpSegmenter(network, {"name": name, "num_classes": num_classes, **options})
