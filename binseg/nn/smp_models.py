"""Networks of segmentation-models-pytorch (smp) by the names that `create_model` knows."""

from typing import Any

from torch import nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.smp_grids import OWN_ENCODER
from binseg.nn.smp_table import encoder_variant

SMP_MODELS = {
    "smp_deeplabv3plus": "deeplabv3plus",
    "smp_fpn": "fpn",
    "smp_unet": "unet",
    "smp_upernet": "upernet",
}


def create_smp_network(
    name: str,
    num_classes: int,
    *,
    encoder: str = "resnet34",
    encoder_weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """Build a network of smp.

    Args:
        name: a key of `SMP_MODELS`.
        num_classes: channels of the logits.
        encoder: one of smp's, or "binseg-" and the name of a backbone.
        encoder_weights: which of smp's weights to download; None for none.
        **options: of the backbone in one of our encoders.

    Raises:
        BinsegError: an unknown option, or smp cannot build it.
    """
    # seconds to import, and not every machine that trains has it
    import segmentation_models_pytorch as smp

    def build(encoder_name: str) -> nn.Module:
        return smp.create_model(
            SMP_MODELS[name],
            encoder_name=encoder_name,
            encoder_weights=encoder_weights,
            classes=num_classes,
        )

    if encoder.startswith(OWN_ENCODER):
        with encoder_variant(encoder, **options) as variant:
            return build(variant)
    for option in options:
        raise unknown_name(f"option of {name}", option, ["encoder", "encoder_weights"])
    try:
        return build(encoder)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        message = " ".join(str(error).split())[:200]
        raise BinsegError(
            f"segmentation-models-pytorch cannot build '{encoder}' with weights "
            f"'{encoder_weights}': {message}"
        ) from error
