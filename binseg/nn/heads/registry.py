"""Names of heads, the output stride each is meant for, and how to build them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from binseg.errors import unknown_name
from binseg.nn.heads.deeplabv3 import DeepLabV3Head
from binseg.nn.heads.fcn import FCNHead
from binseg.nn.heads.unet import UNetHead


@dataclass(frozen=True)
class HeadSpec:
    """How to build a head.

    Attributes:
        build: takes channels, classes and options.
        output_stride: of the backbone where none is asked for.
        options: what a user may set.
        backbone_args: what else of the backbone it is given: its "output_stride", its "precision",
            and any of its options that were set.
    """

    build: Callable[..., nn.Module]
    output_stride: int
    options: frozenset[str] = frozenset({"kernel_size", "dropout"})
    backbone_args: frozenset[str] = frozenset()


HEADS: dict[str, HeadSpec] = {
    "fcn": HeadSpec(partial(FCNHead, skips=0), output_stride=8),
    "fcn32s": HeadSpec(partial(FCNHead, skips=0), output_stride=32),
    "fcn16s": HeadSpec(partial(FCNHead, skips=1), output_stride=32),
    "fcn8s": HeadSpec(partial(FCNHead, skips=2), output_stride=32),
    "fcn4s": HeadSpec(partial(FCNHead, skips=3), output_stride=32),
    "deeplabv3": HeadSpec(
        DeepLabV3Head,
        output_stride=8,
        options=frozenset({"aspp", "bases", "rates", "dropout"}),
        backbone_args=frozenset({"output_stride", "precision"}),
    ),
    "unet": HeadSpec(
        UNetHead,
        output_stride=32,
        options=frozenset({"dropout"}),
        backbone_args=frozenset({"precision", "nonlinearity", "threshold"}),
    ),
}


def create_head(
    name: str,
    channels: Sequence[int],
    num_classes: int,
    *,
    output_stride: int,
    backbone_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build the head called `name`.

    Args:
        name: a key of `HEADS`.
        channels: of the backbone's stages, finest first.
        num_classes: channels of the logits.
        output_stride: input pixels to one of the backbone's last map.
        backbone_options: those of the backbone that were set, e.g. its "precision".
        **options: see the head's class.

    Raises:
        BinsegError: an unknown name or option (with the nearest one), or a value out of range.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    spec = HEADS[name]
    for option in options:
        if option not in spec.options:
            raise unknown_name(f"option of head {name}", option, spec.options)
    backbone = {**(backbone_options or {}), "output_stride": output_stride}
    known = {key: value for key, value in backbone.items() if key in spec.backbone_args}
    return spec.build(channels, num_classes, **known, **options)
