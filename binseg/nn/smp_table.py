"""binseg's backbones in the table of encoders of segmentation-models-pytorch (smp).

    import binseg, segmentation_models_pytorch as smp
    smp.Unet("binseg-groupnet18", encoder_weights=None, classes=19)

`binseg.smp_hook` says when they are entered.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from binseg.errors import BinsegError, unknown_name
from binseg.nn.backbones import list_backbones
from binseg.nn.backbones.registry import backbone_options
from binseg.nn.smp_grids import OWN_ENCODER

_variants = itertools.count(1)


class _NoWeights(dict[str, Any]):
    """smp's table of downloads for an encoder that has none; a look into it says so."""

    def __contains__(self, name: object) -> bool:
        raise BinsegError(
            f"smp has no weights '{name}' for binseg's encoders: give encoder_weights=None, and "
            "start from a file of binseg with load_state_dict or --model.backbone_weights"
        )


def register_encoders(encoders: dict[str, Any]) -> None:
    """Enter every dense backbone into smp's table of encoders, as "binseg-" and its name."""
    for name in list_backbones():
        encoders[f"{OWN_ENCODER}{name}"] = _entry(name, {})


@contextmanager
def encoder_variant(encoder: str, **options: Any) -> Iterator[str]:
    """A name under which smp builds `encoder` with `options` of its backbone, inside the `with`.

        with encoder_variant("binseg-groupnet18", bases=2, width=32) as name:
            network = smp.Unet(name, encoder_weights=None, classes=19)

    smp hands no arguments of its own models to encoders that are not timm's.

    Raises:
        BinsegError: an unknown encoder or option (with the nearest one).
    """
    names = [f"{OWN_ENCODER}{name}" for name in list_backbones()]
    if encoder not in names:
        raise unknown_name("encoder", encoder, names)
    backbone = encoder.removeprefix(OWN_ENCODER)
    known = backbone_options(backbone) - {"output_stride"}
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {encoder}", option, known)
    from segmentation_models_pytorch import encoders as smp_encoders  # takes seconds

    variant = f"{encoder}-{next(_variants)}"
    smp_encoders.encoders[variant] = _entry(backbone, options)
    try:
        yield variant
    finally:
        del smp_encoders.encoders[variant]


def _entry(backbone: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "encoder": _build,
        "pretrained_settings": _NoWeights(),
        "params": {"backbone": backbone, "options": options},
    }


def _build(**params: Any) -> nn.Module:
    """What smp calls for an encoder."""
    # at the top it would import smp while smp imports this module
    from binseg.nn.smp_encoders import BinsegEncoder

    return BinsegEncoder(**params)
